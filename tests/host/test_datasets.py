"""Datasets in a real ComfyUI: folders and dataset files of its input folder, buckets out of the graph, the cache on disk, clips.

Oracles: ComfyUI's own executor, its VAE class, and what the nodes say was read from disk.
"""

import json
from pathlib import Path

import pytest
import torch
from graphs import demo_graph
from PIL import Image


@pytest.fixture
def prompt() -> dict:
    """Model 1, dataset 2, targets 5, training 6 of the quickstart, a few steps."""
    graph = demo_graph()
    graph["6"]["inputs"] |= {"steps": 3, "any_rate": True, "calibrate": False}
    return {key: graph[key] for key in ("1", "2", "5", "6")}


@pytest.fixture
def faces(pack) -> Path:
    return pack.root / "demo_pairs" / "smile"


def copied(faces: Path, folder: Path, size: tuple[int, int] = (64, 64)) -> Path:
    """The shipped pairs in another folder, fitted to a size."""
    for file in faces.rglob("*.png"):
        place = folder / file.relative_to(faces)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize(size).save(place)
    return folder


def test_a_dataset_file_is_listed_read_and_trained_on(prompt: dict, run_graph, pack, comfy: Path, faces: Path) -> None:
    home = copied(faces, comfy / "input" / "from_file")
    backends = [
        {"id": "smile", "instance_data_dir": "positive", "slider_strength": 0.5, "cache_dir_vae": "x"},
        {"id": "frown", "instance_data_dir": "negative", "slider_strength": -0.5, "caption_strategy": "filename"},
        {"id": "rest", "instance_data_dir": "negative", "repeats": 1},
        {"id": "text", "dataset_type": "text_embeds", "default": True},
    ]
    (home / "data.json").write_text(json.dumps(backends), encoding="utf-8")
    assert "from_file/data.json" in pack.part("nodes.dataset").choices()
    prompt["2"]["inputs"]["folder"] = "from_file/data.json"
    run = run_graph(prompt, dataset=("2", 0), report=("2", 3), sheet=("2", 4), slider=("6", 0))
    assert {s.strength for s in run["dataset"].image_samples} == {0.5, -0.5, 0.0}
    for words in (
        'Backend "smile": cache_dir_vae has no meaning here',
        "text_embeds is not needed here",
        "6 pairs, matched by file name",
    ):
        assert words in run["report"]
    assert run["sheet"].ndim == 4
    assert run["sheet"].std() > 0.05
    assert run["slider"].info.images == {"positive": 6, "negative": 6, "neutral": 6}
    (home / "data.json").write_text(json.dumps([backends[0] | {"slider_strenth": 1}]), encoding="utf-8")
    with pytest.raises(run_graph.Error, match='did you mean "slider_strength"'):
        run_graph({k: prompt[k] for k in ("2",)}, dataset=("2", 0))


def test_a_dataset_file_cannot_reach_outside(prompt: dict, run_graph, comfy: Path, faces: Path, tmp_path: Path) -> None:
    copied(faces, tmp_path / "elsewhere")
    home = comfy / "input" / "reaching"
    home.mkdir()
    where = [(tmp_path / "elsewhere" / side).as_posix() for side in ("positive", "negative")]
    for way in (where, ["../../../../../../../../../.." + place for place in where]):
        backends = [{"id": str(n), "instance_data_dir": p, "slider_strength": 1 - 2 * n} for n, p in enumerate(way)]
        (home / "data.json").write_text(json.dumps(backends), encoding="utf-8")
        prompt["2"]["inputs"]["folder"] = "reaching/data.json"
        with pytest.raises(run_graph.Error, match="leads outside the folders for datasets"):
            run_graph({"2": prompt["2"]}, dataset=("2", 0))


def test_a_link_in_a_folder_cannot_reach_outside(prompt: dict, run_graph, comfy: Path, faces: Path, tmp_path: Path) -> None:
    home = copied(faces, comfy / "input" / "linked")
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    (home / "positive" / "99.png").symlink_to(secret)
    prompt["2"]["inputs"]["folder"] = "linked"
    with pytest.raises(run_graph.Error, match=r"99\.png leads outside"):
        run_graph({"2": prompt["2"]}, dataset=("2", 0))


