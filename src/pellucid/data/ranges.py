"""Physical units <-> [0, 1], band by band."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Bands: TypeAlias = tuple[str, ...]
ImageKind: TypeAlias = Literal["sentinel2", "sentinel1", "picture", "slice"]


@dataclass(frozen=True)
class ValueRange:
    """The physical values that become 0 and 1 in each band; saved with the weights.

    Args:
        bands: names, in the order of the channels.
        low: the value that becomes 0, per band, in `unit`.
        high: the value that becomes 1, likewise.
        unit: "reflectance", "dB" or, of pictures and slices, "full scale".
        source: where the range comes from.

    Raises:
        ValueError: if the three differ in length, or a `high` is not above its `low`.
    """

    bands: Bands
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: str
    source: str

    def __post_init__(self) -> None:
        if not len(self.bands) == len(self.low) == len(self.high):
            raise ValueError(f"{len(self.bands)} bands, {len(self.low)} low and {len(self.high)} high values")
        if not all(high > low for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"high must exceed low in every band, got low={self.low}, high={self.high}")

    def to_unit(self, values: "Tensor") -> "Tensor":
        """Map (..., C, H, W) in `unit` to [0, 1]; values outside are clipped, NaN stays NaN."""
        low, high = self._limits(values)
        return ((values - low) / (high - low)).clamp(0, 1)

    def from_unit(self, values: "Tensor") -> "Tensor":
        """Map (..., C, H, W) in [0, 1] back to `unit`, without clipping."""
        low, high = self._limits(values)
        return low + values * (high - low)

    def select(self, bands: Bands) -> Self:
        """Return the range of `bands` alone, in their order; a band that it lacks is a ValueError."""
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise ValueError(f"no range for {', '.join(missing)}; known bands are {', '.join(self.bands)}")
        at = [self.bands.index(band) for band in bands]
        low, high = (tuple(values[i] for i in at) for values in (self.low, self.high))
        return type(self)(bands, low, high, self.unit, self.source)

    @property
    def kind(self) -> ImageKind | None:
        """What the images are; None without bands."""
        if not self.bands:
            return None
        if self.unit == SENTINEL1.unit:
            return "sentinel1"
        if self.unit != PICTURE.unit:
            return "sentinel2"
        return "slice" if self.bands == SLICE.bands else "picture"

    def _limits(self, values: "Tensor") -> tuple["Tensor", "Tensor"]:
        if values.shape[-3] != len(self.bands):
            raise ValueError(f"values has {values.shape[-3]} bands, the range describes {len(self.bands)}")
        low, high = (values.new_tensor(limits) for limits in (self.low, self.high))
        return low.view(-1, 1, 1), high.view(-1, 1, 1)


# Reflectance = DN / 10000 (Sentinel-2 product specification). Level 1C.
SENTINEL2 = ValueRange(
    bands=("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
    low=(0.0,) * 13,
    high=(1.0,) * 13,
    unit="reflectance",
    source="Sentinel-2 L1C, DN / 10000; Meraner et al. 2020, doi:10.1016/j.isprsjprs.2020.05.013",
)

# dB. Meraner et al. 2020.
SENTINEL1 = ValueRange(
    bands=("VV", "VH"),
    low=(-25.0, -32.5),
    high=(0.0, 0.0),
    unit="dB",
    source="Sentinel-1 GRD; Meraner et al. 2020, doi:10.1016/j.isprsjprs.2020.05.013",
)

# Pictures and slices of a tomogram: from 0 to the largest value of the file's type.
PICTURE = ValueRange(("R", "G", "B"), (0.0,) * 3, (1.0,) * 3, "full scale", "the file's data type")
SLICE = ValueRange(("gray",), (0.0,), (1.0,), "full scale", "the file's data type")
