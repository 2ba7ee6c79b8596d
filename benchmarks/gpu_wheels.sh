#!/usr/bin/env bash
# The packages that benchmarks/gpu.py needs besides JAX and NumPy, for an x86-64 Linux machine without a network:
#   benchmarks/gpu_wheels.sh collect wheels        elsewhere: download wheels for Python 3.11 to 3.13, some 15 MB
#   benchmarks/gpu_wheels.sh install wheels site   on that machine: install those of its python3 into `site`
# constraints.txt has the versions. Keras needs h5py only for .h5 files.
set -euo pipefail
PACKAGES="keras absl-py namex optree packaging rich markdown-it-py mdurl Pygments ruamel.yaml tqdm
  pydantic pydantic_core annotated-types typing_extensions typing-inspection"
PYTHON=${PYTHON:-python3}

case "${1:-} $#" in
  "collect 2")
    for version in 3.11 3.12 3.13; do
      # shellcheck disable=SC2086
      "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --implementation cp --python-version "$version" \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --constraint "$(dirname "$0")/../constraints.txt" --dest "$2" $PACKAGES
    done
    du -sh "$2"
    ;;
  "install 3")
    # A folder on PYTHONPATH, because a new virtual environment would not see the JAX of an existing one.
    # shellcheck disable=SC2086
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-cache-dir --upgrade \
      --find-links "$2" --target "$3" $PACKAGES
    ;;
  *)
    echo "error: expected \`collect FOLDER\` or \`install FOLDER TARGET\`, found \`$*\`" >&2
    exit 2
    ;;
esac
