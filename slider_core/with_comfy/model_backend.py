"""The host: the diffusion model that ComfyUI has loaded, as a `Backend`. It is borrowed, never copied (autograd_through.py).

`BaseModel.apply_model` returns the denoised latent x0, an affine function of the raw output o: x0 = a + b o, where a and b
come from the model's own `calculate_denoised`. So prediction and target are taken in the model's prediction space
(eps, v, flow, x0), whichever it is:  o = (x0 - a) / b.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import nn

from ..backend import Conditioning, module_fingerprint
from ..config.checks import SliderError
from ..layers import reach
from ..layers.caches import forget
from ..layers.sample_rows import SAMPLES, samples_apart
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..lora.strength import uncompiled
from . import host_patches
from .assumptions import Feature, need_feature
from .autograd_frozen import frozen_layers
from .autograd_through import OVERRIDE, attention_override, autograd_through
from .control_hints import Hints, Running, control_in, models_of
from .control_rows import control_of_rows, joinable, joined
from .cpu_schedule import on_cpu
from .edit_reference import need_taken, with_reference
from .family import preferences_of
from .fingerprint import base_fingerprint, carried_fingerprint, patched_fingerprint
from .host_memory import HostMemory, release_prefetched
from .host_patches import of_one_call, patches_fingerprint
from .layer_names import on_model
from .live_slider import live_sliders

# By model, for as long as it lives, and by (the slider's layers, what other nodes have put on it): whether the samples of a batch
# keep apart there. A trial takes nine forward passes, and every training and every sweep has a backend of its own.
_TRIALS: WeakKeyDictionary[nn.Module, dict[tuple[frozenset[str], str], bool]] = WeakKeyDictionary()

BY_NEGATIVE = 0.03  # of a row's answer: more than rounding and less than a guidance


class ComfyBackend:
    """A MODEL with the VAE and CLIP that encode for it. LoRAs that the MODEL already carries stay on while it trains."""

    def __init__(self, model: Any, vae: Any = None, clip: Any = None, hints: Hints | None = None) -> None:
        """`vae` and `clip` only where it encodes. `hints`: a ControlNet with its control images, for every prompt that is
        trained on."""
        self.patcher = model
        self.hints = hints
        self._vae = vae
        self._clip = clip
        self.diffusion: nn.Module = model.model.diffusion_model
        self.module = self.diffusion  # where the slider lies
        self.name = f"{type(model.model).__name__}/{type(self.module).__name__}"
        self.device = torch.device(model.load_device)
        self.memory = HostMemory(model)
        self.dtype: torch.dtype = model.model.get_dtype_inference()
        self.one_by_one = False
        self.left_out: list[str] = []  # of the slider that was placed last, as lines for the user
        self._chunks = [0]  # which prompts a call holds, as the sampler says it: 0 the positive one
        self._by_negative = False  # whether a patch on the MODEL acts by the negative one
        self._controls = Running()
        self._encoded: dict[tuple[int, torch.Size], tuple[Conditioning, dict[str, Any]]] = {}  # holds the prompt: ids are reused
        latent_format = model.model.latent_format
        self._downscale = getattr(latent_format, "spacial_downscale_ratio", 8)
        self.image_step = max(16, 2 * self._downscale) if self._downscale > 1 else 8
        likes = preferences_of(model)
        self.resolution = likes.training.resolution
        self.few_steps = likes.few_steps  # by the model's own file; a graph may know better

    # --- where a slider lies

    def place(self, slider: Slider) -> Slider:
        """The slider with its layers found in `module`. SliderError when it is for another one."""
        return self._noted(on_model(slider.cut(), self.patcher))

    def _noted(self, placed: Slider) -> Slider:
        self.left_out = placed.left_out_lines()
        return placed

    def adapter(self, slider: Slider, dropout: float = 0.0) -> Adapter:
        """The slider as an adapter for `module`, on the model's device."""
        return Adapter.from_weights(self.module, self.place(slider).weights, self.device, dropout=dropout)

    # --- encoding: under the caller's mode, with the host's own encoders

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Images or clips (B, T, 3, H, W), as the VAE takes them: a video VAE wants the frames of one clip as its batch."""
        is_clip = image_BCHW.ndim == 5
        pixels = image_BCHW.flatten(0, 1) if is_clip else image_BCHW
        latent = self._vae.encode(pixels.movedim(1, -1).contiguous())  # as ComfyUI's images lie; else it takes twice as long
        base = self.patcher.model
        if base.latent_format.latent_dimensions == 3 and latent.ndim == 4:
            latent = latent.unsqueeze(2)
        if is_clip and (latent.ndim != 5 or latent.shape[0] != 1):
            raise SliderError("This VAE takes single images, no clips: set frames to 1.", "vae.clip")
        if latent.shape[1] != base.latent_format.latent_channels:
            raise SliderError(
                f"The VAE makes latents of {latent.shape[1]} channels but the model needs "
                f"{base.latent_format.latent_channels}: connect the VAE that belongs to this model.",
                "vae.channels",
            )
        return base.process_latent_in(latent)

    def encode_prompt(self, text: str) -> Conditioning:
        return Conditioning(text, self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text)))

    def with_reference(self, cond: Conditioning, latent_CHW: torch.Tensor) -> Conditioning:
        return with_reference(cond, self.patcher.model.process_latent_out(latent_CHW[None].clone()))

    def encoder_fingerprints(self) -> tuple[str, str]:
        images = f"{module_fingerprint(self._vae.first_stage_model)} {type(self.patcher.model.latent_format).__name__}"
        if self._clip is None:  # images alone are encoded
            return images, ""
        return images, f"{patched_fingerprint(self._clip.patcher)} {self._clip.layer_idx} {self._clip.tokenizer_options}"

    # --- the model's own mathematics

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Load the model, then let autograd run through it; weights, flags and hooks are as before afterwards."""
        need_feature(Feature.TRAINING)
        self.load()
        with autograd_through(self.diffusion, self.device), self.running():
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """The loaded model as the sampler holds it during a run: begun, and cleaned up afterwards. Not compiled: with and without
        a slider it must answer by the same code."""
        self.patcher.pre_run()
        with ExitStack() as afterwards, uncompiled():
            afterwards.callback(self._encoded.clear)
            afterwards.callback(self.patcher.cleanup)
            afterwards.callback(self._controls.end)
            afterwards.callback(release_prefetched)  # what an interrupted call has fetched for its next blocks
            afterwards.callback(forget, self.diffusion)
            yield

    def prepare(self, paths: Sequence[str], latent_CHW: torch.Tensor, cond: Conditioning) -> None:
        noise = torch.zeros(1, *latent_CHW.shape, device=self.device)
        need_taken(cond, lambda prompt: self.processed(prompt, noise), self.name)
        self.one_by_one = False  # or the trial would compare single samples with themselves
        trials = _TRIALS.setdefault(self.module, {})
        key = frozenset(paths), patches_fingerprint(self.patcher)
        if key not in trials:
            try:
                trials[key] = self._trial(paths, latent_CHW, cond)
            except Exception as fault:  # two samples do not fit: one by one needs no trial
                if not self.memory.is_short(fault):
                    raise
        self.one_by_one = not trials.get(key, False)

    def _trial(self, paths: Sequence[str], latent_CHW: torch.Tensor, cond: Conditioning) -> bool:
        """Whether two samples of one batch keep apart at these layers."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2, *latent_CHW.shape, generator=generator).to(self.device)
        sigma = self.sigmas(torch.tensor([0.4, 0.7]))
        latents = latent_CHW.to(self.device).unsqueeze(0).repeat(2, *[1] * latent_CHW.ndim)
        x = self.add_noise(latents, noise, sigma)

        if host_patches.has_patches(self.patcher):
            self._by_negative = self._acts_by_negative(x, sigma, cond)

        def predict(rows: list[int]) -> torch.Tensor:
            try:
                return self.predict(x[rows], sigma[rows], [cond] * len(rows))
            except RuntimeError as fault:
                if len(rows) == 1 or self.memory.is_short(fault):
                    raise
                raise ValueError(f"no two samples at once: {fault}") from fault  # a patch made for one

        return samples_apart(self.module, paths, predict, self.dtype)

    @torch.no_grad()
    def _acts_by_negative(self, x: torch.Tensor, sigma: torch.Tensor, cond: Conditioning) -> bool:
        """Whether a patch on the MODEL changes the positive prompt's row by the negative one's, which training has none of."""
        alone = self.predict(x[:1], sigma[:1], [cond])
        self._chunks = [0, 1]
        try:
            beside = self.predict(x, sigma[[0, 0]], [cond, cond])[:1]
        except RuntimeError as fault:
            if self.memory.is_short(fault):
                raise
            return False
        finally:
            self._chunks = [0]
        return bool((beside - alone).norm() > BY_NEGATIVE * alone.norm())

    def control_models(self) -> list[Any]:
        """The patchers of the ControlNets that act, for the host to load."""
        return models_of([self.hints.control]) if self.hints else []

    def notes(self) -> str:
        """For the user: what training leaves out of what stands on the MODEL, and layers that are reached in another way."""
        negative = "A patch on the MODEL acts by the negative prompt: left out of training." if self._by_negative else ""
        return " ".join(filter(None, [host_patches.note(self.patcher), negative, reach.note(self.module)]))

    def load(self) -> None:
        """Bring the model to its device, or as much of it as fits. SliderError for one that cannot be trained through."""
        models = [self.patcher, *self.control_models()]
        comfy.model_management.load_models_gpu(models, memory_required=self.memory.room())
        frozen_layers(self.diffusion, self.device)

    def weights_fingerprint(self) -> str:
        """A short hash of some weights: tells two checkpoints of one architecture apart, whatever LoRAs they carry."""
        return base_fingerprint(self.patcher)

    def assistants_fingerprint(self) -> str:
        """What the loaded MODEL carries besides its weights, in short; empty when nothing."""
        live = [slider.fingerprint for slider in live_sliders(self.patcher)]
        return " ".join(filter(None, [carried_fingerprint(self.patcher), *live, patches_fingerprint(self.patcher)]))

    def training_fingerprint(self) -> dict[str, str]:
        values = {"model": f"{self.name} {self.weights_fingerprint()}", "encoders": " ".join(self.encoder_fingerprints())}
        if assistants := self.assistants_fingerprint():
            values["assistant"] = assistants
        if self.hints is not None:
            values["control"] = self.hints.fingerprint()
        return values

    def drawn_by(self) -> str:
        return f"{module_fingerprint(self.diffusion)} {self.assistants_fingerprint()}"

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        sampling = on_cpu(self.patcher.get_model_object("model_sampling"))
        return torch.tensor([float(sampling.percent_to_sigma(1 - float(u))) for u in u_B.cpu()]).to(self.device)

    def even_sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        sampling = self.patcher.get_model_object("model_sampling")
        shifted = isinstance(sampling, comfy.model_sampling.CONST) and getattr(sampling, "shift", None) is not None
        return u_B.to(self.device, torch.float32) if shifted else self.sigmas(u_B)

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return self.patcher.get_model_object("model_sampling").noise_scaling(sigma_B, noise_BCHW, latent_BCHW)

    def _affine(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a and b of x0 = a + b o."""
        denoised = self.patcher.get_model_object("model_sampling").calculate_denoised
        a = denoised(sigma_B, torch.zeros_like(x_BCHW), x_BCHW)
        return a, denoised(sigma_B, torch.ones_like(x_BCHW), x_BCHW) - a

    def target(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        a, b = self._affine(self.add_noise(latent_BCHW, noise_BCHW, sigma_B), sigma_B)
        return (latent_BCHW - a) / b

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        conds = [self._model_conds(c, x_BCHW) for c in cond]
        controls = [self._control_of(c, x_BCHW) for c in cond]
        if not self.one_by_one and all(joinable(conds[0], other) for other in conds[1:]):
            denoised = self._apply(x_BCHW, sigma_B, conds, controls, None)
        else:  # prompts of different length, or a model that mixes the samples of a batch
            rows = []
            for row in range(len(conds)):
                one = slice(row, row + 1)
                rows.append(self._apply(x_BCHW[one], sigma_B[one], conds[one], controls[one], [row]))
            denoised = torch.cat(rows)
        a, b = self._affine(x_BCHW, sigma_B)
        return (denoised - a) / b

    def _apply(
        self, x: torch.Tensor, sigma: torch.Tensor, conds: list[dict[str, Any]], controls: list[Any], samples: list[int] | None
    ) -> torch.Tensor:
        inputs = joined(conds)
        options = comfy.model_patcher.create_model_options_clone(self.patcher.model_options)["transformer_options"]
        # mean-flow models ask where a step ends: at its start, which is plain flow
        options |= {
            "cond_or_uncond": self._chunks,
            "sigmas": sigma,
            "sample_sigmas": sigma.repeat_interleave(2),
            "uuids": [uuid.uuid4()],
        }
        options |= {"wrappers": of_one_call(self.patcher)} | attention_override(options.get(OVERRIDE))
        forget(self.diffusion)
        if samples is not None:
            options[SAMPLES] = samples
        if any(control is not None for control in controls):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.module is not self.diffusion):
                inputs["control"] = control_of_rows(
                    controls, x, sigma, lambda rows: joined([conds[row] for row in rows]), options, samples
                )
        inputs["transformer_options"] = options
        around = self.patcher.model_options.get("model_function_wrapper")
        if around is None:
            return self.patcher.model.apply_model(x, sigma, **inputs)
        call = {"input": x, "timestep": sigma, "c": inputs, "cond_or_uncond": self._chunks}
        return around(self.patcher.model.apply_model, call)

    def _control_of(self, cond: Conditioning, x: torch.Tensor) -> Any:
        """The ControlNet with the hint of one prompt: the prompt's own, or that of `hints`; None without one."""
        control = control_in(cond.value)
        if control is None and self.hints is not None:
            control = self.hints.of(cond.value, x.shape[1:])
        if control is not None:
            self._controls.begin(control, self.patcher.model)
        return control

    def _model_conds(self, cond: Conditioning, x: torch.Tensor) -> dict[str, Any]:
        """What the model is given for one prompt and one sample, encoded once per prompt and latent shape."""
        key = (id(cond), x.shape[1:])
        if key not in self._encoded:
            with torch.no_grad():
                parts = self.processed(cond, torch.zeros_like(x[:1]))
                conds = {name: part.process_cond(batch_size=1, area=None) for name, part in parts.items()}
            self._encoded[key] = cond, conds
        return self._encoded[key][1]

    def processed(self, cond: Conditioning, noise: torch.Tensor) -> dict[str, Any]:
        """ComfyUI's model conds for one prompt and a batch like `noise`."""
        processed = comfy.samplers.process_conds(
            self.patcher.model,
            noise,
            {"positive": comfy.sampler_helpers.convert_cond(cond.value)},
            self.device,
            latent_image=noise,
            seed=0,
            latent_shapes=[noise.shape],
        )["positive"]
        return host_patches.only_part(processed, cond.text)["model_conds"]
