#!/bin/sh
# scripts/repro.sh JOBS [forecast|reviews]: dvc repro (of that task alone), with JOBS models in training side by side.
#
# Plain concurrent `dvc repro` block one another on the stages that they share. So: the shared stages first,
# then each model's train and evaluate as single stages (-s), JOBS at a time, the longest trainings first,
# then the rest. A model that fails does not stop the others; the
# exit code tells.
set -eu
cd "$(dirname "$0")/.."
jobs=${1:-2} task=${2:-}
case $jobs in '' | 0 | *[!0-9]*)
  echo "error: JOBS must be a whole number from 1, not '$jobs'" >&2
  exit 2 ;;
esac
case $task in
  '') shared='inputs tokens' last='' ;;
  forecast) shared=inputs last=report_forecast ;;
  reviews) shared=tokens last=report_reviews ;;
  *) echo "error: the task must be forecast, reviews or nothing for both, not '$task'" >&2 && exit 2 ;;
esac
here=$PWD # the nearest .venv above, as in ./run
while [ -n "$here" ]; do
  [ -x "$here/.venv/bin/dvc" ] && PATH=$here/.venv/bin:$PATH && break
  here=${here%/*}
done
./run check # DVC itself would blame dvc.yaml for what is missing in params.yaml
dvc repro $shared
models=$(python - "$task" <<'END'
import json, sys
from stages.lib.params import params

def duration(name):  # epochs x length of a window: near enough
    with open(f"data/inputs/{models[name]['inputs']}/meta.json") as file:
        return models[name]["epochs"] * json.load(file)["time"]

models = {name: model for name, model in params("models").items() if sys.argv[1] in ("", model["task"])}
print(*sorted(models, key=duration, reverse=True), sep="\n")
END
)

export TQDM_DISABLE=1 # bars of several models would overwrite one another; each epoch still has its line
# Not DVC's own code, 255, which would end xargs; and with -q nobody else names a killed training.
each='dvc --wait-for-lock repro -q -s train@NAME evaluate@NAME || { echo "error: NAME failed" >&2; exit 1; }'
if ! echo "$models" | xargs -P "$jobs" -I NAME sh -c "$each"; then
  echo "error: at least one model failed, see above; the others are done and kept" >&2
  exit 1
fi
dvc repro $last
