"""A slider of any algorithm, saved in any format, does in other people's loaders what it did alive.

Oracles: ComfyUI's own loader nodes (Load LoRA, its model-only form, the bypass form), PEFT's PeftModel and LyCORIS' wrapper,
each on tiny models of six architectures with random weights, at +1, -1 and +2.5.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from products import in_turn
from zoo.animals import TINY, tiny
from zoo.model import build_tiny, conditioning

TITLES = ("SD15", "SDXL", "Flux", "ZImage", "WAN21_T2V", "SD3 3.5 medium")
ALGORITHMS = ("lora", "rslora", "dora", "locon", "loha", "lokr", "full", "glora")
LORAS = ("lora", "rslora", "locon")  # what a diffusers file can hold
STRENGTHS = (1.0, -1.0, 2.5)
SAME, MOVED = 1e-4, 1e-2  # as a share of the model's output: how far apart two answers may be, and how much a slider must move


class Case:
    """A tiny model with a slider whose every part acts, and the model's answers with the live slider."""

    def __init__(self, pack: Any, title: str, algorithm: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.core, self.entry = pack.core, tiny(title)
        self.model = build_tiny(self.entry, dtype)
        self.module = self.model.model.diffusion_model
        spec = self.core("config.lora").AdapterSpec(algorithm=algorithm, **options)
        targets = (
            self.core("layers.select")
            .survey(self.module, spec, self.core("with_comfy.layer_names").layer_aliases(self.model))
            .targets
        )
        self.adapter = self.core("lora.slider_adapter").Adapter.create(self.module, targets, spec)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.adapter.parameters():
                p.add_(torch.randn(p.shape, generator=generator) * 0.05)
            self.adapter.read_base(self.module)
        self.slider = self.core("lora.slider_file").Slider(
            self.adapter.weights(), self.core("lora.info").SliderInfo(name=title, architecture=self.entry.name)
        )
        self.cond = self.core("backend").Conditioning("x", conditioning(self.entry, 0))
        self.x = torch.randn(1, *self.entry.latent, generator=generator)
        self.wanted: dict[float, torch.Tensor] = {}  # what was answered at a strength before, 0 for the base model

    @torch.inference_mode()
    def answer(self, model: Any = None) -> torch.Tensor:
        """What a MODEL predicts, loaded as a sampler loads it."""
        from comfy import model_management

        model = model if model is not None else self.model
        model_management.load_models_gpu([model])
        backend = self.core("with_comfy.model_backend").ComfyBackend(model, None, None)
        model.pre_run()
        try:
            return backend.predict(self.x, backend.sigmas(torch.tensor([0.5])), [self.cond]).float().clone()
        finally:
            model.cleanup()

    def live(self, strength: float) -> torch.Tensor:
        if strength not in self.wanted:
            with self.core("lora.strength").at_strength(self.adapter, self.module, [strength]):
                self.wanted[strength] = self.answer()
        return self.wanted[strength]

    def save(self, path: Path, form: str, dtype: str = "fp32") -> Path:
        config, files = self.core("config.lora"), self.core("with_comfy.layer_names")
        args = config.FileDtype(dtype), False, config.FileFormat(form), files.written_names(self.model)
        self.core("lora.slider_file").save_slider(path, self.slider, *args)
        return path

    def agrees(self, theirs: torch.Tensor, strength: float) -> bool:
        mine, base = self.live(strength), self.live(0.0)
        assert (mine - base).norm() > MOVED * base.norm(), "the slider moves the model"
        return bool((theirs - mine).norm() < SAME * base.norm())


@pytest.fixture(scope="module")
def cases(pack) -> Any:
    """(title, algorithm) -> Case, each made once."""
    made: dict[tuple[str, str], Case] = {}

    def case(title: str, algorithm: str) -> Case:
        key = title, algorithm
        made[key] = made[key] if key in made else Case(pack, title, algorithm)
        return made[key]

    return case


@pytest.fixture
def loras(comfy: Path) -> Path:
    return comfy / "models" / "loras"


def by_stock(case: Case, name: str, strength: float, kind: str = "LoraLoaderModelOnly") -> torch.Tensor:
    """The answer of ComfyUI with the file in one of its own loader nodes."""
    import nodes

    loader = nodes.NODE_CLASS_MAPPINGS[kind]()
    if kind.endswith("ModelOnly"):
        (model,) = loader.load_lora_model_only(case.model, name, strength)
    else:
        model, _ = loader.load_lora(case.model, None, name, strength, 0.0)
    return case.answer(model)


@pytest.mark.parametrize(("algorithm", "title"), in_turn(ALGORITHMS, TITLES, each=2))
def test_the_stock_loader_does_what_the_live_slider_did(title: str, algorithm: str, cases, loras: Path) -> None:
    case = cases(title, algorithm)
    base = case.answer()
    for form in ("native", "kohya"):
        name = f"{form} {algorithm} {title}.safetensors"
        case.save(loras / name, form)
        for strength in STRENGTHS:
            assert case.agrees(by_stock(case, name, strength), strength), (form, strength)
    assert case.agrees(by_stock(case, name, STRENGTHS[-1], "LoraLoader"), STRENGTHS[-1])
    assert torch.equal(case.answer(), base), "and the base model is the base model"


@pytest.mark.parametrize("title", TITLES)
def test_diffusers_files_in_comfyuis_loader_where_its_table_has_the_names(title: str, cases, loras: Path, pack) -> None:
    """What diffusers does with them: test_peers.py."""
    stock = pack.core("with_comfy.proof").stock_reads
    for algorithm in ALGORITHMS:
        case, name = cases(title, algorithm), f"diffusers {algorithm} {title}.safetensors"
        if algorithm in LORAS:
            file, form = case.save(loras / name, "diffusers"), pack.core("config.lora").FileFormat.DIFFUSERS
            assert stock(file, form, case.model) == (title != "WAN21_T2V")
            if title != "WAN21_T2V":
                assert case.agrees(by_stock(case, name, -1.0), -1.0), algorithm
            continue
        with pytest.raises(pack.core("config.checks").SliderError, match="choose native"):
            case.save(loras / name, "diffusers")
        assert not (loras / name).exists()


@pytest.mark.parametrize(("algorithm", "title"), in_turn([a for a in ALGORITHMS if a not in ("dora", "glora")], TITLES))
def test_the_bypass_loader_too(title: str, algorithm: str, cases, loras: Path, extra_nodes) -> None:
    extra_nodes("nodes_lora_debug")
    case, name = cases(title, algorithm), f"bypass {algorithm} {title}.safetensors"
    case.save(loras / name, "native")
    for strength in (1.0, -1.0):
        assert case.agrees(by_stock(case, name, strength, "LoraLoaderBypassModelOnly"), strength)


def test_where_the_bypass_loader_is_wrong_the_save_node_says_so(cases, loras: Path, extra_nodes, pack) -> None:
    extra_nodes("nodes_lora_debug")
    form, dtype = pack.core("config.lora").FileFormat, pack.core("config.lora").FileDtype.FP32
    saved = pack.core("with_comfy.slider_saving").save_proven
    wrong = [(cases("SD15", "dora"), form.NATIVE, "DoRA's scale"), (cases("Flux", "lora"), form.DIFFUSERS, "slices of fused")]
    for case, kind, words in wrong:
        path = loras / f"note {kind.value}.safetensors"
        notes = saved(path, case.slider, kind, dtype, model=case.model)
        assert any(words in note for note in notes), notes
        assert not case.agrees(by_stock(case, path.name, 1.0, "LoraLoaderBypassModelOnly"), 1.0), "the note is true"
    glora, path = cases("SD15", "glora"), loras / "note glora.safetensors"
    assert any("cannot run a GLoRA" in n for n in saved(path, glora.slider, form.NATIVE, dtype, model=glora.model))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        by_stock(glora, path.name, 1.0, "LoraLoaderBypassModelOnly")
    for case, kind in ((cases("SD15", "lora"), form.DIFFUSERS), (cases("Flux", "lora"), form.NATIVE)):
        path = loras / f"no note {kind.value}.safetensors"
        notes = saved(path, case.slider, kind, dtype, model=case.model)
        assert not any("bypass" in note for note in notes)
        assert case.agrees(by_stock(case, path.name, 1.0, "LoraLoaderBypassModelOnly"), 1.0)


@pytest.mark.parametrize(("algorithm", "title"), in_turn(ALGORITHMS, TITLES, each=2))
def test_lycoris_reads_its_file(title: str, algorithm: str, pack, tmp_path: Path) -> None:
    from lycoris.wrapper import create_lycoris_from_weights

    case = Case(pack, title, algorithm)
    path = case.save(tmp_path / "slider.safetensors", "lycoris")
    wanted = case.live(1.0)
    base = case.answer()
    case.module.requires_grad_(False)
    with torch.no_grad():
        network, _ = create_lycoris_from_weights(1.0, str(path), case.module)
        assert len(network.loras) == len({t.path for t in case.adapter.targets})
        for part in network.loras:
            base_weight = part.org_module[0].weight.detach().clone()
            delta = _lycoris_delta(part, base_weight)
            part.org_module[0].weight = torch.nn.Parameter(base_weight + delta, requires_grad=False)
            if getattr(part, "bias", None) is not None:
                part.org_module[0].bias = torch.nn.Parameter(part.org_module[0].bias.detach() + part.bias, requires_grad=False)
    theirs = case.answer()
    assert (wanted - base).norm() > MOVED * base.norm()
    assert (theirs - wanted).norm() < SAME * base.norm()


def _lycoris_delta(part: Any, base: torch.Tensor) -> torch.Tensor:
    """The weight that LyCORIS' own forward adds, by the functions that its forward calls."""
    if part.name == "full":
        return part.weight
    if part.name in ("loha", "kron"):  # get_diff_weight would scale twice
        update = part.get_weight(part.shape)
        return part.apply_weight_decompose(base + update) - base if part.wd else update
    if part.name == "locon":
        update = part.make_weight() * part.scale
        return part.apply_weight_decompose(base + update) - base if part.wd else update
    return part.get_diff_weight()[0]


@pytest.mark.parametrize(("title", "algorithm"), in_turn(TITLES, ("lora", "rslora", "dora", "locon")))
def test_peft_reads_its_folder(title: str, algorithm: str, pack, tmp_path: Path) -> None:
    from peft import PeftModel

    case = Case(pack, title, algorithm, rank_pattern=((r"\.(?:to_k|k|proj|out)$", 2),))
    folder = case.save(tmp_path / "slider", "peft")
    wanted, base = case.live(1.0), case.answer()
    with torch.inference_mode():
        PeftModel.from_pretrained(case.module, str(folder))  # puts its layers into the module
        theirs = case.answer()
    assert (wanted - base).norm() > MOVED * base.norm()
    assert (theirs - wanted).norm() < SAME * base.norm()


@pytest.mark.parametrize(("form", "title"), in_turn(("native", "kohya", "diffusers", "lycoris", "peft"), TITLES, each=2))
def test_what_was_written_is_read_and_trained_on(title: str, form: str, cases, pack, tmp_path: Path) -> None:
    """Back from any format: the same effect by our own node, and an adapter whose training goes on."""
    case = cases(title, "lora")
    path = case.save(tmp_path / ("slider" if form == "peft" else "slider.safetensors"), form)
    loaded = pack.core("lora.slider_file").load_slider(path)
    assert case.agrees(case.answer(pack.core("with_comfy.slider_apply").apply(loaded, -1.0, case.model)[0]), -1.0)
    adapter = pack.core("lora.slider_adapter").Adapter.from_weights(
        case.module, pack.core("with_comfy.layer_names").on_model(loaded, case.model).weights
    )
    with pack.core("lora.strength").at_strength(adapter, case.module, [2.5]):
        again = case.answer()
    assert case.agrees(again, 2.5)
    assert all(p.requires_grad and p.is_leaf for p in adapter.parameters())


OTHERS = {
    # Concept Sliders (.pt, diffusers names with underscores), SimpleTuner (LoRA and LyCORIS), ai-toolkit, raw PEFT
    "Concept Sliders": ("SD15", "lora_unet_{under}.lora_down.weight", "lora_unet_{under}.lora_up.weight", True),
    "SimpleTuner": ("Flux", "transformer.{dotted}.lora_A.weight", "transformer.{dotted}.lora_B.weight", False),
    "SimpleTuner LyCORIS": ("ZImage", "lycoris_{under}.lora_down.weight", "lycoris_{under}.lora_up.weight", True),
    "ai-toolkit": ("Flux", "transformer.{dotted}.lora_A.weight", "transformer.{dotted}.lora_B.weight", True),
    "kohya Flux by diffusers": ("Flux", "lora_unet_{under}.lora_down.weight", "lora_unet_{under}.lora_up.weight", True),
}
DIFFUSERS = {  # one fused and one plain layer of each, by diffusers' names, and the rows they mean
    "SD15": [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "input_blocks.1.1.transformer_blocks.0.attn1.to_q", None),
        ("time_embedding.linear_1", "time_embed.0", None),
        (
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
            None,
        ),
    ],
    "Flux": [
        ("transformer_blocks.0.attn.to_k", "double_blocks.0.img_attn.qkv", (32, 64)),
        ("transformer_blocks.0.attn.to_v", "double_blocks.0.img_attn.qkv", (64, 96)),
        ("single_transformer_blocks.1.attn.to_q", "single_blocks.1.linear1", (0, 32)),
        ("transformer_blocks.1.attn.to_out.0", "double_blocks.1.img_attn.proj", None),
    ],
    "ZImage": [
        ("layers.0.attention.to_q", "layers.0.attention.qkv", 0),
        ("layers.0.attention.to_out.0", "layers.0.attention.out", None),
    ],
}


