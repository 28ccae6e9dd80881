"""What is done with a finished slider, whatever the model: strengths over sampling, sweeps, plots, files to show.

In: a Slider, strengths, prompts; images that a sampler drew.
Out: strips, curves, pages.
"""
