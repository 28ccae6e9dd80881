#!/bin/bash
# On the CUDA machine, from the folder that pack.sh made: bash run.sh [section ...]      (all sections: about 8 minutes on an H200)
# Sections: env copy dyn tight oom speed ring server. Results: $OUT/*.log, and one line each at the end. On a CPU, to try the packing:
#   PY=<python with ComfyUI's packages> SITE=0 DEVICE=cpu bash run.sh env copy dyn ring server
set -u
here=$(cd "$(dirname "$0")" && pwd); PY=${PY:-python3}; T=${T:-$(dirname "$(mktemp -u)")/slider-gpu}; OUT=${OUT:-$T/out}; DEVICE=${DEVICE:-cuda}
mkdir -p "$T" "$OUT"; unpack() { "$PY" -c "import sys,tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])" "$1" "$2"; }
if [ ! -e "$T/.done" ]; then
    unpack "$here/comfyui.tar.xz" "$T" && unpack "$here/pack.tar.xz" "$T" || exit 1
    if [ "${SITE:-1}" = 1 ]; then
        "$PY" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$T/site" "$here"/whl/*.whl || exit 1
        unpack "$here/kitchen.tar.xz" "$T/site" || exit 1
    fi
    touch "$T/.done"
fi
export PYTHONPATH="$T/stub:$T/site" COMFYUI_PATH="$T/ComfyUI" PACK="$T/slider-lora" T DEVICE PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
[ "$DEVICE" = cpu ] && export SLIDER_GPU_RING_DEVICE=cpu CUDA_VISIBLE_DEVICES=
for part in ${@:-env copy dyn tight oom speed ring server}; do
    case $part in ring) limit=240 ;; server) limit=150 ;; dyn) limit=200 ;; *) limit=90 ;; esac
    begun=$SECONDS
    if [ "$part" = ring ]; then
        (cd "$PACK" && timeout $limit "$PY" -m pytest -q -x --maxfail=20 -p no:cacheprovider tests/gpu) > "$OUT/$part.log" 2>&1
    else
        timeout $limit "$PY" "$PACK/benchmarks/card/checks.py" "$part" > "$OUT/$part.log" 2>&1
    fi
    echo "== $part rc=$? $((SECONDS - begun)) s"; grep -E "^(RESULT|FAILED|ERROR)|passed|failed" "$OUT/$part.log" | tail -40
done
