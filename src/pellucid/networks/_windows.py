"""Windows of an image: the order of its pixels, the mask of shifted windows and relative positions.

All of it depends on sizes alone and is made once per size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Added to the logit of two pixels that meet in a window only because the image was rolled (Liu et al. 2021,
# arXiv:2103.14030). The published -100 leaves weights of 1e-44, denormal numbers that slow a CPU down.
FORBIDDEN = -1e4


def _once(function: Callable[..., T]) -> Callable[..., T]:
    """Return `function` with cached results, which serve training even if made in inference mode."""

    @lru_cache(maxsize=32)
    @wraps(function)
    def make(*arguments: Any) -> T:
        with torch.inference_mode(False), torch.no_grad():
            return function(*arguments)

    return make


@dataclass(frozen=True)
class Windows:
    """Where the pixels of a batch of images go when it is cut into N = B * windows of L pixels.

    The windows come in the order (window, sample); those that need a mask are the last.
    """

    size: tuple[int, int, int]  # (B, h, w)
    length: int  # L
    order: Tensor  # (B*h*w,) for each token, the pixel it comes from
    inverse: Tensor  # (B*h*w,) for each pixel, the token it goes to
    mask: Tensor | None  # (M, 1, L, L) added to the logits of the last M windows

    def cut(self, image: Tensor) -> Tensor:
        """Return (B, D, h, w) as tokens, (N, L, D)."""
        pixels = image.permute(0, 2, 3, 1).flatten(0, 2)  # a view if the layout is channels-last
        tokens = _Reorder.apply(pixels, self.order, self.inverse)  # type: ignore[no-untyped-call]
        return tokens.unflatten(0, (-1, self.length))

    def join(self, tokens: Tensor) -> Tensor:
        """Return tokens, (N, L, D), as images, (B, D, h, w) in channels-last layout."""
        pixels = _Reorder.apply(tokens.flatten(0, 1), self.inverse, self.order)  # type: ignore[no-untyped-call]
        return pixels.unflatten(0, self.size).permute(0, 3, 1, 2)


class _Reorder(torch.autograd.Function):
    """Rows in another order; the gradient takes the way back, much faster than a scattered sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, *ctx.saved_tensors), None, None


@_once
def window_order(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> Windows:
    """Return how images of height x width are cut; both must divide by `window`.

    The images are rolled by `shift` pixels up and left first, unless one window spans a side.
    """
    shift = 0 if min(height, width) <= window else shift
    pixels = torch.arange(batch * height * width, device=device).reshape(batch, height, width)
    cut = _cut(pixels.roll((-shift, -shift), (1, 2)), window)  # (windows, B, L)
    mask = None
    if shift:
        edge = torch.zeros(height // window, width // window, dtype=torch.bool, device=device)
        edge[-1], edge[:, -1] = True, True
        edge = edge.flatten()
        cut = torch.cat([cut[~edge], cut[edge]])
        mask = _mask(height, width, window, shift, device)[edge].repeat_interleave(batch, 0)[:, None]
    order = cut.flatten()
    return Windows((batch, height, width), window**2, order, order.argsort(), mask)


@_once
def relative_positions(window: int, device: torch.device) -> Tensor:
    """Return for each pair of a window's pixels, (L*L,), the row of the table of relative positions."""
    steps = torch.arange(window, device=device)
    place = torch.stack(torch.meshgrid(steps, steps, indexing="ij")).flatten(1)  # (2, L)
    row, column = place[:, :, None] - place[:, None, :] + window - 1  # (L, L) each, from 0
    return (row * (2 * window - 1) + column).flatten()


@_once
def mask_by_kind(window: int, shift: int, device: torch.device) -> Tensor:
    """Return the masks, (4, L, L), of shifted windows inside, at the right, below and in the corner."""
    return _mask(2 * window, 2 * window, window, shift, device)


def _cut(images: Tensor, window: int) -> Tensor:
    """Return (B, h, w) as (windows, B, L)."""
    batch, height, width = images.shape
    blocks = images.reshape(batch, height // window, window, width // window, window)
    return blocks.permute(1, 3, 0, 2, 4).reshape(-1, batch, window**2)


def _mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return (windows, L, L): 0 for pixels that are neighbours, `FORBIDDEN` for those that rolling joined."""
    region = torch.zeros(1, height, width, device=device)
    region[:, -window:-shift] += 1
    region[:, -shift:] += 2
    region[:, :, -window:-shift] += 3
    region[:, :, -shift:] += 6
    pixels = _cut(region, window)[:, 0]  # (windows, L)
    return (pixels[:, None] != pixels[:, :, None]) * FORBIDDEN
