"""In a real ComfyUI a sweep is what separate runs give, however it is split; a library and a saved sweep are what they say.

Oracles: the same pictures by ComfyUI's own KSampler behind Slider LoRA Apply, one at a time.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import demo_graph, sweep_inputs, sweep_nodes
from PIL import Image
from products import FULL
from zoo.animals import LAST_OF_FAMILY, TINY, tiny
from zoo.measure import empty_latent, shaken
from zoo.model import build_tiny, conditioning

STRENGTHS, FEW = (-1.0, 0.0, 0.5, 1.0, 2.0), (-1.0, 0.5, 2.0)
TOLERANCE, PIXELS = 1e-3, 1e-4
LIBRARY = {
    "plain": "a face with tan skin on a blue background",
    "base": {"prompt": "a face with tan skin on a blue background", "adapter_strength": 0},
    "other": {"prompt": "a face with pale skin on a green background", "adapter_strength": -1.5},
}
PAIRS = {"class_type": "LoadSliderDataset", "inputs": {"folder": "demo: smile", "caption": ""}}


def slider_of(pack, module: torch.nn.Module, **info: object) -> object:
    """A slider for that module with random weights that act."""
    adapter = shaken(pack.core, module, pack.core("layers.select").select(module), torch.float32)
    return pack.core("lora.slider_file").Slider(adapter.weights(), pack.core("lora.info").SliderInfo(**info))


@pytest.fixture
def prompt(pack, run_graph) -> dict:
    """The quickstart's graph without its training: a slider with random weights stands where it was."""
    graph = demo_graph()
    model = run_graph({"1": graph["1"]}, model=("1", 0))["model"]
    slider = slider_of(pack, model.model.diffusion_model, name="shaken", plus="up", minus="down")
    graph["6"] = run_graph.give(slider)
    graph["10"]["inputs"] = sweep_inputs(graph) | {"strengths": "-0.3, 0, 0.2", "rows": 1, "steps": 2}
    return graph


def sweep_of(graph: dict, **inputs: object) -> dict:
    return {k: graph[k] for k in ("1", "6", "7", "8", "9")} | sweep_nodes(graph["10"]["inputs"] | inputs)