def test_buckets_out_of_the_graph_make_a_dataset(prompt: dict, run_graph, faces: Path, pack) -> None:
    """As from an edit model in the same graph: before and after images, a mask, a neutral bucket."""
    loaded = {
        side: torch.stack([_pixels(p) for p in sorted((faces / side).glob("*.png"))[:4]]) for side in ("positive", "negative")
    }
    mask = torch.zeros(1, 64, 64)
    mask[:, 32:] = 1
    graph = {k: prompt[k] for k in ("1", "5", "6")} | {
        "p": run_graph.give(loaded["positive"]),
        "n": run_graph.give(loaded["negative"]),
    }
    graph |= {"m": run_graph.give(mask)}
    before: dict = {}
    for key, source, strength in (("plus", "p", 1.0), ("minus", "n", -1.0), ("rest", "n", 0.0)):
        inputs = {"images": [source, 0], "strength": strength, "captions": "a face", "mask": ["m", 0]} | before
        graph[key], before = {"class_type": "SliderBucket", "inputs": inputs}, {"dataset": [key, 0]}
    graph["6"] = {"class_type": "SliderTrainStep", "inputs": prompt["6"]["inputs"] | {"dataset": ["rest", 0]}}
    run = run_graph(graph, dataset=("rest", 0), report=("rest", 1), sheet=("rest", 2), slider=("6", 0), loss=("6", 2))
    assert "4 pairs, matched by their place in the batch" in run["report"]
    assert "+1: 4 images from the graph, 4 with a caption" in run["report"]
    assert "Nothing found that would hurt." in run["report"]
    assert run["sheet"].shape[1] > 4 * 160, "the contact sheet shows the four pairs"
    assert len(run["loss"]["loss"]) == 3
    assert run["slider"].info.images == {"positive": 4, "negative": 4, "neutral": 4}
    samples = pack.part("nodes.running").SESSION.get("smile").trainer.samples
    assert all(s.mask is not None and (s.mask[..., :30, :].max(), s.mask[..., 34:, :].min()) == (0, 1) for s in samples)


def _pixels(path: Path) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255)


def test_buckets_from_any_folders_each_at_its_strength(prompt: dict, run_graph, comfy: Path, faces: Path) -> None:
    home = copied(faces, comfy / "input" / "loose")
    (home / "positive").rename(home / "a lot")
    (home / "negative").rename(home / "hardly")
    graph = {k: prompt[k] for k in ("1", "5", "6")}
    graph["plus"] = {"class_type": "SliderBucket", "inputs": {"strength": 0.8, "captions": "", "folder": "loose/a lot"}}
    minus = {"strength": -0.3, "captions": "a face", "folder": "loose/hardly", "dataset": ["plus", 0]}
    graph["minus"] = {"class_type": "SliderBucket", "inputs": minus}
    graph["6"] = {"class_type": "SliderTrainStep", "inputs": prompt["6"]["inputs"] | {"dataset": ["minus", 0]}}
    run = run_graph(graph, dataset=("minus", 0), loss=("6", 2))
    assert {(s.strength, s.caption) for s in run["dataset"].image_samples} == {(0.8, ""), (-0.3, "a face")}
    assert len(run["loss"]["loss"]) == 3
    graph["plus"]["inputs"]["folder"] = "../../etc"
    with pytest.raises(run_graph.Error, match="not in list"):
        run_graph(graph, dataset=("minus", 0))
    del graph["plus"]["inputs"]["folder"]
    with pytest.raises(run_graph.Error, match="connect images, or choose a folder"):
        run_graph(graph, dataset=("minus", 0))


def test_one_side_alone_says_what_is_missing(prompt: dict, run_graph) -> None:
    graph = {k: prompt[k] for k in ("1", "5", "6")} | {"p": run_graph.give(torch.rand(2, 64, 64, 3))}
    graph["plus"] = {"class_type": "SliderBucket", "inputs": {"images": ["p", 0], "strength": 1.0, "captions": ""}}
    graph["6"] = {"class_type": "SliderTrainStep", "inputs": prompt["6"]["inputs"] | {"dataset": ["plus", 0]}}
    with pytest.raises(run_graph.Error, match="2 positive and 0 negative"):
        run_graph(graph, slider=("6", 0))


def test_a_second_run_encodes_nothing(prompt: dict, run_graph, comfy: Path, faces: Path, monkeypatch, pack) -> None:
    """After a restart of ComfyUI, too: the sliders under training are gone, the encoded images are not."""
    for file in copied(faces, comfy / "input" / "cached").rglob("*.png"):  # as no other test has them
        Image.eval(Image.open(file), lambda value: 255 - value).save(file)
        file.with_suffix(".txt").write_text("a face seen in the negative", encoding="utf-8")
    prompt["2"]["inputs"]["folder"] = "cached"
    host = pack.core("with_comfy.model_backend").ComfyBackend
    encoded: list[str] = []
    images, texts = host.encode_images, host.encode_prompt
    monkeypatch.setattr(host, "encode_images", lambda self, image: encoded.append("image") or images(self, image))
    monkeypatch.setattr(host, "encode_prompt", lambda self, text: encoded.append("text") or texts(self, text))
    first = run_graph(prompt, loss=("6", 2))
    assert encoded.count("image") == 12
    encoded.clear()
    pack.part("nodes.running").SESSION.drop("smile")
    prompt["6"]["inputs"]["old_name"] = "restart"
    second = run_graph(prompt, loss=("6", 2))
    assert encoded == []
    assert second["loss"] == first["loss"]
    assert any("13 images and captions are encoded, all of them in earlier runs" in text for text in second.texts), second.texts
    Image.new("RGB", (64, 64), "red").save(comfy / "input" / "cached" / "positive" / "01.png")
    run_graph(prompt, loss=("6", 2))
    assert encoded == ["image"], "a changed image invalidates just itself"
    assert (comfy / "user" / "slider_lora" / "encoded").is_dir()


