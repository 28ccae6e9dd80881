"""A video model's sweep and strip move: on a tiny Wan with ComfyUI's own VAE class around a tiny Wan VAE.

Oracle: the clip that Slider LoRA Apply, KSampler and VAE Decode give, one strength at a time; ComfyUI's own video nodes take what
the sweep puts out.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.animals import tiny
from zoo.measure import shaken
from zoo.model import build_tiny, conditioning

STRENGTHS = (-1.0, 0.0, 1.5)
LATENT, FRAMES, SIDE, FPS = (1, 16, 3, 8, 8), 9, 64, 16
SEED, STEPS = 5, 2
BYTE = 1 / 255
MP4 = {"format": "mp4", "codec": "h264"}
WEBP = {"fps": FPS, "lossless": True, "quality": 90, "method": "default"}


def video_vae() -> Any:
    """ComfyUI's VAE class around a Wan VAE with random weights that show something."""
    import comfy.ldm.wan.vae
    import comfy.sd

    plain = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])  # as released
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in plain.state_dict().items():
        noise = torch.randn(value.shape, generator=generator) * 0.05
        state[key] = torch.ones(value.shape) if key.endswith("gamma") else noise
    vae = comfy.sd.VAE(sd=state)
    assert vae.first_stage_model.state_dict().keys() == state.keys(), "no weight is left as memory was"
    return vae


@pytest.fixture
def video(pack, run_graph) -> SimpleNamespace:
    """The graph of a sweep of a video model: 1 model, 2 VAE, 3 slider, 8 sampling, 10 sweep."""
    with torch.inference_mode():
        entry = tiny("WAN21_T2V")
        model, vae = build_tiny(entry), video_vae()
        module = model.model.diffusion_model
        adapter = shaken(pack.core, module, pack.core("layers.select").select(module), torch.float32)
        info = pack.core("lora.info").SliderInfo(name="shaken", minus="slow", plus="fast")
        slider = pack.core("lora.slider_file").Slider(adapter.weights(), info)
        positive, negative = conditioning(entry, 0), conditioning(entry, 1)
    graph = {"1": model, "2": vae, "3": slider, "4": positive, "5": negative, "6": {"samples": torch.zeros(LATENT)}}
    graph = {key: run_graph.give(value) for key, value in graph.items()}
    settings = {"steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    sampling = {"positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "prompt": "", "picture_seed": SEED}
    graph["8"] = {"class_type": "SliderSampling", "inputs": sampling | settings}
    sweep = {"model": ["1", 0], "vae": ["2", 0], "slider": ["3", 0], "sampling": ["8", 0], "rows": 1}
    sweep["strengths"] = ", ".join(map(str, STRENGTHS))
    graph["10"] = {"class_type": "SliderStrengthSweep", "inputs": sweep}
    return SimpleNamespace(graph=graph, settings=settings, model=model, vae=vae, slider=slider)


def by_stock_nodes(video: SimpleNamespace, run_graph: Any, strength: float) -> torch.Tensor:
    """(T, H, W, 3) by KSampler behind Slider LoRA Apply."""
    graph = {key: video.graph[key] for key in "123456"}
    apply = {"model": ["1", 0], "slider": ["3", 0], "strength": strength}
    graph["a"] = {"class_type": "SliderLoRAApply", "inputs": apply}
    inputs = {"model": ["a", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0], "denoise": 1.0}
    graph["k"] = {"class_type": "KSampler", "inputs": inputs | video.settings | {"seed": SEED}}
    graph["d"] = {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["2", 0]}}
    return run_graph(graph, clip=("d", 0))["clip"]


def frames_in(file: Path) -> tuple[int, int]:
    """How many frames an animated file has, and its milliseconds. Frames that look alike may be kept as one."""
    with Image.open(file) as picture:
        total = 0
        for number in range(picture.n_frames):
            picture.seek(number)
            picture.load()
            total += picture.info["duration"]
        return picture.n_frames, total


def test_images_of_a_sweep_are_all_frames_of_one_strength_after_another(video, run_graph) -> None:
    run = run_graph(video.graph, images=("10", 1), strip=("10", 0), report=("10", 3))
    clips = run["images"].unflatten(0, (len(STRENGTHS), FRAMES))
    assert clips.shape == (len(STRENGTHS), FRAMES, SIDE, SIDE, 3)
    for place, strength in enumerate(STRENGTHS):
        alone = by_stock_nodes(video, run_graph, strength)
        assert float((clips[place] - alone.clamp(0, 1)).abs().max()) < BYTE, "as near as bytes are"
    assert float((clips[0] - clips[2]).abs().max()) > 20 * BYTE, "something is to be seen"
    assert float((clips[0, 0] - clips[0, -1]).abs().max()) > 20 * BYTE, "and it moves"
    assert run["strip"].shape[0] == 1, "a still sheet"
    pixels = float(run["report"].splitlines()[2].split()[1].rstrip("%"))
    assert pixels == pytest.approx(100 * float((clips[0] - clips[1]).abs().mean()), abs=0.06)


