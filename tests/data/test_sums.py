import torch

from pellucid.data.sums import Sums


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(2, 5, 8, 12, generator=generator)
    values = torch.rand(2, 3, 8, 12, generator=generator)
    return phi, values, torch.rand(2, 1, 8, 12, generator=generator)


def test_solution_is_a_plain_weighted_ridge_regression() -> None:
    phi, values, weight = scene()
    mean, precision = torch.full((5, 3), 0.2), torch.arange(1.0, 16).view(5, 3)
    noise = torch.tensor([0.5, 0.1, 0.2])
    solved, covariance = Sums.over(phi, values, weight).solve(mean, precision, noise)
    for band in range(3):
        x, y, w = phi[1].flatten(1).double(), values[1, band].flatten().double(), weight[1].flatten().double()
        inverse = torch.diag(precision[:, band].double()) + (x * w) @ x.T / noise[band]
        right = precision[:, band].double() * mean[:, band].double() + (x * w) @ y / noise[band]
        torch.testing.assert_close(
            solved[1, :, band].double(), torch.linalg.solve(inverse, right), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            covariance[1, band].double(), torch.linalg.inv(inverse), rtol=1e-3, atol=1e-5
        )


def test_sums_of_parts_add_up_to_those_of_the_whole() -> None:
    phi, values, weight = scene()
    whole = Sums.over(phi, values, weight)
    parts = [
        Sums.over(phi[..., part], values[..., part], weight[..., part])
        for part in (slice(0, 5), slice(5, 12))
    ]
    for name in ("gram", "cross", "squares", "count"):
        torch.testing.assert_close(getattr(parts[1] + parts[0], name), getattr(whole, name))


def test_half_the_weight_gives_half_the_sums() -> None:
    phi, values, weight = scene()
    half, scaled = Sums.over(phi, values, weight / 2), Sums.over(phi, values, weight) * 0.5
    each = Sums.over(phi, values, weight) * torch.tensor([0.5, 0.5])
    for name in ("gram", "cross", "squares", "count"):
        torch.testing.assert_close(getattr(half, name), getattr(scaled, name))
        torch.testing.assert_close(getattr(half, name), getattr(each, name))
