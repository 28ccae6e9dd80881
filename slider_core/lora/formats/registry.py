"""Every file format. To add one: its file in this folder, a member of FileFormat, and a line here."""

from __future__ import annotations

from ..algorithms.lora import DOWN, UP
from ..file_format import Format
from .diffusers import Diffusers
from .kohya import Kohya
from .lycoris import Lycoris
from .native import Native
from .peft import Peft

ALL: tuple[Format, ...] = (Diffusers(), Kohya(), Lycoris(), Native(), Peft())
FORMATS = {form.name: form for form in ALL}


def key_endings() -> dict[str, str]:
    """What a tensor's key may end with -> our name of the tensor, longest first."""
    endings: dict[str, str] = {}
    for form in ALL:
        endings |= {form.lora[0]: DOWN, form.lora[1]: UP, **form.endings}
    return {ending: endings[ending] for ending in sorted(endings, key=len, reverse=True)}
