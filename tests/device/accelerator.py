"""ComfyUI on the device: it is taken for an Ascend NPU, and comfy-aimdo's dynamic VRAM has a stand-in over its memory.

`Pages` lends a layer's memory as comfy-aimdo does. What becomes of it when the layer is done is `Pages.policy`: EVICT makes it
garbage at once, KEEP leaves it, NONE never lends any.
"""

from __future__ import annotations

import importlib.machinery
import inspect
import sys
import textwrap
import types
from typing import Any, ClassVar

import torch
from device.building import built

NAME = "npu"
TOTAL = 8 * 2**30
GARBAGE = 0x7F
EVICT, KEEP, NONE = "evict", "keep", "none"
SMALL_LAYERS = "16 * 1024"  # in ComfyUI: layers below it are loaded for good, and all of a tiny model are


class Pages:
    """In the place of comfy_aimdo.model_vbar.ModelVBAR: one for each model and device."""

    policy: ClassVar[str] = EVICT
    faults: ClassVar[int] = 0

    def __init__(self, _size: int, _device: int) -> None:
        self.memory: dict[int, torch.Tensor] = {}  # by offset
        self.pins: dict[int, int] = {}
        self.filled: dict[int, bytes] = {}  # the signature of what lies there
        self.end = self.count = 0

    def prioritize(self, *_args: Any) -> None:
        """All pages are alike."""

    def alloc(self, size: int) -> tuple[Pages, int, int]:
        offset = self.end
        self.memory[offset] = torch.full((size,), GARBAGE, dtype=torch.uint8, device=NAME)
        self.end += size
        return self, offset, size

    def fault(self, offset: int) -> bytes | None:
        Pages.faults += 1
        if Pages.policy == NONE:
            return None
        self.pins[offset] = self.pins.get(offset, 0) + 1
        if offset not in self.filled:
            self.count += 1
            self.filled[offset] = str(self.count).encode()
        return self.filled[offset]

    def unpin(self, offset: int) -> None:
        self.pins[offset] = self.pins.get(offset, 0) - 1
        if Pages.policy == EVICT and self.pins[offset] <= 0:
            self.drop(offset)

    def drop(self, offset: int) -> int:
        if self.filled.pop(offset, None) is None:
            return 0
        with torch.inference_mode():
            self.memory[offset].fill_(GARBAGE)
        return self.memory[offset].numel()

    def loaded_size(self) -> int:
        return sum(self.memory[offset].numel() for offset in self.filled)

    def free_memory(self, wanted: float) -> int:
        freed = 0
        for offset in list(self.filled):
            if self.pins.get(offset, 0) <= 0 and freed < wanted:
                freed += self.drop(offset)
        return freed

    @property
    def pinned(self) -> int:
        return sum(count > 0 for count in self.pins.values())


def _torch_device(extension: Any) -> types.ModuleType:
    device = types.ModuleType("torch.npu")
    values = {
        "device_count": 1, "is_available": True, "is_initialized": True, "current_device": 0, "set_device": None,
        "_is_in_bad_fork": False, "manual_seed_all": None, "synchronize": None, "empty_cache": None,
        "get_device_name": "a device that is none", "get_amp_supported_dtype": [torch.float16, torch.bfloat16],
    }  # fmt: skip
    for name, value in values.items():
        setattr(device, name, lambda *_args, value=value: value)
    device.memory_stats = lambda *_args: {
        "active_bytes.all.current": extension.used(),
        "reserved_bytes.all.current": extension.used(),
    }
    device.mem_get_info = lambda *_args: (TOTAL - extension.used(), TOTAL)
    return device


def install() -> Any:
    """torch has the device and ComfyUI, once imported, takes it. Gives the extension, which counts and limits."""
    if "torch_npu" in sys.modules:
        return sys.modules["torch_npu"].extension
    extension = built()
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _torch_device(extension))
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    module = types.ModuleType("torch_npu")
    module.__spec__ = importlib.machinery.ModuleSpec("torch_npu", None)  # transformers and accelerate ask for it
    module.npu_fusion_attention = module.npu_rotary_mul = None
    module.extension = extension
    sys.modules["torch_npu"] = module
    torch.version.cuda = None
    return extension


def install_dynamic_vram() -> None:
    """ComfyUI's dynamic VRAM over `Pages`, for tiny layers too."""
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar as model_vbar
    import comfy_aimdo.torch as aimdo_torch

    class HostBuffer:
        def __init__(self, *_args: Any, **_kwargs: Any) -> None:
            self.size = 0

        def truncate(self, *_args: Any, **_kwargs: Any) -> None:
            """Nothing is pinned in main memory."""

    comfy_aimdo.host_buffer.HostBuffer = HostBuffer
    model_vbar.ModelVBAR = Pages
    model_vbar.vbar_fault = lambda page: page[0].fault(page[1])
    model_vbar.vbar_unpin = lambda page: None if page is None else page[0].unpin(page[1])
    model_vbar.vbar_signature_compare = lambda one, other: one is not None and one == other
    model_vbar.vbars_reset_watermark_limits = lambda: None
    model_vbar.vbars_analyze = lambda _device=None: 0
    aimdo_torch.aimdo_to_tensor = lambda page, _device: page[0].memory[page[1]]

    from comfy import memory_management, model_patcher

    memory_management.aimdo_enabled = True
    for cls, name, replaced in (
        (model_patcher.ModelPatcherDynamic, "load", (SMALL_LAYERS, "0")),
        (
            model_patcher.ModelPatcher,
            "_load_list",
            ("param.data = param.data.to(", "m._parameters[param_name] = _frozen(param.data.to("),
        ),
    ):
        _rewrite(model_patcher, cls, name, *replaced)


def _rewrite(module: Any, cls: type, name: str, old: str, new: str) -> None:
    """One method of ComfyUI's with a part of its text replaced: a layer's size from which pages are used; a parameter that goes
    to another kind of device, which torch refuses for this one."""
    text = textwrap.dedent(inspect.getsource(getattr(cls, name)))
    assert old in text, f"ComfyUI's {cls.__name__}.{name} has changed: no {old!r} in it"
    text = text.replace(old, new)
    if "_frozen(" in new:
        lines = []
        for line in text.splitlines():
            lines.append(f"{line}, requires_grad=False)" if "_frozen(" in line else line)
        text = "\n".join(lines).replace("_frozen(", "torch.nn.Parameter(")
    whole = compile(text, inspect.getfile(cls), "exec")
    [code] = [part for part in whole.co_consts if isinstance(part, types.CodeType) and part.co_name == name]
    original = getattr(cls, name)
    function = types.FunctionType(code, vars(module), name, original.__defaults__)
    function.__kwdefaults__ = original.__kwdefaults__
    setattr(cls, name, function)
