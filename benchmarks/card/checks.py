"""What only a CUDA card can show of Slider LoRA inside ComfyUI. `checks.py SECTION`; every finding is a line RESULT (README.md).

DEVICE=cpu runs what goes there on a CPU, with a model of toy size.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import math
import os
import subprocess
import sys
import time
import traceback
import types
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECTION, CPU = sys.argv[1], os.environ.get("DEVICE") == "cpu"
ROOM, COMFY, PACK = (Path(os.environ[name]) for name in ("T", "COMFYUI_PATH", "PACK"))
sys.path[:0] = [str(COMFY)]
sys.argv = ["checks"]
WIDE = {"double": 2, "single": 4, "heads": 24, "context": 4096, "vec": 768}
TOY = {"double": 1, "single": 1, "heads": 1, "context": 64, "vec": 32}
SIZE = TOY if CPU else WIDE
FORMATS = ["bf16", "fp8", "float8_e4m3fn", "int8_tensorwise", "nvfp4", "mxfp8"]
PORT = 8197
SERVER_S, GRAPH_S = 110, 100


def say(*words: object) -> None:
    print("RESULT", *words, flush=True)


def tried(name: str, check: Callable[..., object], *args: Any) -> None:
    begun = time.monotonic()
    try:
        say(f"{name}:", check(*args), f"({time.monotonic() - begun:.1f} s)")
    except BaseException as fault:
        say(f"{name}: FAIL {type(fault).__name__}: {str(fault)[:300]}")
        traceback.print_exc()
    gc.collect()


class Host:
    """ComfyUI in this process, as its main.py sets it up; dynamic VRAM as an NVIDIA user has it."""

    def __init__(self, dynamic: bool = True) -> None:
        import comfy.options

        comfy.options.enable_args_parsing(False)
        from comfy.cli_args import args

        args.cpu, args.base_directory = CPU, str(ROOM / "base")
        import comfy_aimdo.control as aimdo

        if dynamic and not CPU:
            aimdo.init()
        import comfy.memory_management
        import comfy.model_management
        import comfy.model_patcher
        import torch

        on = dynamic and not CPU and aimdo.init_devices([torch.cuda.current_device()])
        if on:
            comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
            comfy.memory_management.aimdo_enabled = True
        self.device = comfy.model_management.get_torch_device()
        say(f"device {self.device}, dynamic VRAM {bool(on)}")
        package = types.ModuleType("packx")
        package.__path__ = [str(PACK)]
        sys.modules["packx"] = package

    def core(self, name: str) -> Any:
        return importlib.import_module(f"packx.slider_core.{name}")

    def load(self, form: str) -> Any:
        import comfy.sd
        import torch

        with torch.inference_mode():
            return comfy.sd.load_diffusion_model(str(flux_file(self.device, form)))

    def trainer(self, model: Any, side: int = 64, pairs: int = 2, **choices: Any) -> tuple[Any, Any]:
        import torch

        torch.manual_seed(0)
        backend = self.core("with_comfy.model_backend").ComfyBackend(model, None, None)
        with torch.inference_mode():
            backend.load()
        targets = self.core("layers.select").select(backend.module)
        spec = self.core("config.lora").AdapterSpec(rank=16, alpha=16.0)
        adapter = self.core("lora.slider_adapter").Adapter.create(backend.module, targets, spec)
        extra = {"pooled_output": torch.randn(1, SIZE["vec"])}
        cond = self.core("backend").Conditioning("", [[torch.randn(1, 8 if CPU else 256, SIZE["context"]), extra]])
        sample = self.core("encode.encoder").Sample
        samples = [sample(torch.randn(16, side, side), cond, sign, pair) for sign in (1.0, -1.0) for pair in range(pairs)]
        train = self.core("config.training").TrainSpec(**({"steps": 100, "batch": 2, "lr": 1e-3, "warmup": 0} | choices))
        return self.core("train.trainer").Trainer(adapter, samples, train), backend


def flux_state(device: Any) -> dict[str, Any]:
    """A Flux with few blocks and random weights."""
    import comfy.ldm.flux.model as flux
    import comfy.memory_management
    import comfy.ops
    import torch

    enabled, comfy.memory_management.aimdo_enabled = comfy.memory_management.aimdo_enabled, False
    sizes = {"vec_in_dim": SIZE["vec"], "context_in_dim": SIZE["context"], "hidden_size": 128 * SIZE["heads"]}
    blocks = {"num_heads": SIZE["heads"], "depth": SIZE["double"], "depth_single_blocks": SIZE["single"]}
    fixed = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "mlp_ratio": 4.0, "theta": 10000}
    flags = {"axes_dim": [16, 56, 56], "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": []}
    made = {"dtype": torch.bfloat16, "device": device, "operations": comfy.ops.disable_weight_init}
    try:
        net = flux.Flux(**fixed, **sizes, **blocks, **flags, **made)
    finally:
        comfy.memory_management.aimdo_enabled = enabled
    torch.manual_seed(0)
    state = {}
    for name, p in net.state_dict().items():
        spread = 0.5 / math.sqrt(p[0].numel()) if p.ndim > 1 else 0.02
        state[name] = torch.randn_like(p) * spread + (1 if name.endswith("scale") else 0)
    return state


def flux_file(device: Any, form: str) -> Path:
    """Its file in the layout and number format of a released one."""
    import torch
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
    from safetensors.torch import save_file

    path = ROOM / f"flux-{form}.safetensors"
    if path.exists():
        return path
    state = {}
    for name, p in flux_state(device).items():
        matrix = p.ndim == 2 and name.endswith("weight") and "_blocks" in name and "mod" not in name
        if form in QUANT_ALGOS and matrix:
            whole = QuantizedTensor.from_float(p, QUANT_ALGOS[form]["comfy_tensor_layout"], scale="recalculate")
            state |= {key: value.contiguous().cpu() for key, value in whole.state_dict(name).items()}
            mark = json.dumps({"format": form}).encode()
            state[name.removesuffix("weight") + "comfy_quant"] = torch.tensor(list(mark), dtype=torch.uint8)
        else:
            state[name] = (p.to(torch.float8_e4m3fn) if form == "fp8" and p.ndim == 2 else p).contiguous().cpu()
    save_file(state, path)
    return path


def bits(model: Any) -> str:
    import torch

    digest = hashlib.sha256()
    for _, p in sorted(model.model.diffusion_model.named_parameters()):
        stored = getattr(p, "_qdata", p).detach().cpu().contiguous().as_subclass(torch.Tensor).reshape(-1)
        some = stored[:: max(1, stored.numel() // 4096)].contiguous()
        digest.update(some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def trained(host: Host, form: str, steps: int = 4) -> dict[str, Any]:
    import torch

    model = host.load(form)
    trainer, backend = host.trainer(model, side=8 if CPU else 64)
    before = bits(model)
    with torch.inference_mode():
        trainer.run(backend, 1)
        begun = time.monotonic()
        trainer.run(backend, steps, read_every=1000)
    estimate = trainer.fallback.estimate
    return {
        "losses": [round(loss, 5) for loss in trainer.losses],
        "same": bits(model) == before,
        "s_per_step": round((time.monotonic() - begun) / (steps - 1), 3),
        "peak": backend.memory.summary(),
        "level": trainer.fallback.summary(),
        "patcher": type(model).__name__,
        "estimate_mib": estimate and [estimate.need(checkpointing, 2) >> 20 for checkpointing in (True, False)],
    }


def section_env() -> None:
    host = Host()
    import comfy.model_management
    import comfy.quant_ops
    import torch

    say(sys.version.split()[0], torch.__version__, torch.version.cuda)
    backends = comfy.quant_ops.ck.list_backends().items()
    kernels = {name: found.get("available", found) if isinstance(found, dict) else found for name, found in backends}
    say("kitchen", kernels, "free MiB", comfy.model_management.get_free_memory(host.device) >> 20)
    if not CPU:
        say(torch.cuda.get_device_name(), "allocator", torch.cuda.get_allocator_backend())


def section_copy() -> None:
    """A quantised weight copied while changes in place are forgiven."""
    host = Host()
    import torch
    from comfy.quant_ops import QuantizedTensor

    def copied() -> str:
        random = torch.randn(64, 64, device=host.device)
        weight = QuantizedTensor.from_float(random, "TensorCoreFP8E4M3Layout", scale="recalculate")
        copy = torch.empty_like(weight)
        with host.core("layers.autograd_inplace").forgiving(True):
            copy.copy_(weight)
        return "fine"

    tried("copy of a quantised weight", copied)


def section_dyn() -> None:
    """Every number format through dynamic VRAM; the same plainly loaded in a process of its own (LEGACY=1)."""
    legacy = os.environ.get("LEGACY") == "1"
    host = Host(dynamic=not legacy)
    for form in FORMATS:
        tried(f"{'legacy' if legacy else 'dynamic'} {form}", trained, host, form)
    if not legacy:
        subprocess.run([sys.executable, __file__, "dyn"], env=os.environ | {"LEGACY": "1"}, check=False)


def filled(host: Host, left_gib: float) -> list[Any]:
    import torch

    spare = torch.cuda.mem_get_info()[0] - int(left_gib * 2**30)
    return [torch.empty(2**30, dtype=torch.uint8, device=host.device) for _ in range(max(0, spare >> 30))]


def section_tight() -> None:
    """A card almost full of weights, which dynamic VRAM would give back: which level is chosen, and does it hold?"""
    host = Host()

    def short(gib: int) -> dict[str, Any]:
        import torch

        model = host.load("bf16")
        ballast = filled(host, gib)
        trainer, backend = host.trainer(model, side=128, batch=4, checkpointing=False)
        with torch.inference_mode():
            trainer.run(backend, 2)
        free = {"free_mib": (backend.memory.free() or 0) >> 20, "host_free_mib": model.get_free_memory(host.device) >> 20}
        return {"left_gib": gib, "ballast": len(ballast), "level": trainer.fallback.summary()} | free

    for gib in (12, 6, 4):
        tried("tight", short, gib)


def section_oom() -> None:
    """Memory that truly runs out in a backward: the level goes down, the run goes on."""
    host = Host(dynamic=False)

    def out() -> dict[str, Any]:
        import torch

        trainer, backend = host.trainer(host.load("bf16"), side=128, batch=4, checkpointing=False)
        host.core("train.memory_fallback").MARGIN = 0.0
        ballast = filled(host, 3)
        with torch.inference_mode():
            trainer.run(backend, 3)
        return {"ballast": len(ballast), "level": trainer.fallback.summary(), "losses": trainer.losses}

    tried("out of memory", out)


def section_speed() -> None:
    """Where the time goes: seconds per step, the card's busy time, the places that wait for it."""
    host = Host()

    def paced() -> dict[str, Any]:
        import torch
        from torch.profiler import ProfilerActivity, profile

        trainer, backend = host.trainer(host.load("bf16"), side=128, batch=2)
        with torch.inference_mode():
            trainer.run(backend, 2, read_every=1000)
            torch.cuda.synchronize()
            begun = time.monotonic()
            trainer.run(backend, 6, read_every=1000)
            torch.cuda.synchronize()
            pace = (time.monotonic() - begun) / 4
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                trainer.run(backend, 8, read_every=1000)
            torch.cuda.set_sync_debug_mode("default")
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
                trainer.run(backend, 10, read_every=1000)
        averages = seen.key_averages()
        print(averages.table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=60))
        places: dict[str, int] = {}
        for wait in waits:
            place = f"{Path(wait.filename).name}:{wait.lineno}"
            places[place] = places.get(place, 0) + 1
        busy = sum(event.self_device_time_total for event in averages) / 2e6
        most = sorted(places.items(), key=lambda item: -item[1])[:12]
        return {"s_per_step": round(pace, 3), "busy_s": busy, "waits_per_step": len(waits) / 2, "where": most}

    tried("speed", paced)


