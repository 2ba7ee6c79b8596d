#!/bin/sh
# scripts/repro.sh JOBS [forecast|station|reviews]: dvc repro (of that task alone), training JOBS models at a time.
#
# Concurrent `dvc repro` runs block one another on the stages they share. So the shared stages run first, then train
# and evaluate of each model as single stages (-s), JOBS at a time, the longest trainings first, then the rest.
# A model that fails does not stop the others, but makes the exit code 1.
set -eu
trap 'echo "interrupted; run it again to resume" >&2; exit 130' INT
cd "$(dirname "$0")/.."
jobs=${1:-2} task=${2:-}
case $jobs in '' | 0 | *[!0-9]*)
  echo "error: JOBS: expected a whole number from 1, found '$jobs'" >&2
  exit 2 ;;
esac
case $task in
  '') shared='inputs clock tokens' last='' ;;
  forecast) shared=inputs last=report_forecast ;;
  station) shared=clock last=report_station ;;
  reviews) shared=tokens last=report_reviews ;;
  *) echo "error: TASK: expected forecast, station, reviews, or nothing for all, found '$task'" >&2 && exit 2 ;;
esac
here=$PWD # find the nearest .venv upwards, as ./run does
while [ -n "$here" ]; do
  [ -x "$here/.venv/bin/dvc" ] && PATH=$here/.venv/bin:$PATH && break
  here=${here%/*}
done
./run check # DVC itself would blame dvc.yaml for what is missing in params.yaml
dvc repro $shared
models=$(python - "$task" <<'END'
import json, sys
from stages.lib.params import params

def duration(name):  # epochs times window length is near enough
    with open(f"data/inputs/{models[name]['inputs']}/meta.json") as file:
        return models[name]["epochs"] * json.load(file)["time"]

models = {name: model for name, model in params("models").items() if sys.argv[1] in ("", model["task"])}
print(*sorted(models, key=duration, reverse=True), sep="\n")
END
)

export TQDM_DISABLE=1 # the bars of several models would overwrite one another; each epoch still prints a line
# Exit 1, as DVC's own 255 would end xargs. With -q, nothing else would name a training that was killed.
each='dvc --wait-for-lock repro -q -s train@NAME evaluate@NAME || { echo "error: NAME failed" >&2; exit 1; }'
if ! echo "$models" | xargs -P "$jobs" -I NAME sh -c "$each"; then
  echo "error: at least one model failed, see above; the others are done and their results kept" >&2
  exit 1
fi
dvc repro $last