def one(graph: dict, strength: float, text: str | None = None, **others: object) -> dict:
    """One picture by Slider LoRA Apply and KSampler, of the sweep's seed, steps and sampler."""
    found = {k: graph[k] for k in ("1", "6", "7", "8", "9", "11", "13")}
    found["11"] = {"class_type": "SliderLoRAApply", "inputs": graph["11"]["inputs"] | {"strength": strength} | others}
    same = {k: graph["10"]["inputs"][k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    found["12"] = {"class_type": "KSampler", "inputs": graph["12"]["inputs"] | same}
    if text is not None:
        found["7"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}}
    return found


def drawn(run_graph, *args: object, **others: object) -> torch.Tensor:
    return run_graph(one(*args, **others), image=("13", 0))["image"][0]


def zeroed(cond: list) -> list:
    """ComfyUI's ConditioningZeroOut."""
    from nodes import ConditioningZeroOut

    return ConditioningZeroOut().zero_out(cond)[0]


@pytest.mark.parametrize("entry", TINY if FULL else LAST_OF_FAMILY, ids=lambda e: e.title)
@torch.inference_mode()
def test_a_sweep_in_parts_on_another_lora_equals_separate_runs(entry, pack) -> None:
    """CFG 4 against a zeroed-out negative prompt, with another LoRA merged in, two strengths in a call and then one."""
    patcher, host = build_tiny(entry), pack.core("with_comfy.sampling")
    module = patcher.model.diffusion_model
    targets = pack.core("layers.select").select(module)
    other = pack.core("lora.slider_adapter").Adapter.create(
        module, targets[:3], pack.core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    )
    for i, p in enumerate(other.parameters()):
        p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    model, _ = pack.core("with_comfy.slider_apply").apply(pack.core("lora.slider_file").Slider(other.weights()), 1.0, patcher)
    adapter = shaken(pack.core, module, targets, torch.float32)
    latent = {"samples": empty_latent(entry)}
    positive = conditioning(entry, 0)
    backend = host.ComfyBackend(model)

    def sample(some: tuple[float, ...], most: int = 0) -> object:
        described = pack.core("use.sampling").Sampling
        sampling = described(positive, zeroed(positive), latent, 7, steps=1, cfg=4.0, denoise=0.5, most_at_once=most)
        return host.sample_latents(backend, adapter, sampling, some)

    in_parts = sample(FEW, 2)
    together = in_parts.latents
    apart = entry.batched and not entry.video
    assert in_parts.calls == ([2, 1] if apart else [1] * 3)
    alone = torch.cat([sample((s,)).latents for s in FEW])
    assert not torch.equal(alone[0], alone[-1])
    error = (together - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)
    assert float(error.max()) < TOLERANCE


def test_out_of_memory_halves_the_calls_and_the_pictures_stay(pack, monkeypatch) -> None:
    import comfy.sample

    entry = tiny("SD15")
    patcher, host = build_tiny(entry), pack.core("with_comfy.sampling")
    adapter = shaken(
        pack.core, patcher.model.diffusion_model, pack.core("layers.select").select(patcher.model.diffusion_model), torch.float32
    )
    latent, sample = {"samples": torch.zeros(1, *entry.latent)}, comfy.sample.sample
    sampling = pack.core("use.sampling").Sampling(conditioning(entry, 0), conditioning(entry, 1), latent, seed=7, steps=1)
    given = host.ComfyBackend(patcher), adapter, sampling, STRENGTHS

    def small(model: object, noise: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if len(noise) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 rows too many")
        return sample(model, noise, *args, **kwargs)

    with torch.inference_mode():
        whole = host.sample_latents(*given)
        monkeypatch.setattr(comfy.sample, "sample", small)
        parts = host.sample_latents(*given)
        assert (parts.calls, parts.reason) == ([2, 2, 1], "the memory ran out")
        assert torch.allclose(whole.latents, parts.latents, rtol=1e-4, atol=1e-4)
        monkeypatch.setattr(
            comfy.sample, "sample", lambda *_a, **_k: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("too small"))
        )
        with pytest.raises(torch.cuda.OutOfMemoryError):
            host.sample_latents(*given)


def test_the_free_memory_says_how_many_go_into_one_call(pack, monkeypatch) -> None:
    """By ComfyUI's own estimate: room for k pictures and a half holds k."""
    import comfy.sampler_helpers

    entry = tiny("SD15")
    patcher, host = build_tiny(entry), pack.core("with_comfy.sampling")
    conds = conditioning(entry, 0), conditioning(entry, 1)
    row = torch.zeros(1, *entry.latent)
    given = {"positive": comfy.sampler_helpers.convert_cond(conds[0]), "negative": comfy.sampler_helpers.convert_cond(conds[1])}
    each = host.HEADROOM * comfy.sampler_helpers.estimate_memory(patcher, [1, *entry.latent], given)[1]
    for rows, fit in ((0.5, 1), (1.5, 1), (3.5, 3), (99, 5)):
        monkeypatch.setattr(patcher, "get_free_memory", lambda _device, rows=rows: each * rows)
        assert host.fit_at_once(patcher, *conds, row, 5) == fit


def test_the_sweep_gives_a_curve_a_report_and_frames_for_the_browser(prompt: dict, run_graph, comfy: Path) -> None:
    graph = sweep_of(prompt, rows=2, dataset=["2", 0]) | {"2": PAIRS}
    run = run_graph(graph, images=("10", 1), curve=("10", 2), report=("10", 3), sweep=("10", 4))
    assert run["curve"].shape == (1, 520, 900, 3)
    lines = run["report"].splitlines()
    assert lines[0] == "2 rows, each one sampling call for all strengths."
    assert lines[1].split() == ["strength", "pixels", "latent", "along", "the", "pairs"]
    assert [line.split()[0] for line in lines[2:]] == ["-0.3", "0", "+0.2"]
    assert lines[3].split()[1:] == ["0.0%"] * 3
    pixels = float(lines[2].split()[1].rstrip("%"))
    images = run["images"].reshape(2, 3, *run["images"].shape[1:])
    assert pixels == pytest.approx(100 * float((images[:, 0] - images[:, 1]).abs().mean()), abs=0.06)
    (told,) = run.ui["10"]["slider_sweep"]
    assert (told["strengths"], told["minus"], told["plus"]) == ([-0.3, 0.0, 0.2], "down", "up")
    assert len(json.dumps(told)) < 2000, "references to files, no pixels"
    for row in range(2):
        for column in range(3):
            frame = told["rows"][row]["frames"][column]
            assert frame["type"] == "temp"
            seen = np.asarray(Image.open(comfy / "temp" / frame["subfolder"] / frame["filename"]), dtype=np.float32) / 255
            assert np.abs(seen - images[row, column].numpy()).max() < 1 / 200


def test_along_the_pairs_is_one_for_half_a_pair(pack, prompt: dict, run_graph) -> None:
    """Oracle: latents moved by hand along the mean difference of the demo pairs."""
    built = run_graph({"1": prompt["1"], "2": PAIRS}, model=("1", 0), vae=("1", 2), data=("2", 0))
    sweeps = pack.core("use.sweep")
    backend = pack.core("with_comfy.model_backend").ComfyBackend(built["model"], built["vae"], None)
    samples = [
        backend.encode_images(
            torch.stack(
                [
                    torch.from_numpy(np.array(Image.open(p).convert("RGB"))).movedim(-1, 0) / 255
                    for p in sorted((Path(__file__).resolve().parents[2] / "demo_pairs" / "smile" / side).glob("*.png"))
                ]
            )
        )
        for side in ("positive", "negative")
    ]
    half = (samples[0].mean(0) - samples[1].mean(0)) / 2
    base = torch.zeros_like(half)
    spec = pack.core("config.sweep").SweepSpec((-1.0, 0.0, 2.0), (0,))
    latents = torch.stack([base - half, base, base + 2 * half])[None]
    result = sweeps.SweepResult(spec, torch.zeros(1, 3, 3, 64, 64), latents, sweeps.rows_of((0,)))
    direction = pack.core("encode.latent_direction").pair_direction(built["data"], backend, half.shape, (64, 64))
    assert result.along(direction) == pytest.approx([-1.0, 0.0, 2.0], abs=1e-3)


@pytest.mark.parametrize(
    ("sampler", "cfg"), [("euler", 1.0), ("euler", 3.0), ("euler_ancestral", 1.0), ("seeds_2", 1.0), ("dpm_adaptive", 1.0)]
)
def test_a_sweep_equals_separate_runs_with_apply(sampler: str, cfg: float, prompt: dict, run_graph) -> None:
    prompt["10"]["inputs"] |= {"sampler_name": sampler, "cfg": cfg}
    images = run_graph(sweep_of(prompt), images=("10", 1))["images"]
    for column, strength in enumerate((-0.3, 0.0, 0.2)):
        assert (images[column] - drawn(run_graph, prompt, strength)).abs().max() < PIXELS


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_two_sliders_are_a_grid_of_two_applies(cfg: float, prompt: dict, run_graph, pack) -> None:
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    module = model.model.diffusion_model
    weights = slider_of(pack, module).weights
    second = run_graph.give(
        pack.core("lora.slider_file").Slider(dict(list(weights.items())[::2]), pack.core("lora.info").SliderInfo(name="second"))
    )
    prompt["10"]["inputs"]["cfg"] = cfg
    graph = sweep_of(prompt, slider_b=["b", 0], strengths_b="-0.2, 0, 0.4") | {"b": second}
    run = run_graph(graph, images=("10", 1), report=("10", 3))
    for row, other in enumerate((-0.2, 0.0, 0.4)):
        for column, strength in enumerate((-0.3, 0.0, 0.2)):
            single = one(prompt, strength, model=["first", 0]) | {"b": second}
            single["first"] = {
                "class_type": "SliderLoRAApply",
                "inputs": {"model": ["1", 0], "slider": ["b", 0], "strength": other},
            }
            alone = run_graph(single, image=("13", 0))["image"][0]
            assert (run["images"][3 * row + column] - alone).abs().max() < PIXELS
    assert "B is second." in run["report"]
    assert "With B at 0, 100% of the effect is left." in run["report"]
    left = [line for line in run["report"].splitlines() if line.startswith("With B")]
    assert len(left) == 3


def test_a_library_is_drawn_at_each_entrys_strength_and_swept(prompt: dict, run_graph) -> None:
    given = {name: prompt["10"]["inputs"][name] for name in ("model", "vae", "slider", "latent_image")}
    same = {k: prompt["10"]["inputs"][k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    node = {"library": json.dumps(LIBRARY), "file": "none", "strength": 0.7, "clip": ["1", 1]} | given | same
    graph = sweep_of(prompt, prompts=["20", 0], clip=["1", 1], rows=2)
    graph["20"] = {"class_type": "SliderPromptLibrary", "inputs": node}
    run = run_graph(graph, images=("20", 2), report=("20", 3), swept=("10", 1), told=("10", 3), grid=("20", 1))
    prompts = [e if isinstance(e, str) else e["prompt"] for e in LIBRARY.values()]
    for place, (text, strength) in enumerate(zip(prompts, (0.7, 0.0, -1.5), strict=True)):
        assert (run["images"][place] - drawn(run_graph, prompt, strength, text)).abs().max() < PIXELS
    assert run["report"].startswith("3 entries, 2 distinct prompts; 2 at a strength of their own, 1 at +0.7. 2 rows, each one")
    assert run["swept"].shape[0] == 2 * 2 * 3, "two distinct prompts, two seeds, three strengths"
    other = drawn(run_graph, prompt, 0.2, LIBRARY["other"]["prompt"])
    assert (run["swept"][2 * 3 + 2] - other).abs().max() < PIXELS
    assert run["told"].startswith("4 rows, each one sampling call")


def test_a_library_alone_is_read_and_nothing_is_drawn(run_graph, comfy: Path) -> None:
    (comfy / "input" / "prompts.json").write_text(json.dumps(LIBRARY), encoding="utf-8")
    inputs = {"library": "", "strength": 1.0, "seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    node = {"class_type": "SliderPromptLibrary", "inputs": inputs | {"file": "prompts.json"}}
    run = run_graph({"20": node, "21": {"class_type": "PreviewImage", "inputs": {"images": ["20", 1]}}}, prompts=("20", 0))
    assert [e.strength for e in run["prompts"].entries] == [None, 0.0, -1.5]
    assert "21" not in run.ui, "nothing was drawn, and that is no error"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"library": '{"a": {"prompt": "x", "adapter_strenght": 1}}'}, 'entry "a" has no field "adapter_strenght"; did you mean'),
        ({"library": '{"a": "x"}', "model": ["1", 0]}, "to draw it needs vae, slider, sampling too"),
    ],
)
def test_a_wrong_library_is_refused_in_a_line(inputs: dict, says: str, prompt: dict, run_graph) -> None:
    fixed = {"file": "none", "strength": 1.0, "seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    graph = {"1": prompt["1"], "20": {"class_type": "SliderPromptLibrary", "inputs": fixed | inputs}}
    with pytest.raises(run_graph.Error) as refused:
        run_graph(graph)
    assert says in refused.value.text


def test_a_finding_is_in_the_saved_file_and_in_the_next_sweep(prompt: dict, run_graph, comfy: Path, pack) -> None:
    found = {"slider": ["6", 0], "lowest": -0.5, "highest": 1.5, "minus": "", "plus": " smiling "}
    graph = {"1": prompt["1"], "6": prompt["6"], "30": {"class_type": "SliderFinding", "inputs": found}}
    saved = {"slider": ["30", 0], "name": "found", "dtype": "fp32", "model": ["1", 0]}
    graph["31"] = {"class_type": "SaveSliderLoRA", "inputs": saved}
    run = run_graph(graph, name=("31", 0), info=("30", 1), slider=("30", 0), given=("6", 0))
    told = pack.core("lora.slider_file").load_slider(comfy / "models" / "loras" / run["name"]).info
    assert (told.range, told.minus, told.plus) == ((-0.5, 1.5), "down", "smiling")
    assert "useful range: -0.5 to 1.5" in run["info"]
    again = sweep_of(graph | prompt, slider=["30", 0], strengths="-1, 0, 1") | {"30": graph["30"]}
    assert "Strength -1: beyond the useful range -0.5 to +1.5." in run_graph(again, report=("10", 3))["report"]
    assert run["given"].info.plus == "up", "the slider that came in is as it was"
    graph["30"]["inputs"] |= {"lowest": 2.0}
    with pytest.raises(run_graph.Error, match="must be below highest"):
        run_graph(graph)


def test_a_sweep_is_saved_as_an_animation_and_a_page(prompt: dict, run_graph, comfy: Path, pack, monkeypatch) -> None:
    graph = sweep_of(prompt, rows=2)
    inputs = {"sweep": ["10", 4], "filename_prefix": "mine/sweep", "webp": True, "page": True, "frame_ms": 90, "quality": 80}
    graph["40"] = {"class_type": "SaveSliderSweep", "inputs": inputs}
    run = run_graph(graph, report=("40", 0))
    folder = comfy / "output" / "mine"
    assert {p.name for p in folder.iterdir()} == {"sweep_00001_.webp", "sweep_00001_.html"}
    assert run["report"].startswith("Saved output/mine/sweep_00001_.webp, ")
    with Image.open(folder / "sweep_00001_.webp") as picture:
        assert picture.n_frames == 4
    assert run.ui["40"]["images"] == [{"filename": "sweep_00001_.webp", "subfolder": "mine", "type": "output"}]
    text = (folder / "sweep_00001_.html").read_text(encoding="utf-8")
    assert "<title>shaken</title>" in text
    assert "sampling call for all strengths" in text

    finding = pack.part("nodes.finding")
    write, left = finding.atomic_write, [1]

    def full(path: Path, content: bytes) -> None:
        if not left:
            raise pack.core("config.checks").SliderError(f"Cannot write {path} (No space left on device).")
        left.pop()
        write(path, content)

    monkeypatch.setattr(finding, "atomic_write", full)
    graph["40"]["inputs"] |= {"quality": 81}
    with pytest.raises(run_graph.Error, match="No space left"):
        run_graph(graph)
    assert len(list(folder.iterdir())) == 2, "all or nothing"
    graph["40"]["inputs"] |= {"filename_prefix": "../outside"}
    with pytest.raises(run_graph.Error, match="leads out of output"):
        run_graph(graph)


class Prompts:
    """Of CLIP what the report card asks: a whole prompt's projected embedding."""

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens(self, tokens: str, return_pooled: bool) -> tuple[None, torch.Tensor]:
        return None, torch.eye(8)[[len(tokens)]] * return_pooled


def test_strengths_beyond_the_useful_range_are_named_marked_and_sent_to_the_scrubber(prompt: dict, run_graph, pack) -> None:
    def run(judged: str) -> tuple[str, dict, torch.Tensor]:
        found = pack.core("lora.calibration").CalibrationInfo(calibrated=True, unit=1.0)
        module = run_graph({"1": prompt["1"]}, model=("1", 0))["model"].model.diffusion_model
        slider = slider_of(pack, module, range=(-0.1, 0.2), calibration=found, judged=judged)
        graph = sweep_of(prompt | {"6": run_graph.give(slider)})
        made = run_graph(graph, report=("10", 3), strip=("10", 0))
        return made["report"], made.ui["10"]["slider_sweep"][0], made["strip"]

    report, sent, strip = run("works")
    assert "Strength -0.3: beyond the useful range -0.1 to +0.2." in report
    assert sent["useful"] == {"range": [-0.1, 0.2], "beyond": "beyond the useful range -0.1 to +0.2"}
    report, sent, plain = run("unproven")
    assert "beyond" not in report
    assert "useful" not in sent
    assert strip.shape[1] > plain.shape[1]


def test_a_report_card_reads_pictures_as_comfyui_s_clip_vision_does(prompt: dict, run_graph, comfy: Path, pack) -> None:
    """A CLIP_VISION of random weights. Oracle: ComfyUI's CLIPVisionEncode on the sweep's own pictures."""
    from comfy.clip_vision import ClipVisionModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 8}
    kind = {"hidden_act": "quick_gelu", "model_type": "clip_vision_model", "num_channels": 3, "image_size": 28, "patch_size": 14}
    vision = ClipVisionModel(sizes | kind)
    for p in vision.model.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(p.numel()))
    inputs = {"sweep": ["10", 4], "clip_vision": ["v", 0], "clip": ["c", 0], "plus": "glad", "filename_prefix": "cards/one"}
    graph = sweep_of(prompt, rows=1) | {"v": run_graph.give(vision), "c": run_graph.give(Prompts())}
    graph["41"] = {"class_type": "SliderReportCard", "inputs": inputs}
    run = run_graph(graph, images=("10", 1), report=("41", 0), card=("41", 1), figures=("41", 2))
    figures = json.loads(run["figures"])
    seen = [vision.encode_image(picture[None])["image_embeds"][0].float() for picture in run["images"]]
    assert figures["sides"]["plus"]["identity"] == pytest.approx(
        float(torch.cosine_similarity(seen[2], seen[1], dim=0)), abs=1e-4
    )
    unit = [vector / vector.norm() for vector in seen]
    same = '"glad" and the slider\'s own "down" are four letters long: no direction'
    assert figures["sides"]["plus"]["clip_direction_end"] is None, same
    inputs["plus"] = "up"
    figures = json.loads(run_graph(graph, figures=("41", 2))["figures"])
    change, way = unit[2] - unit[1], torch.eye(8)[2] - torch.eye(8)[4]
    expected = float(change @ way / change.norm() / way.norm())
    assert figures["sides"]["plus"]["clip_direction_end"] == pytest.approx(expected, abs=1e-3)
    assert run["card"].shape[2] == 900
    assert json.loads((comfy / "output" / "cards" / "one_00001_.json").read_text()) == json.loads(run["figures"])
    with pytest.raises(pack.core("config.checks").SliderError) as refused:
        pack.core("with_comfy.clip_space").embed_prompt(Prompts(), "glad", 768)
    assert refused.value.code == "report_card.clip_space"


