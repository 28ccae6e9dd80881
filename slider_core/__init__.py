"""The core of Slider LoRA: no ComfyUI needed, but in `with_comfy/`.

The folder listing is the order of the data and of the imports: a module imports only names that sort before its own. Each folder
says in its `__init__.py` what comes in and what goes out. `__main__.py` and `commands/` are entrances and may import everything.
"""
