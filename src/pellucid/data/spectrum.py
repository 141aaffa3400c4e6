"""Sentinel-2's bands as catalogues and GIS know them: common names, wavelengths, widths."""

from typing import NamedTuple

from pellucid.data.ranges import SENTINEL2


class Spectrum(NamedTuple):
    """What a band sees.

    Attributes:
        common_name: of STAC's `eo` extension.
        center_um: central wavelength in micrometres.
        width_um: full width at half maximum in micrometres.
    """

    common_name: str
    center_um: float
    width_um: float


# Nominal, alike for all satellites (Sentinel-2 User Handbook, spectral bands of MSI).
SPECTRA = dict(
    zip(
        SENTINEL2.bands,
        (
            Spectrum("coastal", 0.443, 0.02),
            Spectrum("blue", 0.49, 0.065),
            Spectrum("green", 0.56, 0.035),
            Spectrum("red", 0.665, 0.03),
            Spectrum("rededge071", 0.705, 0.015),
            Spectrum("rededge075", 0.74, 0.015),
            Spectrum("rededge078", 0.783, 0.02),
            Spectrum("nir", 0.842, 0.115),
            Spectrum("nir08", 0.865, 0.02),
            Spectrum("nir09", 0.945, 0.02),
            Spectrum("cirrus", 1.375, 0.03),
            Spectrum("swir16", 1.61, 0.09),
            Spectrum("swir22", 2.19, 0.18),
        ),
        strict=True,
    )
)