def test_the_node_shows_the_strip_moving_and_films_for_the_scrubber(video, run_graph, comfy: Path) -> None:
    shown = run_graph(video.graph, images=("10", 1))
    (strip,) = shown.ui["10"]["images"]
    assert shown.ui["10"]["animated"] == [True]
    count, milliseconds = frames_in(comfy / "temp" / strip["filename"])
    assert count > 1
    assert milliseconds == round(1000 * FRAMES / FPS)
    (sweep,) = shown.ui["10"]["slider_sweep"]
    assert sweep["film"] == {"frames": FRAMES, "columns": 3, "fps": FPS}
    clips = shown["images"].unflatten(0, (len(STRENGTHS), FRAMES))
    for place, frame in enumerate(sweep["rows"][0]["frames"]):
        film = np.asarray(Image.open(comfy / "temp" / frame["filename"]).convert("RGB"), dtype=np.float32) / 255
        tiles = film.reshape(3, SIDE, 3, SIDE, 3).swapaxes(1, 2).reshape(FRAMES, SIDE, SIDE, 3)
        apart = np.abs(tiles[:, None] - clips.flatten(0, 1).numpy()).mean(axis=(2, 3, 4))  # from all frames of all clips
        own = apart[:, place * FRAMES : (place + 1) * FRAMES].diagonal()
        assert (own <= apart.min(axis=1) + 1e-3).all(), "lossy, and the same frames"


def test_stock_video_nodes_take_the_strip_and_one_strengths_clip(video, run_graph, comfy: Path, extra_nodes) -> None:
    for file in ("nodes_video", "nodes_images"):
        extra_nodes(file)
    graph = video.graph | {
        "v": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["10", 5], "filename_prefix": "grid", "format": "mp4", "codec": "h264"},
        },
        "b": {"class_type": "ImageFromBatch", "inputs": {"image": ["10", 1], "batch_index": 2 * FRAMES, "length": FRAMES}},
        "w": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {
                "images": ["b", 0],
                "filename_prefix": "one",
                "fps": 16,
                "lossless": True,
                "quality": 90,
                "method": "default",
            },
        },
        "c": {"class_type": "GetVideoComponents", "inputs": {"video": ["10", 5]}},
    }
    run = run_graph(graph, grid=("c", 0), fps=("c", 2), clip=("b", 0), images=("10", 1))
    assert (run["grid"].shape[0], run["fps"]) == (FRAMES, FPS)
    assert torch.equal(run["clip"], run["images"][2 * FRAMES :])
    assert next((comfy / "output").glob("grid_*.mp4")).stat().st_size > 0
    assert frames_in(next((comfy / "output").glob("one_*.webp")))[1] == FRAMES * int(1000 / FPS)


def test_a_saved_sweep_of_clips_is_one_file_to_share_and_a_still(video, run_graph, comfy: Path) -> None:
    inputs = {"sweep": ["10", 4], "filename_prefix": "clips/sweep", "webp": True, "page": True, "frame_ms": 150, "quality": 80}
    run = run_graph(video.graph | {"40": {"class_type": "SaveSliderSweep", "inputs": inputs}})
    folder = comfy / "output" / "clips"
    assert {file.suffix for file in folder.iterdir()} == {".webp", ".png", ".html"}
    count, milliseconds = frames_in(next(folder.glob("*.webp")))
    assert count > 1
    assert milliseconds == round(1000 * FRAMES / FPS)
    assert run.ui["40"]["animated"] == [True]
    assert '"film": {"frames": 9' in next(folder.glob("*.html")).read_text(encoding="utf-8")


def test_the_live_strip_of_a_video_model_moves(video, pack, comfy: Path) -> None:
    nodes = pack.part("nodes.live_preview")
    positive, negative, latent = (conditioning(tiny("WAN21_T2V"), 0), conditioning(tiny("WAN21_T2V"), 1), torch.zeros(LATENT))
    settings = pack.core("use.sampling").SamplerSettings(STEPS, 1.0, "euler", "simple")
    request = pack.core("use.sampling").SamplingRequest(settings, "", SEED, positive, negative, {"samples": latent})
    with torch.inference_mode():
        drawing = pack.core("with_comfy.sampling_request").sampling_on_model(request, video.model)
        strips = nodes.Strips(nodes.LivePreview(drawing, STRENGTHS, 10), video.vae)
        strips.draw(video.slider, 20)
    assert strips.trouble == ""
    assert strips.shown["filename"].endswith(".webp")
    count, milliseconds = frames_in(comfy / "temp" / strips.shown["filename"])
    assert count > 1
    assert milliseconds == round(1000 * FRAMES / FPS)


def test_a_single_frame_of_a_video_model_is_a_picture(video, run_graph) -> None:
    video.graph["6"] = run_graph.give({"samples": torch.zeros(1, 16, 1, 8, 8)})
    run = run_graph(video.graph, images=("10", 1))
    assert run["images"].shape == (len(STRENGTHS), SIDE, SIDE, 3)
    assert run.ui["10"]["animated"] == [False]
    assert "film" not in run.ui["10"]["slider_sweep"][0]


def test_the_video_output_of_single_pictures_says_why_there_is_none(video, run_graph, extra_nodes) -> None:
    extra_nodes("nodes_video")
    video.graph["6"] = run_graph.give({"samples": torch.zeros(1, 16, 1, 8, 8)})
    video.graph["c"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["10", 5]}}
    (refused,) = run_graph(video.graph, grid=("c", 0)).events("execution_error")
    assert "no clips" in refused["exception_message"]


def test_a_library_of_a_video_model_moves_too(video, run_graph, pack) -> None:
    """Its node draws every entry; without CLIP the prompts are given as encoded."""
    library = pack.core("use.prompt_library").parse_prompts('{"a": {"prompt": "x", "adapter_strength": 1.5}}')
    clips = torch.rand(1, FRAMES, 3, SIDE, SIDE)
    node, grids = pack.part("nodes.prompts"), pack.core("use.plot_grids")
    strip = pack.core("use.plot_video").over_time(lambda at: grids.draw_entries(at(clips), [("a", 1.5)], "shaken"), FRAMES, 16.0)
    output = node.drawn(node.SliderPromptLibrary, library, clips, strip, "")
    assert output.ui["animated"] == (True,)
    assert torch.equal(output.result[2], clips[0].movedim(1, -1))
    assert output.result[1].shape[0] == 1
