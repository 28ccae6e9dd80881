"""One table by family: what a model is trained at and drawn with."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from slider_core.families.distilled import steps_in
from slider_core.families.table import FAMILIES, TINY, ModelFacts, preferences
from slider_core.layers.recognise import ARCHITECTURES
from slider_core.use.sampling import SamplerSettings

ROOT = Path(__file__).resolve().parents[2]
GUIDED = ("guidance_in.in_layer", "vector_in.in_layer")
# architecture, host's class, module paths, files -> steps, cfg, sampler, few_steps, training resolution
MODELS = [
    ("unet", "SDXL", (), "sd_xl_base_1.0", (25, 8.0, "euler", 0, 1024)),
    ("unet", "SDXL", (), "sd_xl_turbo_1.0_fp16", (1, 1.0, "euler_ancestral", 1, 512)),
    ("unet", "SDXL", (), "DreamShaperXL_v21TurboDPMSDE", (8, 1.0, "euler", 8, 1024)),
    ("unet", "SDXL", (), "sd_xl_base_1.0 sdxl_lightning_4step_lora", (4, 1.0, "euler", 4, 1024)),
    ("unet", "SDXL", (), "dmd2_sdxl_4step_lora", (4, 1.0, "lcm", 4, 1024)),
    ("unet", "SD15", (), "hyperrealism_v3", (20, 8.0, "euler", 0, 512)),
    ("unet", "SD15", (), "Hyper-SD15-12steps-lora", (12, 1.0, "euler", 12, 512)),
    ("unet", "SD15", (), "mine_20000steps", (20, 8.0, "euler", 0, 512)),
    ("unet", "SD15", (), "lcm-lora-sdv1-5", (8, 1.0, "lcm", 8, 512)),
    ("flux", "Flux", GUIDED, "flux1-dev", (20, 1.0, "euler", 0, 512)),
    ("flux", "FluxSchnell", GUIDED[1:], "unnamed", (4, 1.0, "euler", 4, 512)),
    ("flux2", "Flux2", (), "flux-2-klein-4b-fp8", (4, 1.0, "euler", 4, 768)),
    ("flux2", "Flux2", (), "flux-2-klein-base-4b-fp8", (20, 5.0, "euler", 0, 768)),
    ("lumina", "ZImage", (), "z_image_turbo_bf16", (8, 1.0, "res_multistep", 8, 768)),
    ("lumina", "ZImage", (), "z_image_turbo zimage_turbo_training_adapter_v2", (8, 1.0, "res_multistep", 0, 768)),
    ("lumina", "ZImage", (), "z-image-de-turbo", (25, 4.0, "res_multistep", 0, 768)),
    ("flux", "Flux", GUIDED, "flux-dev-de-distill", (20, 1.0, "euler", 0, 512)),
    ("flux", "Flux", GUIDED, "flux_dedistilled Hyper-FLUX-8steps-lora", (8, 1.0, "euler", 8, 512)),
    ("qwen", "QwenImage", (), "qwen_image Qwen-Image-Lightning-4steps-V1.0", (4, 1.0, "euler", 4, 512)),
    ("hunyuan", "HunyuanVideo15", (), "hunyuanvideo1.5_720p_t2v_cfg_distilled_fp16", (20, 1.0, "euler", 0, 480)),
    ("", "Unheard", (), "of", (20, 4.0, "euler", 0, 512)),
]


def test_a_model_is_drawn_as_its_template_draws_it() -> None:
    for architecture, host, paths, files, wanted in MODELS:
        likes = preferences(ModelFacts(architecture, host, paths, files.split()))
        drawing = likes.drawing
        assert (drawing.steps, drawing.cfg, drawing.sampler, likes.few_steps, likes.training.resolution) == wanted, files


def test_a_person_says_whether_a_model_is_distilled() -> None:
    base = ModelFacts("lumina", "ZImage", (), ["mine.safetensors"])
    turbo = ModelFacts("lumina", "ZImage", (), ["z_image_turbo.safetensors"])
    assert [preferences(facts, "auto").few_steps for facts in (base, turbo)] == [0, 8]
    assert [preferences(facts, "yes").few_steps for facts in (base, turbo)] == [8, 8]
    assert [preferences(facts, "no").drawing.steps for facts in (base, turbo)] == [25, 25]
    assert preferences(turbo).reason == "z_image_turbo.safetensors"


def test_every_architecture_has_families_and_every_entry_a_source() -> None:
    assert {family.architecture for family in FAMILIES} == {architecture.name for architecture in ARCHITECTURES}
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.training.source
        for drawing in (family.drawing, *(variant.drawing for variant in family.variants)):
            assert drawing.source, family.name
            assert drawing.steps >= 1, family.name


def test_a_template_that_is_named_exists() -> None:
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    if spec is None:
        pytest.skip("ComfyUI's workflow templates are not installed")
    templates = {
        path.stem for path in Path(spec.submodule_search_locations[0]).parent.glob("comfyui_workflow_templates*/**/*.json")
    }
    drawings = [drawing for family in FAMILIES for drawing in (family.drawing, *(v.drawing for v in family.variants))]
    named = [re.split("[;,]", drawing.source)[0] for drawing in drawings]
    assert {name for name in named if re.fullmatch(r"\S+", name)} <= templates


def test_frames_a_second_are_those_that_the_template_saves() -> None:
    spec = importlib.util.find_spec("comfyui_workflow_templates_json")
    if spec is None:
        pytest.skip("ComfyUI's workflow templates are not installed")
    folder = Path(spec.submodule_search_locations[0]) / "templates"
    families = [family for family in FAMILIES if family.fps]
    assert {"wan", "ltx", "hunyuan"} <= {family.name for family in families}
    for family in families:
        template = json.loads((folder / f"{re.split('[;,]', family.drawing.source)[0]}.json").read_text(encoding="utf-8"))
        graphs = [template, *template.get("definitions", {}).get("subgraphs", [])]
        saved = {node["widgets_values"][0] for graph in graphs for node in graph["nodes"] if node["type"] == "CreateVideo"}
        assert saved == {family.fps}, family.name


def test_settings_take_what_was_left_to_the_model_and_say_so() -> None:
    likes = preferences(ModelFacts("unet", "SDXL"))
    assert SamplerSettings().for_model(likes) == SamplerSettings(25, 8.0, "euler", "normal")
    mine = SamplerSettings(7, 0.0, "dpmpp_2m", "auto")
    assert mine.for_model(likes) == SamplerSettings(7, 8.0, "dpmpp_2m", "normal")
    assert "cfg 8" in mine.summary(likes)
    assert "dpmpp_2m" not in mine.summary(likes)
    assert mine.for_model(likes).summary(likes) == ""


def test_steps_in_a_name() -> None:
    names = ["x-8steps", "x_4step_y", "x_step4000", "x-2000steps", "2-step", "99steps"]
    assert [steps_in(name) for name in names] == [8, 4, 0, 0, 2, 0]


def test_the_page_of_settings_is_current() -> None:
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "tools" / "make_settings.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert f"| {TINY.title} | 64 |" in text
    assert tool.page(text) == text
