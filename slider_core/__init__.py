"""The core of Slider LoRA: no ComfyUI needed. Read the files from left to right, as the data flows:

config > targets > dataset > backend > cache > cycle > adapter > objective > gain > trainer > store > sweep > session
and the leaves: world, tiny, demo (embedded), comfy_host, comfy_tiny (ComfyUI), __main__ (command line).
"""