@pytest.mark.parametrize("trainer", OTHERS)
def test_other_trainers_files_are_read(trainer: str, pack, tmp_path: Path) -> None:
    """Their keys, written by hand; the oracle is a model whose weights were changed by hand."""
    title, down, up, alpha = OTHERS[trainer]
    model = build_tiny(tiny(title))
    module, state = model.model.diffusion_model, {}
    hand = {name: p.detach().clone() for name, p in module.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    for name, path, rows in DIFFUSERS[title]:
        weight = hand[f"{path}.weight"]
        rows = (0, weight.shape[1]) if rows == 0 else rows
        block = weight[slice(*rows)] if rows else weight
        a, b = (torch.randn(*shape, generator=generator) * 0.2 for shape in ((3, block[0].numel()), (block.shape[0], 3)))
        words = {"dotted": name, "under": name.replace(".", "_")}
        state |= {down.format(**words): a, up.format(**words): b}
        if alpha:
            state[down.format(**words).split(".lora_")[0] + ".alpha"] = torch.tensor(1.5)
        block += (b @ a * (0.5 if alpha else 1.0)).reshape(block.shape)
    path = tmp_path / ("slider.pt" if trainer == "Concept Sliders" else "slider.safetensors")
    if path.suffix == ".pt":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    loaded = pack.core("lora.slider_file").load_slider(path)
    adapter = pack.core("lora.slider_adapter").Adapter.from_weights(
        module, pack.core("with_comfy.layer_names").on_model(loaded, model).weights
    )
    for target, weight in adapter.weights().items():
        rows = slice(*target.rows) if target.rows else slice(None)
        there = dict(module.named_parameters())[f"{target.path}.weight"].detach()[rows]
        wanted = hand[f"{target.path}.weight"][rows] - there
        torch.testing.assert_close(weight.delta(there).reshape(there.shape), wanted, rtol=1e-4, atol=1e-6)
    patched = pack.core("with_comfy.slider_apply").apply(loaded, 1.0, model)[0]
    changed = {key for key, patches in patched.patches.items() if patches}
    assert changed == {f"diffusion_model.{path}.weight" for _, path, _ in DIFFUSERS[title]}


def test_a_glora_of_old_lycoris_is_read_as_comfyui_reads_it(pack) -> None:
    from comfy.weight_adapter.glora import GLoRAAdapter

    generator = torch.Generator().manual_seed(4)
    shapes = {"a1.weight": (3, 8), "a2.weight": (8, 3), "b1.weight": (3, 8), "b2.weight": (12, 3)}
    tensors = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    base = torch.randn(12, 8, generator=generator)
    state = {f"layer.{name}": tensor for name, tensor in tensors.items()} | {"layer.alpha": torch.tensor(1.5)}
    ((_, weight),) = pack.core("lora.from_state").from_state(state, "old.safetensors")[0].items()
    stock = GLoRAAdapter.load("layer", state, 1.5, None)
    assert stock is not None
    patched = stock.calculate_weight(base.clone(), "layer", 1.0, 1.0, None, lambda change: change)
    torch.testing.assert_close(weight.delta(base), patched - base, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_architecture_changes_nothing(cases, pack, tmp_path: Path) -> None:
    wan, unet = cases("WAN21_T2V", "lora"), cases("SD15", "lora")
    base = unet.answer()
    for form in ("native", "kohya", "lycoris"):
        loaded = pack.core("lora.slider_file").load_slider(wan.save(tmp_path / f"{form}.safetensors", form))
        with pytest.raises(pack.core("config.checks").SliderError, match=r"another model: .*none of which"):
            pack.core("with_comfy.slider_apply").apply(loaded, 1.0, unet.model)[0]
    assert torch.equal(unet.answer(), base)


@pytest.mark.parametrize("fault", ["scaled", "left out", "negative side"])
def test_a_file_that_does_otherwise_is_not_saved(fault: str, cases, pack, tmp_path: Path, monkeypatch) -> None:
    """Were a writer wrong, the trial through ComfyUI's loader would find it before anything lies on the disk."""
    case, files = cases("SD15", "lora"), pack.core("with_comfy.slider_saving")
    native = pack.core("lora.formats.registry").FORMATS[pack.core("config.lora").FileFormat.NATIVE]
    before = native.write

    def wrong(weights: Any, aliases: Any, architecture: str) -> dict[str, torch.Tensor]:
        state = before(weights, aliases, architecture)
        first = next(k for k in state if k.endswith("lora_B.weight"))
        if fault == "left out":
            return {k: v for k, v in state.items() if not k.startswith(first.split(".lora_")[0])}
        return state | {first: state[first] * (1.01 if fault == "scaled" else -1.0)}

    monkeypatch.setattr(native, "write", wrong)
    form, dtype = pack.core("config.lora").FileFormat.NATIVE, pack.core("config.lora").FileDtype.FP32
    with pytest.raises(pack.core("config.checks").SliderError, match="not saved"):
        files.save_proven(tmp_path / "slider.safetensors", case.slider, form, dtype, model=case.model)
    assert list(tmp_path.iterdir()) == []


def test_the_trial_leaves_the_model_as_it_was(pack, tmp_path: Path) -> None:
    case = Case(pack, "SD15", "lora")
    before, base = {k: v.clone() for k, v in case.module.state_dict().items()}, case.answer()
    form, dtype = pack.core("config.lora").FileFormat.NATIVE, pack.core("config.lora").FileDtype.BF16
    words = pack.core("with_comfy.slider_saving").save_proven(
        tmp_path / "a.safetensors", case.slider, form, dtype, model=case.model
    )
    assert any("ComfyUI's own LoRA loader gives the same" in line for line in words)
    assert all(torch.equal(v, before[k]) for k, v in case.module.state_dict().items())
    assert torch.equal(case.answer(), base)
    assert not any(m._forward_hooks for m in case.module.modules())


def test_a_saved_dora_survives_every_format_that_holds_it(cases, pack, tmp_path: Path) -> None:
    """PEFT's and LyCORIS' norm is that of the changed weight, ComfyUI's that of the base: each file in its reader's own."""
    case = cases("SD15", "dora")
    for form in ("native", "kohya", "lycoris", "peft"):
        path = case.save(tmp_path / (form if form == "peft" else f"{form}.safetensors"), form)
        loaded = pack.core("lora.slider_file").load_slider(path)
        for strength in (1.0, -1.0):
            answer = case.answer(pack.core("with_comfy.slider_apply").apply(loaded, strength, case.model)[0])
            assert case.agrees(answer, strength), form
    again = pack.core("with_comfy.layer_names").on_model(loaded, case.model)
    pack.core("lora.slider_file").save_slider(tmp_path / "again", again, form=pack.core("config.lora").FileFormat.PEFT)
    config = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert config["use_dora"] is True
    assert copy.deepcopy(config)["r"] == 4


def test_a_forward_that_cannot_be_run_loses_no_slider(cases, pack, tmp_path: Path, monkeypatch) -> None:
    import weakref
    from dataclasses import replace

    case, files = cases("SD15", "lora"), pack.core("with_comfy.slider_saving")

    def no_memory(*_args: Any) -> float:
        raise torch.OutOfMemoryError("out of memory: tried to allocate 80 GiB")

    monkeypatch.setattr(pack.core("with_comfy.proof").Trial, "forward", no_memory)
    slider = replace(case.slider, proof=pack.core("with_comfy.proof").Proof(weakref.ref(case.model), case.x[0], case.cond))
    form, dtype = pack.core("config.lora").FileFormat.NATIVE, pack.core("config.lora").FileDtype.FP32
    words = files.save_proven(tmp_path / "a.safetensors", slider, form, dtype)
    assert any("no memory for a forward" in line for line in words), words
    assert case.agrees(
        case.answer(
            pack.core("with_comfy.slider_apply").apply(
                pack.core("lora.slider_file").load_slider(tmp_path / "a.safetensors"), 1.0, case.model
            )[0]
        ),
        1.0,
    )


@pytest.mark.parametrize("title", [entry.title for entry in TINY])
def test_every_layer_of_every_architecture_is_found_by_every_name(title: str, pack) -> None:
    """What our formats write, and ComfyUI's own table of names, leads back to the very layer."""
    model = build_tiny(tiny(title))
    names, targets, files = pack.core("lora.keys"), pack.core("layers.layer"), pack.core("with_comfy.layer_names")
    module, aliases = model.model.diffusion_model, files.layer_aliases(model)
    known = names.LayerNames(module, aliases)
    paths = list(targets.layers(module))
    for path in paths:
        under = path.replace(".", "_")
        written = (path, f"diffusion_model.{path}", f"base_model.model.{path}", f"lora_unet_{under}", f"lycoris_{under}")
        assert {known.find(name).target for name in written} == {targets.Target(path)}, path
    others = {name: target for name, target in aliases.items() if name not in paths}
    assert {name: known.find(name).target for name in others} == others


# --- what a review found


@pytest.mark.parametrize(
    ("algorithm", "title", "dtype"), in_turn(("lora", "dora", "full"), ("WAN21_T2V", "SD15"), (torch.bfloat16, torch.float16))
)
def test_sliders_of_half_precision_models_are_saved_and_wrong_files_are_not(
    title: str, algorithm: str, dtype: torch.dtype, pack, tmp_path: Path, monkeypatch
) -> None:
    """Merging rounds the weights themselves there: the measure is the slider's own tensors in the same loader."""
    case = Case(pack, title, algorithm, dtype)  # Wan keeps some layers in float32, as its checkpoints do
    slider = _with_proof(case, pack)
    files, form, file = pack.core("with_comfy.slider_saving"), pack.core("config.lora").FileFormat, tmp_path / "a.safetensors"
    words = files.save_proven(file, slider, form.NATIVE, pack.core("config.lora").FileDtype.FP32)
    assert any("and the model's answer by" in line for line in words)
    native = pack.core("lora.formats.registry").FORMATS[form.NATIVE]
    before = native.write

    def wrong(weights: Any, aliases: Any, architecture: str) -> dict[str, torch.Tensor]:
        state = before(weights, aliases, architecture)
        if algorithm == "full":
            return {k: v for k, v in state.items() if not k.endswith("diff_b")}
        return {k: v * 1.02 if k.endswith("lora_B.weight") else v for k, v in state.items()}

    monkeypatch.setattr(native, "write", wrong)
    with pytest.raises(pack.core("config.checks").SliderError, match="not saved"):
        files.save_proven(tmp_path / "b.safetensors", slider, form.NATIVE, pack.core("config.lora").FileDtype.FP32)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def _with_proof(case: Case, pack: Any) -> Any:
    import weakref
    from dataclasses import replace

    with torch.no_grad():
        case.adapter.read_base(case.module)
    proof = pack.core("with_comfy.proof").Proof(weakref.ref(case.model), case.x[0], case.cond)
    return replace(
        pack.core("lora.slider_file").Slider(case.adapter.weights(), pack.core("lora.info").SliderInfo(name=case.entry.title)),
        proof=proof,
    )


def _other_patches(case: Case, pack: Any, scale: float = 3.0) -> None:
    """As after a graph that ran the same model with another LoRA on: its weights lie merged in the model."""
    from comfy import model_management

    lora = Case(pack, case.entry.title, "lora")
    strong = {k: v * scale for k, v in pack.core("lora.formats.native").to_native(lora.slider.weights).items()}
    model_management.load_models_gpu([pack.core("with_comfy.merged_slider").stock_lora(case.model, strong, 1.0)])


@pytest.mark.parametrize("form", ["native", "peft"])
def test_a_dora_takes_no_notice_of_what_ran_before(form: str, pack, tmp_path: Path) -> None:
    """Its norms are those of the model it is for, whatever patches the last graph left in the weights."""
    case = Case(pack, "SD15", "dora")
    slider, files, config = _with_proof(case, pack), pack.core("with_comfy.slider_saving"), pack.core("config.lora")
    wanted = case.live(1.0)
    _other_patches(case, pack)
    path = tmp_path / ("a" if form == "peft" else "a.safetensors")
    files.save_proven(path, slider, config.FileFormat(form), config.FileDtype.FP32)
    loaded = pack.core("lora.slider_file").load_slider(path)
    _other_patches(case, pack)
    assert case.agrees(case.answer(pack.core("with_comfy.slider_apply").apply(loaded, 1.0, case.model)[0]), 1.0)
    _other_patches(case, pack)
    adapter = pack.core("with_comfy.model_backend").ComfyBackend(case.model).adapter(loaded)
    with pack.core("lora.strength").at_strength(adapter, case.module, [1.0]):
        swept = case.answer()
    assert (swept - wanted).norm() < SAME * wanted.norm()


def test_a_fresh_dora_changes_nothing_whatever_ran_before(pack) -> None:
    case = Case(pack, "SD15", "dora")
    _other_patches(case, pack)
    backend = pack.core("with_comfy.model_backend").ComfyBackend(case.model, None, None)
    driver = pack.core("train.trainings_driver")
    spec = pack.core("config.lora").AdapterSpec(algorithm="dora")
    request = driver.TrainingRequest("dora", None, spec, pack.core("config.training").TrainSpec())
    adapter = driver.make_adapter(backend, request)
    base = case.answer()
    with pack.core("lora.strength").at_strength(adapter, case.module, [1.0]):
        assert (case.answer() - base).norm() < 1e-5 * base.norm()


DAMAGED = {
    "up with a kernel": (
        "lora",
        lambda s: _with(s, "lora_B.weight", lambda t: t.reshape(*t.shape[:2], 1, 1).expand(*t.shape[:2], 3, 3)),
    ),
    "up too tall": ("lora", lambda s: _with(s, "lora_B.weight", lambda t: t.repeat(2, *[1] * (t.ndim - 1)))),
    "flat diff of another width": ("full", lambda s: _with(s, "diff", lambda t: t.flatten(1)[:, :-1])),
    "long bias": ("full", lambda s: _with(s, "diff_b", lambda t: t.repeat(2))),
    "dora of another height": ("dora", lambda s: _with(s, "dora_scale", lambda t: t[:-1])),
    "loha of two sizes": ("loha", lambda s: _with(s, "hada_w2_a", lambda t: t.repeat(2, 1))),
    "glora of another width": ("glora", lambda s: _with(s, "a1.weight", lambda t: t.repeat(2, *[1] * (t.ndim - 1)))),
    "huge alpha": ("lora", lambda s: _with(s, "alpha", lambda t: t * 1e30)),
}


def _with(state: dict[str, torch.Tensor], ending: str, change: Any) -> dict[str, torch.Tensor]:
    key = next(k for k in state if k.endswith(ending))
    return state | {key: change(state[key]).contiguous()}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_that_comfyui_would_only_log_is_an_error(damage: str, cases, pack, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    algorithm, change = DAMAGED[damage]
    case = cases("SD15", algorithm)
    base, path = case.answer(), tmp_path / "slider.safetensors"
    save_file(change(pack.core("lora.formats.native").to_native(case.slider.weights)), path)
    with pytest.raises(pack.core("config.checks").SliderError):
        pack.core("with_comfy.slider_apply").apply(pack.core("lora.slider_file").load_slider(path), 1.0, case.model)[0]
    assert torch.equal(case.answer(), base)


def test_a_fault_in_our_own_code_is_no_friendly_sentence(cases, pack, tmp_path: Path, monkeypatch) -> None:
    case, files = cases("SD15", "lora"), pack.core("with_comfy.slider_saving")

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(pack.core("with_comfy.proof").Trial, "_output", broken)
    form, dtype = pack.core("config.lora").FileFormat.NATIVE, pack.core("config.lora").FileDtype.FP32
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        files.save_proven(tmp_path / "a.safetensors", _with_proof(case, pack), form, dtype)
    assert list(tmp_path.iterdir()) == []


def test_the_architecture_in_the_header_is_comfyuis_own(cases, pack, tmp_path: Path) -> None:
    case = cases("ZImage", "lora")
    form, dtype = pack.core("config.lora").FileFormat.NATIVE, pack.core("config.lora").FileDtype.FP32
    pack.core("with_comfy.slider_saving").save_proven(tmp_path / "a.safetensors", case.slider, form, dtype, model=case.model)
    told = pack.core("lora.slider_file").load_slider(tmp_path / "a.safetensors").info
    assert (told.architecture, told.base_names[0]) == ("ZImage", "z-image")


def test_a_dropout_goes_with_a_slider_from_a_file(cases, pack) -> None:
    case = cases("SD15", "lora")
    assert pack.core("with_comfy.model_backend").ComfyBackend(case.model).adapter(case.slider, dropout=0.3).dropout == 0.3
