"""What each family of models is trained at and drawn with, one row a family, with the source of every entry.

In: a diffusion model's architecture, the host's name for its class, its module paths, the names of its files.
Out: Preferences: training resolution, batch, frames; steps, cfg, guidance, sampler, scheduler,
shift; the levels of a distilled one.
"""
