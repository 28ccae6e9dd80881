"""Families of video and sound models (family.py has the rule). A slider of looks learns from single frames: `frames` is 1.

Frames a second are those of the template that `drawing` names. Where there is none they are not known.
"""

from __future__ import annotations

from .family import GUESS, Drawing, Family, Training, Variant

STILL = "the template's own size or a smaller one; single frames"
SOUND = Training(512, "sound has no pixels")

# fmt: off
VIDEO_AND_SOUND = (
    Family("mochi", "Genmo Mochi", "mochi", Drawing(30, 4.5, source=GUESS), Training(480, GUESS), size=480),
    Family("cogvideox", "CogVideoX", "cogvideox", Drawing(50, 6.0, source=GUESS), Training(480, GUESS), size=480),
    Family("stableaudio3", "Stable Audio 3", "stableaudio3", Drawing(8, 1.0, "lcm", source="audio_stable_audio_3_medium"),
           SOUND, few_step=True, variants=(
        Variant("Stable Audio 3 base", r"base", Drawing(50, 7.0, "lcm", source="audio_stable_audio_3_medium_base"),
                few_step=False),
    )),
    Family("stableaudio", "Stable Audio Open", "stableaudio",
           Drawing(50, 5.0, "dpmpp_3m_sde_gpu", "exponential", source="audio_stable_audio_example"), SOUND),
    Family("minimaxmusic", "MiniMax Music 3", "minimaxmusic", Drawing(30, 1.7, source="audio_minimax_music_3"), SOUND),
    Family("acestep", "ACE-Step 1", "acestep", Drawing(50, 5.0, shift=5.0, source="audio_ace_step_1_t2a_song"), SOUND),
    Family("acestep15", "ACE-Step 1.5", "acestep15", Drawing(50, 6.0, source="audio_ace_step1_5_xl_base"), SOUND, variants=(
        Variant("ACE-Step 1.5 turbo", r"turbo", Drawing(8, 1.0, source="audio_ace_step1_5_xl_turbo")),
    )),
    Family("hunyuanimage", "HunyuanImage 2.1", "hunyuan", Drawing(50, 3.5, source=GUESS), Training(512, GUESS),
           host=("HunyuanImage21", "HunyuanImage21Refiner"), variants=(
        Variant("HunyuanImage 2.1 distilled", r"distill", Drawing(8, 1.0, source=GUESS)),
    )),
    Family("hunyuan15", "HunyuanVideo 1.5, Capybara", "hunyuan", Drawing(20, 6.0, source="video_hunyuan_video_1.5_720p_t2v"),
           Training(480, STILL), host=("HunyuanVideo15", "HunyuanVideo15_SR_Distilled"), size=720, fps=24, variants=(
        Variant("HunyuanVideo 1.5 without cfg", r"cfg[-_]?distill", Drawing(20, 1.0, source=GUESS), few_step=False),
        Variant("HunyuanVideo 1.5 upscaler", r"sr_distill", Drawing(8, 1.0, source="video_hunyuan_video_1.5_720p_t2v")),
    )),
    Family("hunyuan", "HunyuanVideo", "hunyuan", Drawing(20, 1.0, guidance=6.0, source="hunyuan_video_text_to_video"),
           Training(480, STILL), size=640, fps=24),
    Family("ltx2", "LTX-2", "ltx", Drawing(20, 4.0, source="video_ltx2_t2v; its LTXVScheduler has no name in a menu"),
           Training(512, STILL), host=("LTXAV",), size=704, fps=25, variants=(
        Variant("LTX-2 distilled", r"distill",
                Drawing(8, 1.0, source="video_ltx2_t2v_distilled; its ManualSigmas have no name")),
    )),
    Family("ltx", "LTX-Video", "ltx", Drawing(30, 3.0, source="ltxv_text_to_video; its LTXVScheduler has no name in a menu"),
           Training(512, STILL), size=640, fps=24),
    Family("minimaxh3", "MiniMax H3", "minimaxh3",
           Drawing(20, 1.0, "res_multistep", source="video_minimax_h3_t2v, its LoRA off"), Training(512, STILL), size=640, fps=24,
           variants=(
        Variant("MiniMax H3 turbo", r"turbo", Drawing(6, 1.0, "res_multistep", source="video_minimax_h3_t2v, its LoRA on")),
    )),
    Family("wan22-5b", "Wan 2.2 5B", "wan", Drawing(20, 5.0, "uni_pc", source="video_wan2_2_5B_ti2v"), Training(480, STILL),
           host=("WAN22_T2V",), size=704, fps=24),
    Family("wan-animate2", "Wan Animate 2", "wan", Drawing(10, 1.0, "lcm", source="video_wan_animate2_distilled"),
           Training(480, STILL), host=("WAN_Animate2",), size=640, fps=30),
    Family("wan-causal", "Wan Causal Forcing", "wan", Drawing(4, 1.0, source="video_causal_forcing_i2v"), Training(480, STILL),
           host=("WAN21_CausalAR_T2V",), size=640, fps=16, few_step=True),
    Family("wan", "Wan 2.1, 2.2", "wan", Drawing(30, 6.0, "uni_pc", source="text_to_video_wan"), Training(480, STILL), size=640,
           fps=16, variants=(
        Variant("Wan LightX2V", r"lightx2v", Drawing(4, 1.0, shift=5.0, source="video_wan2_2_14B_t2v")),
    )),
    Family("cosmos", "Cosmos 1", "cosmos", Drawing(20, 6.5, scheduler="karras", source=GUESS), Training(704, GUESS), size=704),
    Family("anima", "Anima", "cosmos-predict2", Drawing(30, 4.0, source="image_anima_base_v1"), Training(1024, GUESS),
           host=("Anima",)),
    Family("cosmos2", "Cosmos Predict2", "cosmos-predict2", Drawing(35, 4.0, source=GUESS), Training(768, GUESS)),
    Family("kandinsky5-image", "Kandinsky 5 image", "kandinsky5", Drawing(50, 3.5, source="image_kandinsky5_t2i"),
           Training(768, GUESS), host=("Kandinsky5Image",)),
    Family("kandinsky5", "Kandinsky 5 video", "kandinsky5",
           Drawing(50, 5.0, "euler_ancestral", "beta", shift=5.0, source="video_kandinsky5_t2v"), Training(512, STILL),
           size=640, fps=24),
    Family("seedvr2", "SeedVR2", "seedvr2", Drawing(1, 1.0, source="utility_seedvr2_3b_int8_upscale_image"),
           Training(512, GUESS), few_step=True),
)
