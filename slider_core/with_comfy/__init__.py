"""The model that ComfyUI has loaded: trained through, drawn with, given back as it was.

In: ComfyUI's MODEL, CLIP, VAE, CONTROL_NET.
Out: a Backend, pictures at any strength, a patched MODEL, proven files.
"""
