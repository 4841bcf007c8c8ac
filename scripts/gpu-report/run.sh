#!/usr/bin/env bash
# Checks and measures Switchyard on this machine's GPU; written by npm run pack:gpu.
#
#   run.sh [kernels] [models] [peers]    all three by default; a call each where a call may take ten minutes only
#
#   kernels  checks of every kernel under compute-sanitizer, their times, and torch's and transformers' beside them
#   models   golden models on the card, and a session with a checkpoint of random weights
#   peers    transformers beside Switchyard on that checkpoint
#
# Every call prints the goals as far as they are measured: met, missed or not measured. Needs Node, xz, the driver, CUDA 13, and Python with
# torch, safetensors and, for peers, transformers. Settings, from the environment:
#
#   PLACE   folder to unpack to and keep the results in (/tmp/switchyard-gpu)
#   MODEL   checkpoint (made in /dev/shm, with LAYERS=12 layers of Qwen3-30B-A3B, 17 GB)
#   NODE, PYTHON  the programs (node, python3)
#   REPORT  options for gpu-report.mjs besides (--milliseconds 40 --rounds 3 --starts 1 --minutes 8)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
place=${PLACE:-/tmp/switchyard-gpu} node=${NODE:-node} python=${PYTHON:-python3} layers=${LAYERS:-12}
model=${MODEL:-/dev/shm/switchyard-qwen3-$layers}

fail() { echo "run.sh: $*" >&2; exit 2; }
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

steps='' checkpoint=''
for stage in "${@:-kernels models peers}"; do
  for name in $stage; do
    case $name in
    kernels) steps+=,sanitizer,kernels,torch ;;
    models) steps+=,goldens,session checkpoint=1 ;;
    peers) steps+=,transformers checkpoint=1 ;;
    -h | --help) usage; exit 0 ;;
    *) fail "there is no stage $name; known are kernels, models and peers" ;;
    esac
  done
done
command -v "$node" > /dev/null || fail "there is no $node; name Node with NODE"
command -v "$python" > /dev/null || fail "there is no $python; name a Python that has torch with PYTHON"
command -v xz > /dev/null || fail 'there is no xz; install it'

# Another folder's files must not stay among this one's.
stamp=$(cat "$here"/*.txz | cksum)
if [ "$(cat "$place/stamp" 2> /dev/null)" != "$stamp" ]; then
  rm -rf "$place/tree" "$place/engine" "$place/stamp"
  mkdir -p "$place/tree" "$place/engine"
  xz -dc "$here/engine.txz" | tar x -C "$place/engine" &
  xz -dc "$here/tree.txz" | tar x -C "$place/tree"
  wait $!
  echo "$stamp" > "$place/stamp"
fi

# CUDA's libraries may come with Python's packages.
wheels=$("$python" -c 'import glob, nvidia; print(":".join(f for p in nvidia.__path__ for f in glob.glob(p + "/*/lib")))' 2> /dev/null) || wheels=''
export LD_LIBRARY_PATH="$place/engine:$wheels:/usr/local/cuda/lib64:/usr/local/nvidia/lib64:${LD_LIBRARY_PATH:-}"
export SWITCHYARD_ONNXRUNTIME=$place/engine/libonnxruntime.so.1 SWITCHYARD_CACHE=$place/cache
# What no card here needs is zeroed in the engine's library; only what is used may be read.
export CUDA_MODULE_LOADING=LAZY NO_COLOR=1

cd "$place/tree"
if [ -n "$checkpoint" ] && [ ! -e "$model/config.json" ]; then
  "$python" -c 'import safetensors, torch; torch.cuda.init()' ||
    fail "a checkpoint is made by torch on the GPU; see above what keeps it, or name a checkpoint with MODEL"
  "$python" scripts/compare/make_checkpoint.py "$model" --preset qwen3-30b-a3b --layers "$layers" --device cuda
fi
options=(--only "${steps#,}" --results "$place/results.json" --python "$python" --out "$place/report.md")
[ -z "$checkpoint" ] || options+=(--model "$model")
read -ra more <<< "${REPORT:---milliseconds 40 --rounds 3 --starts 1 --minutes 8}"
exec "$node" scripts/gpu-report.mjs "${options[@]}" "${more[@]}"
