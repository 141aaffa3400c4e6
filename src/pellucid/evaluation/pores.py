"""What soil science measures of a slice: porosity, the sizes of pores, how far they are connected."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

# Grey levels among which the threshold is sought: Otsu 1979, doi:10.1109/TSMC.1979.4310076.
LEVELS = 256


@dataclass(frozen=True)
class Pores:
    """The pores of a slice: what is darker than Otsu's threshold of the same slice.

    Attributes:
        porosity: share of the pixels that are pore, 0 to 1.
        wider: (N,), share of the pore pixels in a disc of a radius of 1, 2, ..., N pixels or more that lies
            inside the pores.
        connectivity: share of the pore pixels in the largest pore, whose pixels share sides, 0 to 1.
    """

    porosity: float
    wider: NDArray[np.float64]
    connectivity: float

    def errors(self, truth: "Pores") -> dict[str, float]:
        """Return how far these pores are from the true ones.

        `porosity` and `connectivity` in percent points; `pore_size`, in pixels, is the distance between the
        distributions of pore radii (Wasserstein).
        """
        length = max(len(self.wider), len(truth.wider))
        wider, truly = (np.pad(x, (0, length - len(x))) for x in (self.wider, truth.wider))
        return {
            "porosity": 100 * abs(self.porosity - truth.porosity),
            "pore_size": float(np.abs(wider - truly).sum()),
            "connectivity": 100 * abs(self.connectivity - truth.connectivity),
        }


def find_pores(image: NDArray[np.floating], valid: NDArray[np.bool_]) -> Pores:
    """Return the pores of a slice (H, W) among its `valid` pixels; what cannot be said is NaN."""
    known = image[valid]
    if not known.size:
        return Pores(np.nan, np.zeros(0), np.nan)
    pores = (image <= otsu(known)) & valid
    count = int(pores.sum())
    if not count:
        return Pores(0.0, np.zeros(0), np.nan)
    sizes = np.bincount(label(pores)[0].ravel())[1:]
    return Pores(count / int(valid.sum()), _find_widths(pores) / count, float(sizes.max()) / count)


def _find_widths(pores: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how many pixels lie in discs of a radius of 1, 2, ... pixels or more inside the pores."""
    depth = distance_transform_edt(pores)
    inside, counts = np.zeros_like(pores), []
    for radius in range(int(depth.max()), 0, -1):
        # A pixel lies in such a disc if a pixel as deep as its radius is nearer than that.
        inside |= pores & (distance_transform_edt(depth < radius) < radius)
        counts.append(int(inside.sum()))
    return np.array(counts[::-1], np.float64)


def otsu(values: NDArray[np.floating]) -> float:
    """Return the grey value that best parts dark from bright: up to it, a value is dark."""
    counts, edges = np.histogram(values, LEVELS)
    middles = (edges[:-1] + edges[1:]) / 2
    dark, light = counts.cumsum(), counts[::-1].cumsum()[::-1]
    sums = counts * middles
    means = sums.cumsum() / np.maximum(dark, 1), sums[::-1].cumsum()[::-1] / np.maximum(light, 1)
    between = dark[:-1] * light[1:] * (means[0][:-1] - means[1][1:]) ** 2
    return float(edges[1:][between.argmax()])
