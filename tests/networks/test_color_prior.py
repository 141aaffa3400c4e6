import pytest
import torch
from torch import Tensor

from pellucid.networks._color_prior import CELL, NUM_FEATURES, ColorPrior, Config, build, describe_cells


def radar(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))


def trained(members: int = 2) -> ColorPrior:
    torch.manual_seed(0)
    return build(Config(width=8, members=members))


def test_each_pixel_gets_a_colour_that_depends_on_its_own_picture_alone() -> None:
    prior, sar = trained(), radar()
    with torch.no_grad():
        both, alone = prior(sar), prior(sar[1:])
    assert both.shape == (2, 3, 64, 96)
    assert 0 <= both.min() <= both.max() <= 1
    torch.testing.assert_close(both[1:], alone)


def test_the_result_is_the_mean_of_its_members() -> None:
    prior, features = trained(members=3), torch.randn(5, NUM_FEATURES)
    with torch.no_grad():
        parts = [prior.color(features, member) for member in range(3)]
        assert not parts[0].allclose(parts[1])
        sar = radar()[:1]
        cells = describe_cells(sar).permute(0, 2, 3, 1)
        mean = torch.stack([prior.color(cells, member) for member in range(3)]).mean(0)
    found = prior(sar)[..., CELL // 2 - 1 : CELL // 2 + 1, CELL // 2 - 1 : CELL // 2 + 1].mean((2, 3))
    # Between the four pixels in the middle of the first cell, the colour is that of the cell, nearly.
    torch.testing.assert_close(found[0], mean[0, 0, 0].clamp(0, 1), atol=0.05, rtol=0)


def test_features_say_where_the_radar_is_dark_and_even() -> None:
    sar = torch.full((1, 1, 64, 64), 0.5)
    sar[..., 32:] = 0
    features = describe_cells(sar)
    assert features.shape == (1, NUM_FEATURES, 16, 16)
    mean, deviation, share = features[0, 0], features[0, 1], features[0, 4]
    assert (mean[8, 2], mean[8, 13]) == (pytest.approx(0.5), 0)
    assert share[8, 2] == 0
    assert share[8, 13] == 1
    assert deviation[8, 8] > 10 * deviation[8, 2]  # at the shore


def test_the_result_is_the_same_in_half_precision_and_for_even_radar() -> None:
    prior, sar = trained(), radar()
    with torch.no_grad():
        plain = prior(sar)
        with torch.autocast("cpu", torch.bfloat16):
            assert prior(sar).equal(plain)
        for level in (0.0, 0.3, 1.0):
            assert prior(torch.full((1, 1, 32, 32), level)).isfinite().all()


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="members 0, both must be 1 or more"):
        build(Config(members=0))