def ask(path: str, body: object = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=30))


def finished(graph: dict[str, Any]) -> list[Any]:
    number, end = ask("/prompt", {"prompt": graph})["prompt_id"], time.monotonic() + GRAPH_S
    while not (history := ask(f"/history/{number}")) and time.monotonic() < end:
        time.sleep(0.5)
    states = [(state["phase"], state["step"], state["trouble"]) for state in ask("/slider_lora/progress")["nodes"]]
    return [history[number]["status"]["status_str"], states]


def section_server() -> None:
    """ComfyUI as a user starts it; the demo graph, then again with more steps: the same name must go on."""
    sys.path[:0] = [str(PACK / "tests")]
    from graphs import demo_graph, spelled_out

    base = ROOM / "base2"
    for name in ("custom_nodes", "models/loras", "models/checkpoints", "input", "output", "user", "temp"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / "slider-lora"
    if not link.exists():
        link.symlink_to(PACK)
    options = ["--base-directory", str(base), "--front-end-root", str(ROOM / "front"), "--disable-api-nodes"]
    command = [sys.executable, str(COMFY / "main.py"), "--listen", "127.0.0.1", "--port", str(PORT), *options]
    with (ROOM / "server.log").open("w") as log:
        run = subprocess.Popen([*command, *(["--cpu"] if CPU else [])], stdout=log, stderr=log, cwd=COMFY)
        try:
            for _ in range(SERVER_S):
                try:
                    ask("/system_stats")
                    break
                except OSError:
                    time.sleep(1)
            for steps in (6, 12):
                graph = demo_graph()
                graph["6"]["inputs"] |= {"steps": steps, "calibrate": False}
                graph["20"]["inputs"] |= {"steps": 2, "every": 3}
                graph["10"]["inputs"]["steps"] = 2
                tried(f"server, {steps} steps", finished, spelled_out(graph))
        finally:
            run.terminate()
            run.wait(20)
    print((ROOM / "server.log").read_text()[-4000:])


globals()[f"section_{SECTION}"]()
