#!/usr/bin/env bash
# Everything that needs one GPU, in one unattended run.
#
#   OUT=results bash examples/lab/gpu.sh check    # costs of a step, and the tests marked `gpu`
#   OUT=results bash examples/lab/gpu.sh study    # the study by the plan `gpu`
#   OUT=results bash examples/lab/gpu.sh          # both
#
# ROOT: folder with `train` and `val`. WHEELS: folder of packages that the machine lacks.
# CHECK_SECONDS and MINUTES: what the parts may take. PLAN: of the study. ARGUMENTS: more of its.
# ARMS and LAYOUT (`--channels-last`): of the benchmark.
# Each part has a limit of its own, and a part that fails does not keep the next one from running.
set -uo pipefail
cd "$(dirname "$0")/../.."
part=${1:-all}
OUT=${OUT:-runs/gpu}
ROOT=${ROOT:-.carry/ytf68}
WHEELS=${WHEELS:-.whl}
WORK=${WORK:-$(mktemp -d)}
CHECK_SECONDS=${CHECK_SECONDS:-100}
MINUTES=${MINUTES:-9}
PLAN=${PLAN:-gpu}
DEVICE=${DEVICE:-cuda}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH="$PWD:$PWD/examples${PYTHONPATH:+:$PYTHONPATH}"

if ! "$PYTHON" -c 'import kornia' 2>/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$WORK/site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH="$PYTHONPATH:$WORK/site"
fi
"$PYTHON" -c 'import kornia, torch; print("torch", torch.__version__, "kornia", kornia.__version__)'

benchmark() { # the goals for the cost of a step: HG*1, 256 px, batch 32
  # Of the captured ones only two: each keeps its memory.
  local arms=(${ARMS:-plain augment shared fused pgd-1 plain-captured augment-captured})
  timeout "$CHECK_SECONDS" "$PYTHON" examples/benchmark.py step --device "$DEVICE" \
    --precision bfloat16 --image-size "${SIDE:-256}" --batch-size "${BATCH:-32}" --steps 5 \
    --repeats 5 ${LAYOUT:-} --arms "${arms[@]}" --markdown --output "$OUT/benchmark" 2>&1 | tee "$OUT/benchmark.log"
}

tests() { # those that need a device, and only the files that have some
  # shellcheck disable=SC2046 # a list of files
  timeout "$CHECK_SECONDS" "$PYTHON" -m pytest -m gpu -q -p no:cacheprovider \
    --continue-on-collection-errors $(grep -rl 'mark.gpu' tests) 2>&1 | tee "$OUT/tests.log"
}

study() {
  # shellcheck disable=SC2086 # a list of words
  timeout "$("$PYTHON" -c "print(60 * $MINUTES + 20)")" "$PYTHON" examples/study.py \
    --plan "$PLAN" --minutes "$MINUTES" --root "$ROOT" --output "$WORK/study" \
    --report "$OUT/study" ${ARGUMENTS:-} 2>&1 | tee "$OUT/study.log"
  cat "$OUT/study/study.md"
}

case $part in
  check) benchmark; tests ;;
  study) study ;;
  all) benchmark; tests; study ;;
  *) echo "the part must be check, study or all, but got $part" >&2; exit 2 ;;
esac
