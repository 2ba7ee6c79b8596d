#!/bin/sh
# scripts/repro.sh JOBS [DVC TARGET...]: dvc repro, with JOBS models in training side by side.
#
# Plain concurrent `dvc repro` block one another on the stages that they share. So: the shared stages
# first, then each model's train and evaluate as single stages (-s), JOBS at a time, then the rest.
# The cores are divided between the jobs. A model that fails does not stop the others; the exit code tells.
set -eu
cd "$(dirname "$0")/.."
jobs=${1:-2}
[ $# -gt 0 ] && shift
case $jobs in *[!0-9]* | '' | 0) echo "error: JOBS must be a whole number from 1, not '$jobs'" >&2; exit 2 ;; esac
[ -x .venv/bin/dvc ] && PATH=$PWD/.venv/bin:$PATH

cores=$(getconf _NPROCESSORS_ONLN)
threads=$((cores / jobs > 1 ? cores / jobs : 1))
export TF_NUM_INTRAOP_THREADS=$threads TF_NUM_INTEROP_THREADS=$threads OMP_NUM_THREADS=$threads

dvc repro inputs tokens
# The longest trainings first, so that none is left alone at the end.
failed=0
./run schedule | xargs -P "$jobs" -I NAME dvc --wait-for-lock repro -s train@NAME evaluate@NAME || failed=$?
if [ "$failed" -ne 0 ]; then
  echo "error: at least one model failed, see above; the others are done and kept" >&2
  exit 1
fi
dvc repro "$@"
