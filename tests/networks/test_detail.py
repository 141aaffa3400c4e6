import torch
from torch import Tensor

from pellucid.networks._detail import add_detail


def test_detail_that_shines_through_is_added_and_smooth_light_is_not() -> None:
    fine = 0.1 * (torch.arange(64) % 2).expand(1, 13, 64, 64)
    haze = torch.linspace(0.2, 0.4, 64).view(-1, 1)
    painted, weight = torch.full((1, 13, 64, 64), 0.3), torch.ones(1, 1, 64, 64)
    inside = (slice(None), slice(None), slice(16, 48), slice(16, 48))
    nowhere = 0 * weight

    def added(colours: Tensor, sure: Tensor) -> Tensor:
        return add_detail(colours, painted, sure)

    found = added(haze + fine, weight)
    torch.testing.assert_close(
        (found - found.mean(3, keepdim=True))[inside], fine[inside] - 0.05, atol=5e-3, rtol=0
    )
    torch.testing.assert_close(added(painted + 0.2, weight)[inside], painted[inside], atol=1e-3, rtol=0)
    assert torch.equal(added(haze + fine, nowhere), painted)


def test_what_is_kept_is_what_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    colours, painted, values = 0.4 + 0.2 * torch.rand(3, 1, 13, 32, 32, generator=generator)
    sure, keep = torch.rand(2, 1, 1, 32, 32, generator=generator)
    keep[..., 16:] = 1
    found = add_detail(colours, painted, sure, keep, values)
    assert torch.equal(found[..., 16:], values[..., 16:])
    torch.testing.assert_close(found, torch.lerp(add_detail(colours, painted, sure), values, keep))