def test_images_of_two_shapes_train_in_one_dataset(prompt: dict, run_graph, comfy: Path, faces: Path, pack) -> None:
    home = copied(faces, comfy / "input" / "shapes")
    for side in ("positive", "negative"):
        for number in ("02", "04"):
            Image.open(faces / side / f"{number}.png").resize((96, 64)).save(home / side / f"{number}.png")
    prompt["2"]["inputs"]["folder"] = "shapes"
    prompt["6"]["inputs"] |= {"steps": 8}
    run = run_graph(prompt, loss=("6", 2))
    shapes = {tuple(s.latent.shape) for s in pack.part("nodes.running").SESSION.get("smile").trainer.samples}
    assert len(shapes) == 2
    assert len(run["loss"]["loss"]) == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"pairing": "random"},
        {"flip": True},
        {"crop": "random"},
        {"caption_from": "filename", "trigger_word": "sks"},
        {"alpha": "mask", "background": "#102030"},
    ],
)
def test_every_choice_of_the_node_trains(changes: dict, prompt: dict, run_graph) -> None:
    prompt["2"]["inputs"] |= changes
    assert len(run_graph(prompt, loss=("6", 2))["loss"]["loss"]) == 3


def test_what_is_wrong_with_pairs_is_said(prompt: dict, run_graph, comfy: Path, faces: Path) -> None:
    home = copied(faces, comfy / "input" / "swapped")
    (home / "positive" / "03.png").rename(home / "kept.png")
    (home / "negative" / "03.png").rename(home / "positive" / "03.png")
    (home / "kept.png").rename(home / "negative" / "03.png")
    prompt["2"]["inputs"]["folder"] = "swapped"
    report = run_graph({"2": prompt["2"]}, report=("2", 3))["report"]
    assert "wrong way round" in report
    assert "03" in report


def test_a_video_vae_takes_single_frames_and_clips(pack) -> None:
    """ComfyUI's own VAE class around a tiny Wan VAE with random weights."""
    import comfy.ldm.wan.vae
    import comfy.sd
    from zoo.animals import tiny
    from zoo.model import build_tiny

    with torch.inference_mode():
        plain = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])  # as released
        generator = torch.Generator().manual_seed(0)
        state = {k: torch.randn(v.shape, generator=generator) * 0.05 for k, v in plain.state_dict().items()}
        vae = comfy.sd.VAE(sd=state)
        model = build_tiny(tiny("WAN21_T2V"))
        model.model.latent_format.latent_channels = 16
        backend = pack.core("with_comfy.model_backend").ComfyBackend(model, vae, None)
        assert backend.encode_images(torch.rand(1, 3, 64, 64)).shape == (1, 16, 1, 8, 8)
        assert backend.encode_images(torch.rand(1, 5, 3, 64, 64)).shape == (1, 16, 2, 8, 8)


def test_an_image_vae_says_that_it_takes_no_clips(pack) -> None:
    model, clip, vae = pack.core("with_tiny.model_in_comfy").load_demo(pack.core("with_tiny.model").load_weights())
    backend = pack.core("with_comfy.model_backend").ComfyBackend(model, vae, clip)
    with pytest.raises(pack.core("config.checks").SliderError, match="takes single images, no clips"):
        backend.encode_images(torch.rand(1, 5, 3, 64, 64))


def test_another_vae_or_clip_under_the_same_name_is_noticed(prompt: dict, run_graph, pack) -> None:
    run_graph(prompt, slider=("6", 0))
    weights = pack.core("with_tiny.model").load_weights()
    text = next(k for k in weights if k.startswith("text.") and weights[k].ndim == 2)
    weights[text] = weights[text] * 1.01
    _, clip, _ = pack.core("with_tiny.model_in_comfy").load_demo(weights)
    prompt["clip"] = run_graph.give(clip)
    prompt["6"]["inputs"]["clip"] = ["clip", 0]
    with pytest.raises(run_graph.Error, match="another VAE or text encoder"):
        run_graph(prompt, slider=("6", 0))
