from pellucid.data.band_names import COMMON
from pellucid.data.ranges import SENTINEL2
from pellucid.data.spectrum import SPECTRA


def test_every_band_of_sentinel2_is_known_by_the_name_that_its_reader_understands() -> None:
    assert tuple(SPECTRA) == SENTINEL2.bands
    assert {name: COMMON[each.common_name] for name, each in SPECTRA.items()} == {b: b for b in SPECTRA}


def test_wavelengths_are_in_micrometres_and_b08_is_the_widest_below_one() -> None:
    assert all(0.4 < each.center_um < 2.3 and 0.01 < each.width_um < 0.2 for each in SPECTRA.values())
    assert max(SPECTRA, key=lambda name: SPECTRA[name].width_um / SPECTRA[name].center_um) == "B08"
