"""For the browser tests: ComfyUI's own checkpoint loader reads the narrow SDXL that make.py writes."""

from .narrow import install

NODE_CLASS_MAPPINGS: dict[str, type] = {}
install()
