"""The built-in model and the world it was trained on: everything can be tried and measured without ComfyUI.

In: nothing but the shipped weights.
Out: a Backend, a MODEL for ComfyUI, measured sweeps, the demo.
"""
