import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE, ValueRange


def test_the_ends_of_the_radar_range_become_0_and_1() -> None:
    backscatter_db = torch.tensor([[-25.0, -12.5, 3.0], [-32.5, -16.25, -40.0]]).view(1, 2, 1, 3)
    expected = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0]]).view(1, 2, 1, 3)
    torch.testing.assert_close(SENTINEL1.to_unit(backscatter_db), expected)


def test_nan_stays_nan() -> None:
    assert SENTINEL1.to_unit(torch.full((2, 1, 1), torch.nan)).isnan().all()


@given(st.floats(-25, 0), st.floats(-32.5, 0))
def test_mapping_back_undoes_mapping(vv: float, vh: float) -> None:
    values = torch.tensor([vv, vh]).view(2, 1, 1)
    torch.testing.assert_close(SENTINEL1.from_unit(SENTINEL1.to_unit(values)), values, rtol=1e-5, atol=1e-5)


def test_a_selection_keeps_each_band_with_its_limits() -> None:
    chosen = SENTINEL1.select(("VH",))
    assert (chosen.bands, chosen.low, chosen.high) == (("VH",), (-32.5,), (0.0,))


def test_an_unknown_band_is_named() -> None:
    with pytest.raises(ValueError, match="no range for B99"):
        SENTINEL2.select(("B02", "B99"))


def test_a_wrong_number_of_bands_is_refused() -> None:
    with pytest.raises(ValueError, match="values has 3 bands, the range describes 2"):
        SENTINEL1.to_unit(torch.zeros(1, 3, 4, 4))


def test_an_upside_down_range_is_refused() -> None:
    with pytest.raises(ValueError, match="high must exceed low"):
        ValueRange(("VV",), (0.0,), (-25.0,), "dB", "")


def test_the_kind_follows_from_unit_and_bands() -> None:
    kinds = {"sentinel1": SENTINEL1, "sentinel2": SENTINEL2, "picture": PICTURE, "slice": SLICE}
    for kind, images in kinds.items():
        assert images.kind == kind
        assert images.select(images.bands[:1]).kind == kind
        assert images.select(()).kind is None
