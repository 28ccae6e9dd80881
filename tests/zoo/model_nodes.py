"""Nodes that put something on a MODEL, and what the pack makes of it: in training, in a sweep, and on Apply.

The oracle is ComfyUI's own sampler on the same MODEL: its last model call, at its own input and noise level, against the model
call of training; and a sampling for each strength on Apply against a sweep.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .animals import tiny
from .measure import Core, empty_latent, shaken
from .model import build_tiny, conditioning

SAME = 2e-3  # of the largest effect in question, in float32
STEPS, CFG = 4, 3.0


@dataclass(frozen=True)
class Node:
    """`where`: module:class of the node. `tried_on`: a tiny model. `put`: in place of the node's own call."""

    title: str
    where: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    tried_on: str = "SD15"
    put: Callable[[Any], Any] | None = None

    def on(self, model: Any) -> Any:
        if self.put is not None:
            return self.put(model)
        module, _, name = self.where.partition(":")
        node = getattr(importlib.import_module(module), name)
        if hasattr(node, "execute"):
            given = node.execute(model=model, **self.inputs)
            return getattr(given, "args", given)[0]
        return getattr(node(), node.FUNCTION)(model, **self.inputs)[0]


def _lora(model: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    state = {}
    for name, layer in model.model.diffusion_model.named_modules():
        if isinstance(layer, torch.nn.Linear) and ("attn" in name or "attention" in name):
            out, inner = layer.weight.shape
            state[f"diffusion_model.{name}.lora_up.weight"] = 0.3 * torch.randn(out, 2, generator=generator)
            state[f"diffusion_model.{name}.lora_down.weight"] = 0.3 * torch.randn(2, inner, generator=generator)
    return state


def _with_lora(bypass: bool) -> Callable[[Any], Any]:
    def put(model: Any) -> Any:
        import comfy.sd

        load = comfy.sd.load_bypass_lora_for_models if bypass else comfy.sd.load_lora_for_models
        return load(model, None, _lora(model), 0.7, 0.0)[0]

    return put


def _for_one(model: Any) -> Any:
    """As attention patches with a conditioning of their own do it (KJNodes' WanVideoNAG): made for a batch of one."""
    patched = model.clone()

    def patch(out: torch.Tensor, extra: Any) -> torch.Tensor:
        chunks = len(extra["cond_or_uncond"])
        return out + 0.3 * out.reshape(chunks, *out.shape[1:])  # a shape error for two samples

    patched.set_model_attn1_output_patch(patch)
    return patched


def _around(model: Any) -> Any:
    """As KJNodes' inpaint node does it: the model's call is wrapped."""
    patched = model.clone()
    patched.set_model_unet_function_wrapper(lambda apply, call: 0.8 * apply(call["input"], call["timestep"], **call["c"]))
    return patched


def _block(model: Any) -> Any:
    """As IPAdapter and its like do it: a cross-attention is replaced."""
    patched = model.clone()
    patched.set_model_attn2_replace(lambda q, *_others: 0.5 * q, "output", 3)
    return patched


def _diffusion_wrapper(model: Any) -> Any:
    """As TeaCache and its like do it: the diffusion model's call is wrapped, here without a state."""
    patched = model.clone()
    patched.add_wrapper_with_key("diffusion_model", "tea", lambda run, *args, **kwargs: 0.9 * run(*args, **kwargs))
    return patched


def _attention(model: Any) -> Any:
    """As attention choosers do it (KJNodes' Patch Sage Attention): another attention function."""
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda run, *args, **kwargs: 0.9 * run(*args, **kwargs)
    return patched


ADVANCED = "comfy_extras.nodes_model_advanced:"
PERCENT = {"start_percent": 0.0, "end_percent": 1.0}
MULTIPLY = {"q": 1.2, "k": 1.0, "v": 1.0, "out": 1.1}
WINDOWS = {
    "context_length": 5, "context_overlap": 1, "context_schedule": "standard_static", "context_stride": 1, "closed_loop": False,
    "fuse_method": "pyramid", "freenoise": False,
}  # fmt: skip
NODES = (
    Node("Load LoRA", put=_with_lora(False)),
    Node("Load LoRA (bypass)", put=_with_lora(True)),
    Node("FreeU", "comfy_extras.nodes_freelunch:FreeU", {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}),
    Node("FreeU V2", "comfy_extras.nodes_freelunch:FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    Node("Tome Patch Model", "comfy_extras.nodes_tomesd:TomePatchModel", {"ratio": 0.5}),
    Node(
        "HyperTile",
        "comfy_extras.nodes_hypertile:HyperTile",
        {"tile_size": 64, "swap_size": 1, "max_depth": 0, "scale_depth": False},
    ),
    Node(
        "Kohya Deep Shrink",
        "comfy_extras.nodes_model_downscale:PatchModelAddDownscale",
        {
            "block_number": 1,
            "downscale_factor": 2.0,
            "start_percent": 0.0,
            "end_percent": 0.35,
            "downscale_after_skip": True,
            "downscale_method": "bilinear",
            "upscale_method": "bilinear",
        },
    ),
    Node("ModelSamplingDiscrete, v", ADVANCED + "ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": False}),
    Node("ModelSamplingDiscrete, v, zsnr", ADVANCED + "ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": True}),
    Node("ModelSamplingDiscrete, lcm", ADVANCED + "ModelSamplingDiscrete", {"sampling": "lcm", "zsnr": False}),
    Node(
        "ModelSamplingContinuousEDM",
        ADVANCED + "ModelSamplingContinuousEDM",
        {"sampling": "eps", "sigma_max": 80.0, "sigma_min": 0.01},
    ),
    Node(
        "ModelSamplingContinuousV",
        ADVANCED + "ModelSamplingContinuousV",
        {"sampling": "v_prediction", "sigma_max": 50.0, "sigma_min": 0.03},
    ),
    Node("ModelSamplingSD3", ADVANCED + "ModelSamplingSD3", {"shift": 5.0}, "SD3 3.5 medium"),
    Node("ModelSamplingAuraFlow", ADVANCED + "ModelSamplingAuraFlow", {"shift": 4.0}, "ZImage"),
    Node(
        "ModelSamplingFlux",
        ADVANCED + "ModelSamplingFlux",
        {"max_shift": 1.3, "base_shift": 0.4, "width": 1024, "height": 1024},
        "Flux",
    ),
    Node("ModelSamplingLTXV", "comfy_extras.nodes_lt:ModelSamplingLTXV", {"max_shift": 2.05, "base_shift": 0.9}, "LTXV"),
    Node("ModelComputeDtype", ADVANCED + "ModelComputeDtype", {"dtype": "fp32"}),
    Node("RescaleCFG", ADVANCED + "RescaleCFG", {"multiplier": 0.7}),
    Node("Perturbed-Attention Guidance", "comfy_extras.nodes_pag:PerturbedAttentionGuidance", {"scale": 3.0}),
    Node("Self-Attention Guidance", "comfy_extras.nodes_sag:SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0}),
    Node(
        "SkipLayerGuidanceDiT",
        "comfy_extras.nodes_slg:SkipLayerGuidanceDiT",
        {"scale": 3.0, "double_layers": "0", "single_layers": "0"} | PERCENT,
        "Flux",
    ),
    Node(
        "SkipLayerGuidanceDiTSimple",
        "comfy_extras.nodes_slg:SkipLayerGuidanceDiTSimple",
        {"double_layers": "0", "single_layers": "0"} | PERCENT,
        "Flux",
    ),
    Node(
        "SkipLayerGuidanceSD3",
        "comfy_extras.nodes_sd3:SkipLayerGuidanceSD3",
        {"layers": "0", "scale": 3.0} | PERCENT,
        "SD3 3.5 medium",
    ),
    Node("CFGZeroStar", "comfy_extras.nodes_cfg:CFGZeroStar"),
    Node("CFGNorm", "comfy_extras.nodes_cfg:CFGNorm", {"strength": 1.0}),
    Node("Adaptive Projected Guidance", "comfy_extras.nodes_apg:APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.3}),
    Node("Mahiro", "comfy_extras.nodes_mahiro:Mahiro"),
    Node("Epsilon Scaling", "comfy_extras.nodes_eps:EpsilonScaling", {"scaling_factor": 1.01}),
    Node("Temporal Score Rescaling", "comfy_extras.nodes_eps:TemporalScoreRescaling", {"tsr_k": 0.9, "tsr_sigma": 1.0}),
    Node("FreSca", "comfy_extras.nodes_fresca:FreSca", {"scale_low": 1.0, "scale_high": 1.25, "freq_cutoff": 2}),
    Node("Tangential Damping CFG", "comfy_extras.nodes_tcfg:TCFG"),
    Node("Renorm CFG", "comfy_extras.nodes_lumina2:RenormCFG", {"cfg_trunc": 100.0, "renorm_cfg": 1.0}, "Lumina2"),
    Node("VideoLinearCFGGuidance", "comfy_extras.nodes_video_model:VideoLinearCFGGuidance", {"min_cfg": 1.0}),
    Node("VideoTriangleCFGGuidance", "comfy_extras.nodes_video_model:VideoTriangleCFGGuidance", {"min_cfg": 1.0}),
    Node("Differential Diffusion", "comfy_extras.nodes_differential_diffusion:DifferentialDiffusion", {"strength": 1.0}),
    Node(
        "EasyCache",
        "comfy_extras.nodes_easycache:EasyCacheNode",
        {"reuse_threshold": 5.0, "start_percent": 0.1, "end_percent": 0.95, "verbose": False},
    ),
    Node(
        "LazyCache",
        "comfy_extras.nodes_easycache:LazyCacheNode",
        {"reuse_threshold": 5.0, "start_percent": 0.1, "end_percent": 0.95, "verbose": False},
    ),
    Node(
        "Normalized Attention Guidance", "comfy_extras.nodes_nag:NAGuidance", {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}
    ),
    Node("UNetSelfAttentionMultiply", "comfy_extras.nodes_attention_multiply:UNetSelfAttentionMultiply", MULTIPLY),
    Node("UNetCrossAttentionMultiply", "comfy_extras.nodes_attention_multiply:UNetCrossAttentionMultiply", MULTIPLY),
    Node(
        "Scale ROPE",
        "comfy_extras.nodes_rope:ScaleROPE",
        {"scale_x": 1.5, "shift_x": 0.0, "scale_y": 1.2, "shift_y": 0.0, "scale_t": 1.0, "shift_t": 0.0},
        "ZImage",
    ),
    Node("Context Windows (Wan)", "comfy_extras.nodes_context_windows:WanContextWindowsManualNode", WINDOWS, "WAN21_T2V"),
    Node("Flux KV Cache", "comfy_extras.nodes_flux:FluxKVCache", {}, "Flux"),
    Node("attention chooser (as KJNodes')", put=_attention),
    Node("patched block (as IPAdapter's)", put=_block),
    Node("wrapped model call (as KJNodes' inpaint)", put=_around),
    Node("wrapped diffusion model (as TeaCache's)", put=_diffusion_wrapper),
    Node("patch for a batch of one (as WanVideoNAG)", put=_for_one),
)


@dataclass(frozen=True)
class Outcome:
    """What becomes of a node: `training`, `sweep` (and so every preview) and `apply` in a few words; `silent` when one of them
    differs and nothing says so."""

    training: str
    sweep: str
    apply: str
    silent: bool


def _sampled(model: Any, entry: Any, seen: list[Any] | None = None) -> torch.Tensor:
    """ComfyUI's own sampling of one image; `seen` gets (x, denoised) of each step."""
    import comfy.sample

    latent = empty_latent(entry)
    noise = comfy.sample.prepare_noise(latent, 7)
    positive, negative = conditioning(entry, 0), conditioning(entry, 1)

    def keep(_step: int, denoised: torch.Tensor, x: torch.Tensor, _total: int) -> None:
        if seen is not None:
            seen.append((x.clone(), denoised.clone()))

    return comfy.sample.sample(
        model, noise, STEPS, CFG, "euler", "simple", positive, negative, latent, seed=7, callback=keep, disable_pbar=True
    )


class _Calls:
    """The model calls of a sampling: input, noise level and answer of the row of the positive prompt."""

    def __init__(self, users: Any = None) -> None:
        self.users = users  # a node's own wrapper of the model's call
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, apply: Any, call: dict[str, Any]) -> torch.Tensor:
        x, t, chunks = call["input"], call["timestep"], call["cond_or_uncond"]
        before = x.clone(), t.clone()
        out = self.users(apply, call) if self.users else apply(x, t, **call["c"])
        if 0 in chunks and len(x) == len(chunks):
            row = slice(chunks.index(0), chunks.index(0) + 1)
            self.seen.append((before[0][row], before[1][row], out[row].clone()))
        return out


def _training_call(core: Core, model: Any, entry: Any, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, str]:
    """The denoised latent by training's own model call, for two samples at once as in a step; what training says beside it."""
    backend = core("with_comfy.model_backend").ComfyBackend(model)
    cond = core("backend").Conditioning("a prompt", conditioning(entry, 0))
    paths = [target.path for target in core("layers.select").select(backend.module)]
    with backend.borrowed(), torch.no_grad():
        backend.prepare(paths, x[0].clone(), cond)
        twice = torch.cat([x, x]).clone()
        sigmas = torch.cat([sigma, sigma]).clone()
        raw = backend.predict(twice, sigmas, [cond, cond])
        a, b = backend._affine(twice, sigmas)
        return (a + b * raw)[:1].clone(), backend.notes()


def _share(one: torch.Tensor, other: torch.Tensor, size: torch.Tensor | float) -> float:
    return float((one - other).norm() / (torch.as_tensor(size).norm() + 1e-12))


def _training(core: Core, node: Node, plain: Any, model: Any) -> tuple[str, bool]:
    import comfy.model_management

    entry = tiny(node.tried_on)
    calls = _Calls(model.model_options.get("model_function_wrapper"))
    watched = model.clone()
    watched.set_model_unet_function_wrapper(calls)
    _sampled(watched, entry)
    x, sigma, answer = calls.seen[min(1, len(calls.seen) - 1)]
    try:
        ours, named = _training_call(core, model, entry, x, sigma)
        again, _ = _training_call(core, model, entry, x, sigma)
    except core("config.checks").SliderError as fault:
        return f"refused ({fault.code})", False
    comfy.model_management.load_models_gpu([plain])
    without, _ = _training_call(core, plain, entry, x, sigma)
    size = (answer - without).norm() + 1e-3 * answer.norm()
    if _share(ours, again, size) > SAME:
        return "acts, at random as in the sampler", False
    if _share(ours, answer, size) < 10 * SAME:
        acts = float((answer - without).norm() / answer.norm()) > 1e-5
        return ("as in the sampler" if acts else "no part in a model call") + (", named" if named else ""), False
    if named and _share(ours, without, size) < 10 * SAME:
        return "left out, named", False
    return f"differs by {_share(ours, answer, size):.0%}", not named


def measure_node(core: Core, node: Node) -> Outcome:
    """Try one node on its tiny model."""
    entry = tiny(node.tried_on)
    with torch.inference_mode():
        plain = build_tiny(entry)
        model = node.on(plain)
        training, silent = _training(core, node, plain, model)
        module = plain.model.diffusion_model
        targets = core("layers.select").select(module)
        slider = core("lora.slider_file").Slider(shaken(core, module, targets, torch.float32).weights())
        strengths = (-1.0, 1.0)
        applied = {}
        for mode in ("merge", "live"):
            models = [core("with_comfy.slider_apply").apply(slider, s, model, mode=mode)[0] for s in strengths]
            applied[mode] = torch.cat([_sampled(one, entry) for one in models])
        effect = applied["merge"][1] - applied["merge"][0]
        backend = core("with_comfy.model_backend").ComfyBackend(model)
        latent = {"samples": empty_latent(entry)}
        prompts = conditioning(entry, 0), conditioning(entry, 1)
        sampling = core("use.sampling").Sampling(
            *prompts, latent, seed=7, steps=STEPS, cfg=CFG, sampler="euler", scheduler="simple"
        )
        strip = core("with_comfy.sampling").sample_latents(backend, backend.adapter(slider), sampling, strengths)
    live = _share(applied["live"], applied["merge"], effect)
    swept = _share(strip.latents, applied["live"], effect)
    how = "one call" if len(strip.calls) == 1 else "a call for each strength"
    return Outcome(
        training,
        f"as KSampler ({how})" if swept < SAME else f"differs by {swept:.0%}",
        "live as merged" if live < 10 * SAME else f"live differs from merged by {live:.0%}",
        silent or swept >= SAME or live >= 10 * SAME,
    )
