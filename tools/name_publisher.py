"""Fill in who publishes the pack, in pyproject.toml and README.md: python tools/name_publisher.py ACCOUNT [PUBLISHER_ID].

ACCOUNT is that of the repository; PUBLISHER_ID that of ComfyUI's registry, the same unless given.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "PUBLISHER-PLACEHOLDER"
ADDRESS = "<address of this repository>"


def filled(text: str, account: str, publisher: str) -> str:
    """A file's text with the names in place of the placeholders."""
    text = text.replace(f'PublisherId = "{PLACEHOLDER}"', f'PublisherId = "{publisher}"')
    text = re.sub(r"^# PLACEHOLDER: .*\n(#.*\n)*", "", text, flags=re.MULTILINE)
    return text.replace(PLACEHOLDER, account).replace(ADDRESS, f"https://github.com/{account}/slider-lora")


def main() -> None:
    names = sys.argv[1:]
    if not 1 <= len(names) <= 2 or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name) for name in names):
        sys.exit("Usage: python tools/name_publisher.py ACCOUNT [PUBLISHER_ID]: letters, digits and hyphens.")
    for path in (ROOT / "pyproject.toml", ROOT / "README.md"):
        path.write_text(filled(path.read_text(encoding="utf-8"), names[0], names[-1]), encoding="utf-8")


if __name__ == "__main__":
    main()
