from pathlib import Path

import golden
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.networks import _dynamic_filter as module
from pellucid.networks._dynamic_filter import dynamic_filter


def plain(image: Tensor, kernels: Tensor, side: int) -> Tensor:
    """The definition: every pixel's neighbourhood times its kernel."""
    batch, channels, height, width = image.shape
    padded = F.pad(image, (side // 2,) * 4, mode="replicate")
    near = F.unfold(padded, side).view(batch, channels, side**2, height, width)
    return (near * kernels.view(batch, channels, side**2, height, width)).sum(2)


def given(kernels: Tensor) -> dict[str, Tensor]:
    """Features and a convolution that yield just these kernels."""
    count = kernels.shape[1]
    return {"features": kernels, "weight": torch.eye(count)[:, :, None, None], "bias": torch.zeros(count)}


def test_filter_equals_the_published_one(golden_folder: Path) -> None:
    known = golden.arrays(golden_folder, "kernelconv2d_5x5")
    out = dynamic_filter(known["feat"], **given(known["kernel"]), slope=1.0)
    torch.testing.assert_close(out, known["out"], **golden.TOLERANCE)


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 2, 1, 4)])
def test_borders_are_repeated_alike_where_the_network_is_compiled(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randn(shape).double().requires_grad_()
    plainly = module._replicated(image, 2)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = module._replicated(image, 2)
    torch.testing.assert_close(compiled, plainly)
    weights = torch.randn_like(plainly)
    (found,), (wanted,) = (torch.autograd.grad((out * weights).sum(), image) for out in (compiled, plainly))
    torch.testing.assert_close(found, wanted)


def test_kernel_that_picks_one_neighbour_shifts_the_image_without_a_flip() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    kernels = torch.zeros(1, 9, 3, 4)
    kernels[:, 5] = 1  # row 1, column 2 of 3 x 3: the right neighbour
    out = dynamic_filter(image, **given(kernels), slope=1.0)
    assert out[0, 0].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]


def test_values_and_gradients_equal_those_of_materialised_kernels() -> None:
    torch.manual_seed(0)
    image, features = torch.randn(2, 3, 6, 5).double(), torch.randn(2, 4, 6, 5).double()
    weight, bias = torch.randn(75, 4, 1, 1).double(), torch.randn(75).double()
    inputs = [tensor.requires_grad_() for tensor in (image, features, weight, bias)]
    expected = plain(image, F.leaky_relu(F.conv2d(features, weight, bias), 0.1), 5)
    out = dynamic_filter(*inputs, slope=0.1)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_result_does_not_depend_on_how_many_pixels_are_filtered_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    image, kernels = torch.randn(2, 2, 7, 6), torch.randn(2, 18, 7, 6)
    whole = dynamic_filter(image, **given(kernels), slope=0.1)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 30)
    torch.testing.assert_close(dynamic_filter(image, **given(kernels), slope=0.1), whole)


def test_nothing_as_large_as_the_kernels_is_ever_made() -> None:
    image, features = torch.randn(1, 16, 32, 32), torch.randn(1, 8, 32, 32, requires_grad=True)
    weight, bias = torch.randn(400, 8, 1, 1), torch.randn(400)
    with torch.profiler.profile(profile_memory=True) as profile:
        dynamic_filter(image, features, weight, bias, slope=0.1).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest < weight.shape[0] * 32 * 32 * 4 / 5