def test_a_sweep_gives_a_dial_that_its_file_keeps(prompt: dict, run_graph, pack) -> None:
    """Sweep, report card, saved file, Slider LoRA Apply. Oracle: the pictures at the strengths that the dial's places are."""
    graph = sweep_of(prompt, strengths="-1, -0.5, 0, 0.25, 0.5, 1, 2", rows=2)
    graph["41"] = {"class_type": "SliderReportCard", "inputs": {"sweep": ["10", 4]}}
    saved = {"slider": ["41", 3], "name": "even", "model": ["1", 0]}
    graph["31"] = {"class_type": "SaveSliderLoRA", "inputs": saved}
    run = run_graph(graph, report=("41", 0), slider=("41", 3), file=("31", 0))
    dial = run["slider"].info.even_steps
    assert "Even steps, of 7 strengths and 2 rows" in run["report"]
    assert dial.points[0] == (-1.0, -1.0)
    assert dial.points[-1][1] == 2.0
    half = dial.strength(0.5)
    assert half != 0.5
    even = {"5": {"class_type": "SliderSchedule", "inputs": {"units": "even_steps"}}}
    from_file = {"file": run["file"], "schedule": ["5", 0]}
    at_half, at_1 = (one(prompt, strength, **from_file) | even for strength in (0.5, 1.0))
    for graph in (at_half, at_1):
        del graph["11"]["inputs"]["slider"]
    assert run_graph(at_half, image=("13", 0))["image"].equal(run_graph(one(prompt, half), image=("13", 0))["image"])
    assert run_graph(at_1, image=("13", 0))["image"].equal(run_graph(one(prompt, 1.0), image=("13", 0))["image"])
    options = {"class_type": "SliderSweepOptions", "inputs": {"units": "even_steps"}}
    graph = sweep_of(prompt, strengths="-1, 0, 0.5, 1", rows=1, options=["5", 0]) | {"5": options}
    assert "no even steps yet" in run_graph(graph, report=("10", 3))["report"], "the slider before it was measured"
    note = run_graph(one(prompt, 0.5, schedule=["5", 0]) | even, image=("13", 0)).ui["11"]["slider_note"]
    assert ["no even steps yet" in line for line in note] == [True]
    graph["6"] = {"class_type": "LoadSliderLoRA", "inputs": {"file": run["file"]}}
    swept = run_graph(graph, images=("10", 1), report=("10", 3))
    by_strength = run_graph(sweep_of(prompt, strengths=f"-1, 0, {half}, 1", rows=1), images=("10", 1))
    assert swept["images"].equal(by_strength["images"])
    assert "no even steps" not in swept["report"]


