"""Images to compute losses of, and the terms of the shelf."""

from dataclasses import replace

import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.losses._shelf import Loss, Needs, build_term
from pellucid.networks._vgg import Lpips, Vgg


def flat(value: float, size: int = 16) -> Tensor:
    return torch.full((1, 2, size, size), value)


def loss_batch(*, target: Tensor, degraded: Tensor | None = None, cloud: float = 1.0) -> Batch:
    return Batch(
        degraded=torch.zeros_like(target) if degraded is None else degraded,
        target=target,
        cloud=torch.full_like(target[:, :1], cloud),
        valid=torch.ones_like(target[:, :1], dtype=torch.bool),
        key=tuple(f"image {i}" for i in range(len(target))),
    )


def noisy(seed: int = 0) -> tuple[Tensor, Batch]:
    generator = torch.Generator().manual_seed(seed)
    restored, target, degraded = torch.rand(3, 2, 3, 24, 24, generator=generator)
    made = loss_batch(target=target, degraded=degraded)
    return restored, replace(made, cloud=torch.rand(2, 1, 24, 24, generator=generator))


def term(name: str) -> Loss:
    """Return a term of the shelf, or another; VGG is small and has random weights."""
    needs = Needs(
        bands=3,
        has_clouds=True,
        seed=0,
        perceptual_weights="any",
        load_vgg=_small_vgg,
        lpips_weights="any",
        load_lpips=_small_lpips,
    )
    return build_term(name, needs)


def _small_lpips(source: str) -> Lpips:
    return Lpips(_small_vgg(source), [torch.linspace(0.5, 1, 128).view(1, -1, 1, 1)])


def _small_vgg(_source: str) -> Vgg:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # After the second block's ReLU: half as many pixels per side.
        return Vgg((1, 1, 1, 1, 1), taps=[4])
