"""GPU kernels, interpreted on the CPU."""

import dataclasses
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pellucid.networks import _dynamic_filter, _fused, glf_cr
from pellucid.networks._dynamic_filter import dynamic_filter
from pellucid.networks._fused import is_fused
from pellucid.networks.glf_cr import Config, DenseLayer, build


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The kernels; tests/conftest.py has them interpreted."""
    from pellucid.networks import _kernels

    return _kernels


@pytest.fixture
def fused(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks use kernels wherever they would on a GPU."""
    for module in (_dynamic_filter, glf_cr):
        monkeypatch.setattr(module, "is_fused", lambda _: not torch.is_grad_enabled())


def noise(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_filter_equals_that_of_plain_pytorch(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: torch.dtype
) -> None:
    monkeypatch.setattr(kernels, "FILTER_BLOCK", (64, 16))
    image, features = noise(2, 20, 9, 7).to(kind), noise(2, 24, 9, 7).to(kind)
    weight, bias = noise(20 * 9, 24, 1, 1), noise(180)
    expected = dynamic_filter(image, features, weight, bias, slope=0.1)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dynamic_filter, "is_fused", lambda _: True)
        found = dynamic_filter(image, features, weight, bias, slope=0.1)
    assert found.dtype == kind
    assert found.is_contiguous(memory_format=torch.channels_last)
    tolerance = 1e-4 if kind == torch.float32 else 0.1  # of values up to 60
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize(("window", "shifted"), [(4, False), (4, True), (8, True)])
def test_layer_of_windows_equals_that_of_plain_pytorch(fused: None, window: int, *, shifted: bool) -> None:
    config = Config(width=8, growth=12, num_heads=2, window=window)
    layer = DenseLayer(8, config, shifted=shifted, drop_path=0.3).eval()
    for number, weight in enumerate(layer.parameters()):
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(number))
    optical, radar = noise(2, 8, 16, 24), noise(2, 8, 24, 16).mT
    expected = layer(optical, radar)  # with gradients, so without kernels
    with torch.no_grad():
        for ours, theirs in zip(layer(optical, radar), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_whole_network_is_the_same_by_kernels_and_has_no_graph_breaks(fused: None) -> None:
    config = Config(
        width=8, growth=8, num_blocks=2, num_layers=2, num_heads=2, window=4, head_width=4, kernel=3
    )
    network = build(config).eval()
    degraded, sar = noise(1, 13, 8, 16), noise(1, 2, 8, 16)
    expected = network(degraded, sar).detach()
    assert not is_fused(degraded)
    with torch.no_grad():
        torch.testing.assert_close(network(degraded, sar), expected, rtol=1e-4, atol=1e-4)
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(degraded, sar), expected, rtol=1e-4, atol=1e-4)
    small = build(dataclasses.replace(config, window=2)).eval()
    with torch.no_grad():
        assert not small.RDBs[0].convs[0].suits_kernel(degraded)


def test_kernels_are_for_inference_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fused, "_is_new_enough", lambda index: index == 0)
    image = torch.empty(1, device="meta")

    class OnGpu:
        is_cuda, dtype, device = True, torch.bfloat16, torch.device("cuda", 0)

    with torch.no_grad():
        assert is_fused(OnGpu())  # type: ignore[arg-type]
        assert not is_fused(image)
        monkeypatch.setattr(OnGpu, "dtype", torch.float64)
        assert not is_fused(OnGpu())  # type: ignore[arg-type]
    monkeypatch.setattr(OnGpu, "dtype", torch.float32)
    assert not is_fused(OnGpu())  # type: ignore[arg-type]
