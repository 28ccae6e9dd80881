#!/bin/bash
# Pack ComfyUI, this pack and what a bare CUDA machine lacks, to be carried there.
#   COMFYUI_PATH=<ComfyUI 0.33 checkout> bash benchmarks/card/pack.sh OUT
# OUT: a folder inside the checkout that travels, ignored there (.git/info/exclude); copy it over. Needs bash, python3 with pip,
# xz, git. Target: x86-64 Linux, Python 3.12, torch with CUDA 13 already there. KITCHEN=0 leaves comfy-kitchen's CUDA kernels out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
comfy=${COMFYUI_PATH:?COMFYUI_PATH: a ComfyUI checkout}; project=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:?OUT}" && cd "$1" && pwd); work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$out/whl"
want() { sed -n "s/^$1[=<>~]*=*\([0-9][0-9.]*\).*/\1/p" "$comfy/requirements.txt" | head -1; }
plat=(); for n in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do plat+=(--platform "${n}_x86_64"); done
get() { python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${plat[@]}" -d "$@" 2>/dev/null; }
# 1  packages that the machine has not ; av, kornia, spandrel and the front end stay away (stub, not needed)
get "$out/whl" "comfy-aimdo==$(want comfy-aimdo)" torchsde trampoline alembic SQLAlchemy Mako simpleeval blake3 pydantic pydantic-settings \
    annotated-types typing-inspection typing-extensions python-dotenv lycoris-lora toml
need=$(unzip -p "$out"/whl/pydantic-2*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([0-9.]*\).*/\1/p')
get "$out/whl" "pydantic-core==$need"
# 2  comfy-kitchen without its kernels for AMD, pressed harder than a wheel
if [ "${KITCHEN:-1}" = 1 ] && [ ! -s "$out/kitchen.tar.xz" ]; then
    get "$work" "comfy-kitchen==$(want comfy-kitchen)"
    mkdir "$work/k"; python3 -m zipfile -e "$work"/comfy_kitchen*.whl "$work/k"; rm -rf "$work/k/comfy_kitchen/backends/hip"
    tar -C "$work/k" -cf - . | xz -T0 "-${XZ:-6}" > "$out/kitchen.tar.xz"
elif [ "${KITCHEN:-1}" = 0 ]; then
    get "$work" "comfy-kitchen==$(want comfy-kitchen)"
    mkdir "$work/k"; python3 -m zipfile -e "$work"/comfy_kitchen*.whl "$work/k"; rm -rf "$work/k/comfy_kitchen/backends/"{hip,cuda/*.so}
    tar -C "$work/k" -cf - . | xz "-${XZ:-6}" > "$out/kitchen.tar.xz"
fi
# 3  ComfyUI without its documents, tests and models; its requirements as far as they are there
tree=(alembic.ini alembic_db api_server app comfy comfy_api comfy_config comfy_execution comfy_extras comfyui_version.py cuda_malloc.py
      custom_nodes execution.py folder_paths.py hook_breaker_ac10a0.py latent_preview.py main.py middleware node_helpers.py nodes.py
      protocol.py pyproject.toml requirements.txt server.py utils)
mkdir -p "$work/c/ComfyUI"; for f in "${tree[@]}"; do [ -e "$comfy/$f" ] && cp -r "$comfy/$f" "$work/c/ComfyUI/"; done
find "$work/c" -name __pycache__ -prune -exec rm -rf {} +; mkdir -p "$work/c/ComfyUI/models" "$work/c/ComfyUI/input"
sed -i '/^comfyui-/d; /^av[>=]/d' "$work/c/ComfyUI/requirements.txt"
mkdir -p "$work/c/stub/av" "$work/c/front"; cp "$here/av_stub.py" "$work/c/stub/av/__init__.py"; echo '<html></html>' > "$work/c/front/index.html"
tar -C "$work/c" -cf - . | xz -T0 "-${XZ:-6}" > "$out/comfyui.tar.xz"
# 4  the pack, as committed
git -C "$project" archive --format=tar --prefix=slider-lora/ HEAD | xz "-${XZ:-6}" > "$out/pack.tar.xz"
cp "$here/run.sh" "$out/"
du -sb "$out"/* | sort -n; total=$(du -sb "$out" | cut -f1); echo "total $((total / 1048576)) MiB of 64 (the rest of the checkout counts as well)"
