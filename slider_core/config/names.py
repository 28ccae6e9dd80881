"""Names of files: one function makes them out of a slider's name, one checks those that a user gives.

Limits are in bytes: most file systems take 255, and a file is first written under a longer name beside its place.
"""

from __future__ import annotations

import hashlib
import re

from .checks import clean_text, need, shown

LONGEST_STEM = 120  # bytes of a slider's name in a file name; an ending and a step's number follow
LONGEST = 200  # bytes of a file name
# what Windows takes for a device, whatever its ending
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$|clock\$)\s*(\..*)?")
REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')


def file_stem(name: str) -> str:
    """A slider's name as a file name of its own, on every system: names that differ by more than their case stay apart."""
    plain = _in_bytes(re.sub(r"[^\w .-]", "_", name), LONGEST_STEM).strip(" .")
    if plain and plain == name and not RESERVED.fullmatch(plain):
        return plain
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    if not plain or RESERVED.fullmatch(plain):
        return f"slider-{plain}-{mark}".replace("--", "-")
    return f"{plain}-{mark}"


def nested_stem(name: str) -> str:
    """A slider's name as a file's name below folders, "smiles/first", where each part can stand as it is; else `file_stem`."""
    parts = name.split("/")
    plain = all(file_stem(part) == part for part in parts) and len(name.encode()) <= LONGEST_STEM
    return name if plain else file_stem(name)


def _in_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "surrogatepass")[:most].decode("utf-8", "ignore")


def check_file_name(name: str, what: str) -> None:
    """SliderError unless `name` can be a file's on every system. `what` names the choice that it came from."""
    where = f'{what} "{shown(clean_text(name))}"'
    need(bool(name.strip(" .")), f"{where} is no file name: give at least one letter.", "file.no_name")
    need(not REFUSED.search(name), f"{where} holds a character that no file name can have: leave it out.", "file.name")
    length = len(name.encode())
    message = f"{where} is too long for a file name: {length} bytes, {LONGEST} at most."
    need(length <= LONGEST, message, "file.name_too_long")
    need(not RESERVED.fullmatch(name), f"{where} is a name that Windows keeps for a device: choose another.", "file.reserved")
    need(name == name.rstrip(" ."), f"{where} ends in a dot or a space, which Windows leaves out: choose another.", "file.name")
