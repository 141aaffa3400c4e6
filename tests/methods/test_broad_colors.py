import math

import torch

from pellucid.methods.broad_colors import with_broad_colors


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(1, 3, 40, 48, generator=generator)
    return drawn, torch.rand(1, 3, 1, 1, generator=generator).expand_as(drawn)


def test_at_0_the_broad_colours_stand_alone_and_without_bound_the_drawn_ones() -> None:
    drawn, broad = images()
    assert with_broad_colors(drawn, broad, 0).equal(broad)
    assert with_broad_colors(drawn, broad, math.inf).equal(drawn)


def test_what_is_broader_than_the_detail_is_replaced() -> None:
    drawn, broad = images()
    mixed = with_broad_colors(drawn + 0.3, broad, 2.0)
    torch.testing.assert_close(mixed, with_broad_colors(drawn, broad, 2.0))  # a shift of all is broad
    torch.testing.assert_close(mixed.mean((2, 3)), broad.mean((2, 3)), atol=0.01, rtol=0)
    assert (mixed - broad).std() > 0.9 * drawn.std()  # noise is detail


def test_a_blur_wider_than_the_image_leaves_its_mean() -> None:
    drawn, broad = images()
    mixed = with_broad_colors(drawn[..., :8, :8], broad[..., :8, :8], 100.0)
    torch.testing.assert_close(mixed.mean((2, 3)), broad[..., 0, 0], atol=0.05, rtol=0)
