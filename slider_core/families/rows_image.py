"""Families of image models (family.py has the rule)."""

from __future__ import annotations

from .family import GUESS, MEASURED, Drawing, Family, Training, Variant

# Training resolutions: what the model was made for, but where a default run (300 steps, batch 4, readings, calibration) would
# take much longer than 45 minutes on a card of 165 TFLOP/s at 40 % (FLOPs counted on the full-size model, no run on a card).
NATIVE = "what the model was made for"
FLOPS = "counted FLOPs: {} min at {} pixels"
LARGE = "a place to start: as other models of that size"
GUIDED = (r"^(?:guidance_in|time_guidance_embed)\.",)
SDXL_CLASSES = ("SDXL", "SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix", "SDXLRefiner")
SDXL_TEMPLATE = "sdxl_simple_example"
KLEIN = "image_flux2_klein_text_to_image; its Flux2Scheduler has no name in a menu"
DEFAULT_GRAPH = "the graph that ComfyUI opens with"

# fmt: off
IMAGE = (
    Family("tiny", "the built-in model", "general", Drawing(16, 1.0, source=MEASURED), Training(64, MEASURED), size=64),
    Family("sdxl", "SDXL", "unet", Drawing(25, 8.0, scheduler="normal", source=SDXL_TEMPLATE),
           Training(1024, FLOPS.format(13, 1024)), host=SDXL_CLASSES, variants=(
        Variant("SDXL Turbo", r"sd_?xl_?turbo|turbo_1\.0", Drawing(1, 1.0, "euler_ancestral", source="sdxlturbo_example"),
                size=512, resolution=512),
        Variant("SDXL Lightning", r"lightning", Drawing(4, 1.0, scheduler="sgm_uniform", source="the distilled model's page")),
    )),
    Family("sd2", "SD 2.x", "unet", Drawing(20, 8.0, scheduler="normal", source=DEFAULT_GRAPH), Training(768, NATIVE),
           host=("SD20", "SD21UnclipL", "SD21UnclipH"), size=768, variants=(
        Variant("SD Turbo", r"sd[-_]?turbo", Drawing(1, 1.0, "euler_ancestral", source=GUESS), size=512, resolution=512),
    )),
    Family("svd", "SVD, SV3D", "unet", Drawing(20, 2.5, scheduler="karras", source=GUESS), Training(576, GUESS),
           host=("SVD_img2vid", "SV3D_u", "SV3D_p"), size=576),
    Family("sd1", "SD 1.x", "unet", Drawing(20, 8.0, scheduler="normal", source=DEFAULT_GRAPH),
           Training(512, FLOPS.format(1, 512)), size=512),
    Family("sdxs", "SDXS 0.9", "sdxs", Drawing(1, 1.0, source=GUESS), Training(512, NATIVE), size=512, few_step=True),
    Family("upscaler", "SD x4 upscaler", "upscaler", Drawing(20, 7.0, source=GUESS), Training(512, GUESS), size=512),
    Family("cascade", "Stable Cascade", "cascade", Drawing(20, 4.0, source=GUESS), Training(1024, NATIVE)),
    Family("sd3", "Stable Diffusion 3, 3.5", "sd3", Drawing(20, 4.0, scheduler="sgm_uniform", source="sd3.5_simple_example"),
           Training(1024, FLOPS.format(21, 1024)), variants=(
        Variant("SD 3.5 Turbo", r"turbo", Drawing(4, 1.0, scheduler="sgm_uniform", source=GUESS)),
    )),
    Family("auraflow", "AuraFlow", "auraflow", Drawing(25, 3.5, source=GUESS), Training(768, LARGE)),
    Family("pixart", "PixArt Alpha, Sigma", "pixart", Drawing(20, 4.5, source=GUESS), Training(1024, NATIVE)),
    Family("hunyuandit", "Hunyuan DiT", "hunyuandit", Drawing(25, 6.0, source=GUESS), Training(1024, NATIVE)),
    Family("radiance", "Chroma Radiance", "chroma",
           Drawing(30, 3.5, scheduler="beta", shift=1.0, source="image_chroma1_radiance_text_to_image"), Training(512, LARGE),
           host=("ChromaRadiance",)),
    Family("chroma", "Chroma", "chroma", Drawing(26, 3.5, scheduler="beta", shift=1.0, source="image_chroma_text_to_image"),
           Training(512, FLOPS.format(127, 1024)), variants=(
        Variant("Chroma flash", r"flash", Drawing(16, 1.0, scheduler="beta", shift=1.0, source=GUESS)),
    )),
    Family("flux2", "Flux.2 dev", "flux2",
           Drawing(20, 1.0, guidance=4.0, source="image_flux2_text_to_image; its Flux2Scheduler has no name in a menu"),
           Training(512, LARGE), has=GUIDED),
    Family("klein", "Flux.2 klein base", "flux2", Drawing(20, 5.0, source=KLEIN), Training(768, FLOPS.format(66, 1024)),
           variants=(
        Variant("Flux.2 klein distilled", r"klein(?!.*base)", Drawing(4, 1.0, source=KLEIN)),
    )),
    Family("longcat", "LongCat-Image", "flux", Drawing(20, 4.0, guidance=4.0, source="image_longcat_text_to_image"),
           Training(512, LARGE), host=("LongCatImage",)),
    Family("ovis", "Ovis-Image", "flux", Drawing(20, 5.0, shift=3.0, source="image_ovis_text_to_image"), Training(512, LARGE),
           host=("FluxSchnell",), lacks=(r"^vector_in\.",)),
    Family("schnell", "Flux.1 schnell", "flux", Drawing(4, 1.0, source="flux_schnell"), Training(512, FLOPS.format(32, 512)),
           lacks=GUIDED, few_step=True),
    Family("flux", "Flux.1 dev, Krea, fill", "flux",
           Drawing(20, 1.0, guidance=3.5, source="flux_dev_full_text_to_image; guidance: the host's own"),
           Training(512, FLOPS.format(32, 512))),
    Family("zimage", "Z-Image", "lumina", Drawing(25, 4.0, "res_multistep", source="image_z_image"),
           Training(768, FLOPS.format(106, 1024)), host=("ZImage", "ZImagePixelSpace"), variants=(
        Variant("Z-Image Turbo", r"turbo", Drawing(8, 1.0, "res_multistep", source="image_z_image_turbo")),
    )),
    Family("lumina", "Lumina 2, NetaYume, NewBie", "lumina",
           Drawing(30, 4.0, "res_multistep", shift=4.0, source="image_netayume_lumina_t2i"),
           Training(1024, FLOPS.format(43, 1024)), variants=(
        Variant("NewBie", r"newbie", Drawing(20, 5.5, "res_multistep", shift=6.0, source="image_newbieimage_exp0_1-t2i"),
                few_step=False),
    )),
    Family("pid", "PiD", "pixeldit", Drawing(4, 1.0, "lcm", source="utility_pid_latent_upscale_dit"), Training(1024, NATIVE),
           host=("PiD",), few_step=True),
    Family("pixeldit", "PixelDiT", "pixeldit", Drawing(30, 4.0, "er_sde", source="image_pixeldit_t2i"), Training(1024, NATIVE)),
    Family("mageflow", "Mage-Flow", "qwen", Drawing(30, 5.0, source="image_mage_flow_t2i_int8"), Training(1024, NATIVE),
           host=("MageFlow",), variants=(
        Variant("Mage-Flow Turbo", r"turbo", Drawing(4, 1.0, source="image_mage_flow_turbo_t2i_int8")),
    )),
    Family("qwen", "Qwen-Image", "qwen", Drawing(50, 4.0, source="image_qwen_Image_2512"), Training(512, FLOPS.format(60, 720)),
           size=1328, variants=(
        Variant("Qwen-Image Lightning", r"lightning", Drawing(8, 1.0, source="image_qwen_image")),
    )),
    Family("lens", "Lens", "lens", Drawing(20, 5.0, source="image_lens_t2i"), Training(768, LARGE), size=1440, variants=(
        Variant("Lens Turbo", r"turbo", Drawing(4, 1.0, source="image_lens_turbo_t2i")),
    )),
    Family("joyimage", "JoyImage Edit", "joyimage", Drawing(40, 4.0, scheduler="normal", source="image_joyai_image_edit"),
           Training(512, LARGE)),
    Family("hidream", "HiDream I1 full, E1", "hidream", Drawing(50, 5.0, "uni_pc", source="hidream_i1_full"),
           Training(512, LARGE), variants=(
        Variant("HiDream I1 dev", r"dev", Drawing(28, 1.0, "lcm", "normal", shift=6.0, source="hidream_i1_dev"),
                few_step=False),
        Variant("HiDream I1 fast", r"fast(?!.*full)", Drawing(16, 1.0, "lcm", "normal", source="hidream_i1_fast")),
    )),
    Family("hidream-o1", "HiDream O1", "hidream-o1", Drawing(40, 5.0, "dpmpp_2m_sde_gpu", "normal", source="image_hidream_o1"),
           Training(512, LARGE), variants=(
        Variant("HiDream O1 dev", r"dev", Drawing(28, 1.0, scheduler="normal", source="image_hidream_o1_dev"), few_step=False),
    )),
    Family("omnigen2", "OmniGen2", "omnigen2", Drawing(20, 5.0, source="image_omnigen2_t2i"), Training(768, LARGE)),
    Family("boogu", "Boogu-Image", "boogu", Drawing(20, 4.0, source=GUESS), Training(512, LARGE), variants=(
        Variant("Boogu-Image Turbo", r"turbo", Drawing(4, 1.0, "lcm", "sgm_uniform", source="image_boogu_image_0_1_turbo_t2i")),
    )),
    Family("krea2", "Krea 2", "krea2", Drawing(20, 4.0, source=GUESS), Training(512, LARGE), variants=(
        Variant("Krea 2 Turbo", r"turbo", Drawing(8, 1.0, source="image_krea2_turbo_t2i")),
    )),
    Family("ideogram4", "Ideogram 4", "ideogram4",
           Drawing(20, 7.0, source="image_ideogram4_t2i; its second model and Ideogram4Scheduler are left out"),
           Training(512, LARGE)),
    Family("ernie", "ERNIE-Image", "ernie", Drawing(20, 4.0, source="image_ernie_image"), Training(512, LARGE), variants=(
        Variant("ERNIE-Image Turbo", r"turbo", Drawing(8, 1.0, source="image_ernie_image_turbo")),
    )),
)
