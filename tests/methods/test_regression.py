from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError
from pellucid.losses.l1 import l1
from pellucid.losses.l2 import l2
from pellucid.methods.regression import NO_RADAR, Regression, RegressionConfig


class Recorder(nn.Module):
    """Returns its input plus one and keeps the radar it was shown."""

    stride = 1

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        self.seen = sar
        return degraded + 1


def make_batch() -> Batch:
    return Batch(
        degraded=torch.full((1, 13, 4, 4), 0.25),
        target=torch.full((1, 13, 4, 4), 0.5),
        sar=torch.full((1, 2, 4, 4), 0.5),
        valid=torch.ones(1, 1, 4, 4, dtype=torch.bool),
        key=("a",),
    )


def make_method(*, residual: bool = False, radar_optional: bool = False) -> Regression:
    return Regression(
        Recorder(),
        RegressionConfig(residual=residual, radar_optional=radar_optional),
        optical=SENTINEL2,
        radar=SENTINEL1,
        losses={"l1": (2.0, l1), "l2": (1.0, l2)},
    )


def test_terms_carry_their_weights_and_add_up() -> None:
    terms = make_method().loss(make_batch())
    assert terms["l1"].item() == pytest.approx(2 * 0.75)
    assert terms["l2"].item() == pytest.approx(0.75**2)
    assert terms["total"].item() == pytest.approx(2 * 0.75 + 0.75**2)


def test_the_result_is_clipped_to_the_unit_range() -> None:
    assert torch.equal(make_method().restore(make_batch()), torch.ones(1, 13, 4, 4))


def test_a_residual_method_adds_its_input() -> None:
    terms = make_method(residual=True).loss(make_batch())
    assert terms["l1"].item() == pytest.approx(2 * (0.25 + 1 + 0.25 - 0.5))


def test_a_cautious_method_draws_its_result_towards_the_mean_spectrum() -> None:
    method = make_method(residual=True)  # 0.25 + 1 + 0.25, before clipping
    method.caution, method.mean_spectrum = 0.75, (0.1,) * 13
    expected = 0.25 * 1.5 + 0.75 * 0.1
    overcast = replace(make_batch(), cloud=torch.ones(1, 1, 4, 4))
    torch.testing.assert_close(method.restore(overcast), torch.full((1, 13, 4, 4), expected))
    method.mean_spectrum = None
    assert torch.equal(method.restore(overcast), torch.ones(1, 13, 4, 4))


@pytest.mark.parametrize("is_given", [True, False])
def test_clear_ground_tells_a_cautious_method_the_likely_spectrum(is_given: bool) -> None:
    """The upper half of each image is clear; without a map, the score finds the white rest."""
    method = make_method()
    method.caution, method.mean_spectrum = 1.0, (0.1,) * 13
    degraded = torch.full((2, 13, 512, 128), 0.7)
    degraded[0, :, :256], degraded[1, :, :256] = 0.05, 0.1
    degraded[:, SENTINEL2.bands.index("B10")] = 0.01  # no cirrus
    cloud = torch.zeros(2, 1, 512, 128)
    cloud[..., 256:, :] = 1
    batch = Batch(
        degraded=degraded,
        sar=torch.zeros(2, 2, 512, 128),
        cloud=cloud if is_given else None,
        valid=torch.ones(2, 1, 512, 128, dtype=torch.bool),
        key=("dark", "usual"),
    )
    expected = torch.tensor([0.075, 0.1]).view(2, 1, 1, 1).expand(2, 3, 512, 128)
    tolerance = 1e-6 if is_given else 1e-3  # the score is blurred
    torch.testing.assert_close(method.restore(batch)[:, 1:4], expected, atol=tolerance, rtol=0)


def test_what_is_not_valid_says_nothing_about_the_ground() -> None:
    method = make_method()
    method.caution, method.mean_spectrum = 1.0, (0.1,) * 13
    clear = torch.zeros(1, 1, 4, 4)
    nowhere = replace(make_batch(), cloud=clear, valid=clear.bool())
    torch.testing.assert_close(method.restore(nowhere), torch.full((1, 13, 4, 4), 0.1))


def test_pixels_without_radar_are_marked_for_the_network() -> None:
    method = make_method(radar_optional=True)
    batch = make_batch()
    assert batch.sar is not None
    sar = batch.sar.clone()
    sar[..., 0] = torch.nan
    method.restore(replace(batch, sar=sar))
    assert (method.network.seen[..., 0] == NO_RADAR).all()
    assert (method.network.seen[..., 1:] == 0.5).all()


def test_a_batch_without_radar_looks_like_one_whose_radar_is_nan() -> None:
    method = make_method(radar_optional=True)
    method.restore(replace(make_batch(), sar=None))
    assert torch.equal(method.network.seen, torch.full((1, 2, 4, 4), NO_RADAR))


@pytest.mark.parametrize("sar", [None, torch.full((1, 2, 4, 4), torch.nan)])
def test_missing_radar_is_refused_where_it_is_needed(sar: Tensor | None) -> None:
    with pytest.raises(ValueError, match="needs it everywhere"):
        make_method().restore(replace(make_batch(), sar=sar))


class Unsure(nn.Module):
    """Returns its input plus one, with a standard deviation of a half."""

    stride, gives_deviation = 1, True

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:  # noqa: ARG002
        return torch.cat([degraded + 1, torch.full_like(degraded, 0.25).log()], 1)


def make_unsure() -> Regression:
    config = RegressionConfig(likelihood=2.0)
    return Regression(Unsure(), config, optical=SENTINEL2, radar=SENTINEL1, losses={})


def test_likelihood_is_that_of_a_gaussian_less_its_constant() -> None:
    batch = make_batch()
    terms = make_unsure().loss(batch)
    normal = torch.distributions.Normal(torch.tensor(1.25), torch.tensor(0.5))
    constant = 0.5 * torch.tensor(2 * torch.pi).log()
    torch.testing.assert_close(terms["likelihood"], 2 * (-normal.log_prob(torch.tensor(0.5)) - constant))
    assert terms["total"] == terms["likelihood"]
    half = replace(batch, valid=batch.valid & (torch.arange(4) < 2))
    torch.testing.assert_close(make_unsure().loss(half)["likelihood"], terms["likelihood"])


def test_a_network_that_gives_a_variance_says_how_sure_it_is() -> None:
    method = make_unsure()
    found = method.estimate(make_batch())
    assert method.gives_deviation
    assert found.deviation is not None
    torch.testing.assert_close(found.deviation, torch.full((1, 13, 4, 4), 0.5))
    assert torch.equal(found.image, method.restore(make_batch()))
    assert make_method().estimate(make_batch()).deviation is None


def test_likelihood_needs_a_network_that_gives_a_variance() -> None:
    with pytest.raises(InputError, match=r"method\.likelihood is for networks that give a variance"):
        Regression(
            Recorder(), RegressionConfig(likelihood=1.0), optical=SENTINEL2, radar=SENTINEL1, losses={}
        )
