"""How far two pictures of a sweep are apart: LPIPS where the package `lpips` is installed, else a root mean square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

NETWORK = "vgg"  # as Kontinuous Kontext has it


@dataclass(frozen=True)
class Metric:
    """`values`: (rows, strengths, ...) what is compared; `between`: two batches of them -> (B,) distances; `note`: why no better
    one was taken."""

    name: str
    values: torch.Tensor
    between: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    note: str = ""


def root_mean_square(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(B, ...) twice -> (B,). A length: a straight way has no triangle deficit."""
    return (first - second).float().flatten(1).square().mean(dim=1).sqrt()


def lpips(images: torch.Tensor, device: torch.device) -> Metric:
    """LPIPS of pictures (rows, strengths, 3, H, W) in [0, 1]; one pair at a time. ImportError without the package, OSError where
    its network cannot be had. Kontinuous Kontext's code hands it pictures in [0, 1]; here they are in [-1, 1], as LPIPS asks."""
    import lpips as package

    network = package.LPIPS(net=NETWORK, verbose=False).to(device).eval()

    @torch.no_grad()
    def between(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        distances = []
        for pair in zip(first, second, strict=True):
            one, other = (picture[None].to(device) * 2 - 1 for picture in pair)
            distances.append(network(one, other).flatten())
        return torch.cat(distances).cpu()

    return Metric(f"LPIPS ({NETWORK})", images, between)


def best_metric(images: torch.Tensor, latents: torch.Tensor | None, device: torch.device) -> Metric:
    """LPIPS, else the latents, else the pixels; the note names what is missing."""
    try:
        return lpips(images, device)
    except ImportError:
        note = 'no package "lpips" (pip install lpips)'
    except OSError as fault:
        note = f"the network of LPIPS cannot be had ({fault})"
    if latents is None:
        return Metric("pixels", images, root_mean_square, note)
    return Metric("latents", latents, root_mean_square, note)
