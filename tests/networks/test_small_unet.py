import pytest
import torch
from torch.nn.functional import interpolate, pad, pixel_shuffle

from pellucid.networks._small_unet import SmallUNet, _doubled, blur, enlarge
from pellucid.networks._strips import STRIP


def test_map_has_the_size_of_the_input_and_depends_on_bias() -> None:
    network = SmallUNet(3, 5, (8, 12), detail=4)
    image = torch.rand(2, 3, 16, 24)
    assert network.stride == 4
    assert network(image).shape == (2, 5, 16, 24)
    assert not torch.equal(network(image), network(image, torch.ones(2, 8)))


def test_without_detail_all_is_made_at_half_the_resolution() -> None:
    assert SmallUNet(3, 5, (8, 12))(torch.rand(1, 3, 8, 8)).shape == (1, 5, 8, 8)


def test_absolute_values_are_seen() -> None:
    network = SmallUNet(1, 1, (8, 8), detail=4)
    dark, bright = (network(torch.full((1, 1, 16, 16), value)) for value in (0.1, 0.9))
    assert (dark - bright).abs().mean() > 1e-3


def test_four_pixels_of_one_are_blurred_into_one_another() -> None:
    even = torch.tensor([0.1, 0.4, 0.2, 0.9]).view(1, 4, 1, 1).expand(2, 4, 6, 6)
    torch.testing.assert_close(_doubled(even), torch.full((2, 1, 12, 12), 0.4))
    step = torch.zeros(1, 4, 4, 4)
    step[..., 2:] = 1
    torch.testing.assert_close(_doubled(step)[0, 0, 2], torch.tensor([0, 0, 0, 0.25, 0.75, 1, 1, 1]))


@pytest.mark.parametrize("height", [3, STRIP, 2 * STRIP + 5])
def test_strips_of_a_doubled_map_are_the_whole(height: int) -> None:
    maps = torch.rand(2, 8, height, 10).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = _doubled(maps)
    torch.testing.assert_close(found, blur(pad(pixel_shuffle(maps, 2), (1, 1, 1, 1), mode="reflect")))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (16, 24)])
def test_enlarged_maps_are_bilinear(size: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *size)
    wanted = interpolate(maps, scale_factor=2, mode="bilinear")
    with torch.inference_mode():
        torch.testing.assert_close(enlarge(maps), wanted)
    torch.testing.assert_close(enlarge(maps), wanted)


@pytest.mark.parametrize("beyond", ["zeros", "replicate"])
def test_automatic_precision_makes_no_map_of_float32(beyond: str) -> None:
    network, seen = SmallUNet(3, 5, (8, 8), detail=4, beyond=beyond), list[torch.dtype]()  # type: ignore[arg-type]
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, given, made: seen.extend((given[0].dtype, made.dtype)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 3, 16, 16, dtype=torch.bfloat16))
    assert set(seen) == {torch.bfloat16}


def test_there_is_no_line_along_the_edges_if_the_outermost_pixels_lie_beyond_them() -> None:
    even = torch.full((1, 3, 32, 48), 0.4)
    found = SmallUNet(3, 5, (8,), detail=4, beyond="replicate")(even)
    torch.testing.assert_close(found, found[..., 16:17, 16:17].expand_as(found))
    zeros = SmallUNet(3, 5, (8,), detail=4)(even)
    assert not torch.allclose(zeros[..., 0, :], zeros[..., 16, :])