def test_a_second_slider_and_a_library_are_marked_by_the_same_rule(prompt: dict, run_graph, pack) -> None:
    module = run_graph({"1": prompt["1"]}, model=("1", 0))["model"].model.diffusion_model
    found = pack.core("lora.calibration").CalibrationInfo(calibrated=True, unit=1.0)

    def ranged(low: float, high: float) -> dict:
        return run_graph.give(slider_of(pack, module, range=(low, high), calibration=found, judged="works"))

    graph = sweep_of(prompt | {"6": ranged(-1.0, 1.0)}, slider_b=["b", 0], strengths_b="0, 0.4") | {"b": ranged(-0.2, 0.2)}
    run = run_graph(graph, report=("10", 3))
    assert "Strength +0.4 of B: beyond the useful range -0.2 to +0.2." in run["report"]
    sent = run.ui["10"]["slider_sweep"][0]
    assert [row["name"] for row in sent["rows"]] == ["B 0", "B +0.4 (beyond the useful range -0.2 to +0.2)"]
    assert "useful" not in sent, "the first slider's strengths lie within"
    given = {name: prompt["10"]["inputs"][name] for name in ("model", "vae", "slider", "latent_image")}
    same = {k: prompt["10"]["inputs"][k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
    node = {"library": json.dumps(LIBRARY), "file": "none", "strength": 0.7, "clip": ["1", 1]} | given | same
    graph = {k: prompt[k] for k in ("1", "7", "8", "9")} | {"20": {"class_type": "SliderPromptLibrary", "inputs": node}}
    marked, plain = (
        run_graph(graph | {"6": slider}, report=("20", 3), grid=("20", 1)) for slider in (ranged(-1.0, 1.0), ranged(-2.0, 1.0))
    )
    assert marked["report"].endswith("\nStrength -1.5: beyond the useful range -1.0 to +1.0.")
    assert "beyond" not in plain["report"]
    assert marked["grid"].shape[1] > plain["grid"].shape[1], "a line below the pictures"


def test_apply_goes_by_the_rule_of_the_sweep(prompt: dict, run_graph, pack) -> None:
    module = run_graph({"1": prompt["1"]}, model=("1", 0))["model"].model.diffusion_model
    found = pack.core("lora.calibration").CalibrationInfo(calibrated=True, unit=1.0)

    def note(strength: float, **info: object) -> str:
        graph = one(prompt | {"6": run_graph.give(slider_of(pack, module, **info))}, strength)
        return run_graph(graph, image=("13", 0)).ui["11"]["slider_note"][0]

    measured = {"range": (-0.96, 0.94), "calibration": found, "judged": "works"}
    assert note(-1.0, **measured) == "", "what the words say to be within is within"
    assert note(-1.5, **measured) == "Strength -1.5: beyond the useful range -1.0 to +0.9."
    assert note(3.0, range=(-1.0, 1.0)) == note(3.0) == "", "of a LoRA that nobody has measured no range is said"
