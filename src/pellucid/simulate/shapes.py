"""Shapes of landscapes: fractal noise, winding rivers, roads, and the nearest of many points."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]  # (N, 2) row and column

NUM_NUMBERS = 65536  # that `table` knows


def fractal(rng: np.random.Generator, shape: tuple[int, int], scale_px: float, slope: float = 3.0) -> Array:
    """Return a field of mean 0 and deviation 1 with structures up to `scale_px`, (H, W).

    Its power falls with the frequency to the `slope`: about 1 is grain, 3 clouds or forests, 5 rolling hills.
    """
    rows, columns = (fft.next_fast_len(int(side * 1.2) + 8, real=True) for side in shape)
    fy = np.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(columns).astype(np.float32)[None]
    power = (fy**2 + fx**2 + np.float32(scale_px**-2)) ** np.float32(-slope / 4)
    power[0, 0] = 0
    white = rng.standard_normal((rows, columns), np.float32)
    values = fft.irfft2(fft.rfft2(white) * power, (rows, columns))[: shape[0], : shape[1]]
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9), np.float32)


def table(rng: np.random.Generator, number: NDArray[np.int64]) -> Array:
    """Return one random value in [0, 1) for each distinct number."""
    return rng.random(NUM_NUMBERS, np.float32)[number]


def average(values: Array, number: NDArray[np.int64]) -> Array:
    """Return the mean of the values over all pixels of the same number, (H, W)."""
    count = np.bincount(number.ravel(), minlength=NUM_NUMBERS)
    total = np.bincount(number.ravel(), values.ravel(), NUM_NUMBERS)
    return (total / np.maximum(count, 1)).astype(np.float32)[number]


def rim(number: NDArray[np.int64]) -> Mask:
    """Return where a neighbour to the right or below has another number."""
    rim = np.zeros(number.shape, np.bool_)
    rim[:, :-1] |= number[:, :-1] != number[:, 1:]
    rim[:-1] |= number[:-1] != number[1:]
    return rim


def nearest(y: Array, x: Array, points: Points) -> NDArray[np.int64]:
    """Return the index of the nearest of `points`, (N, 2), for each pixel."""
    best = np.full(y.shape, np.inf, np.float32)
    number = np.zeros(y.shape, np.int64)
    for index, (row, column) in enumerate(points.astype(np.float32)):
        far = (y - row) ** 2 + (x - column) ** 2
        nearer = far < best
        best[nearer], number[nearer] = far[nearer], index
    return number


def meander(rng: np.random.Generator, shape: tuple[int, int], width_px: float) -> Points:
    """Return the points of a winding river's middle line across the image."""
    steps = np.arange(int(4 * max(shape)))
    wave = max(14.0, 11 * width_px) * rng.uniform(0.8, 1.6)  # Leopold and Wolman 1960: about 11 widths
    white = rng.standard_normal((2, len(steps)))
    bends = ndimage.gaussian_filter1d(white[0], wave / 7) - ndimage.gaussian_filter1d(white[0], wave / 3.5)
    wander = ndimage.gaussian_filter1d(white[1], 2 * wave)
    heading = rng.uniform(0, 2 * math.pi) + rng.uniform(0.3, 1.1) * bends / bends.std()
    heading = heading + 0.4 * wander / wander.std()
    points = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1), 0)
    return np.asarray(points - points[len(points) // 2] + np.array(shape) * rng.uniform(0.2, 0.8, 2))


def road(rng: np.random.Generator, start: Points, end: Points) -> Points:
    """Return the points of a slightly curved road, (N, 2)."""
    way = end - start
    steps = np.linspace(0, 1, max(2, int(np.hypot(*way) * 1.5)))[:, None]
    bend = sum(rng.normal(0, 0.05 / k) * np.sin(math.pi * k * steps) for k in range(1, 5))
    return start + steps * way + bend * np.array([-way[1], way[0]])


def distance(shape: tuple[int, int], points: Points, limit: int = 80) -> Array:
    """Return the distance of each pixel to the nearest of `points` in pixels, at most `limit`."""
    marked = np.ones((shape[0] + 2 * limit, shape[1] + 2 * limit), np.bool_)
    spots = np.floor(points).astype(np.int64) + limit
    spots = spots[((spots >= 0) & (spots < marked.shape)).all(1)]
    if not len(spots):
        return np.full(shape, limit, np.float32)
    marked[spots[:, 0], spots[:, 1]] = False
    far = ndimage.distance_transform_edt(marked)
    return np.minimum(far, limit)[limit:-limit, limit:-limit].astype(np.float32)
