"""Install torch, torchvision and torchaudio that really import together, into the Python that runs this file.

    python tools/install_torch.py

ComfyUI imports all three. Their newest releases need not fit each other (torchaudio refuses a torch built for another CUDA), and
pip cannot see that, so: one pip call for the three, a trial import, and one minor version of torch less until the import works.
Nothing is pinned. A set that already imports is left as it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import metadata

TRIO = ("torch", "torchvision", "torchaudio")
TRIES = 4
# the last statement runs a compiled operator: torchvision imports without a word when its own library does not load
TRIAL = "import torch, torchvision, torchaudio; torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"


def fault() -> str:
    """The last line of what goes wrong when the three are imported, empty when all is well."""
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]


def older_torch() -> str:
    """A requirement for the release line before the installed torch, such as "torch<2.15"."""
    major, minor = metadata.version("torch").split(".")[:2]
    return f"torch<{major}.{minor}"


def pip_install(requirement: str) -> None:
    names = [requirement, *TRIO[1:]]
    sys.stdout.write(f"install_torch: pip install {' '.join(names)}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "pip", "install", "-qq", *names], check=True)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not fault():
        return 0
    requirement = "torch"
    for _ in range(TRIES):
        pip_install(requirement)
        error = fault()
        if not error:
            sys.stdout.write("install_torch: " + ", ".join(f"{n} {metadata.version(n)}" for n in TRIO) + " import together\n")
            return 0
        sys.stdout.write(f"install_torch: they do not import together: {error}\n")
        requirement = older_torch()
    sys.stderr.write(f"install_torch: no fitting set in {TRIES} tries: install torch, torchvision and torchaudio by hand\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
