"""The layers of a diffusion model: which a slider may touch, and how a forward runs through them.

In: the host's diffusion model and a preset.
Out: Targets; which row of a layer belongs to which sample; checkpointing.
"""
