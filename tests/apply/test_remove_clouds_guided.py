import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from rasterio.transform import Affine
from scenes import BANDS, OPTIONS, FakeMethod, identity, left_cloud, read, write
from torch import Tensor

from pellucid.apply.info import inform
from pellucid.apply.remove_clouds import check_scene, restore_scene
from pellucid.data.batch import Batch
from pellucid.data.ranges import ValueRange
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.methods.method import Estimate

LEVEL_2A = tuple(band for band in BANDS if band != "B10")
TOWN = (slice(None), slice(20, 50), slice(30, 70))


@dataclass(frozen=True)
class Found:
    """Sums over clear pixels, their number, and that of all pixels that count."""

    sums: Tensor
    clear: float
    count: float

    def __add__(self, other: "Found") -> "Found":
        return Found(self.sums + other.sums, self.clear + other.clear, self.count + other.count)


class Scout(FakeMethod):
    """Paints what is bright like the other dates, or else in the mean of what is dark in the scene."""

    any_bands = takes_older = finds_clouds = gives_deviation = True

    def __init__(self) -> None:
        super().__init__(lambda batch: batch.degraded)
        self.mean: Tensor | None = None
        self.count = 0.0
        self.seen: list[Batch] = []

    def with_bands(self, optical: ValueRange) -> Self:
        found = copy.copy(self)
        found.optical = optical
        return found

    def collect(self, batch: Batch, share: Tensor, *, least: float = 0.0) -> Found:  # noqa: ARG002
        assert batch.at is not None
        weight = share * ~self.is_cloud(batch)
        sums = (batch.degraded * weight).double().sum((0, 2, 3))
        return Found(sums, float(weight.sum()), float(share.sum()))

    def with_scene(self, collected: Found) -> Self:
        found = copy.copy(self)
        if not collected.clear:
            raise InputError("the scene has no clear pixel, give a reference")
        found.mean, found.count = (collected.sums / collected.clear).float(), collected.count
        return found

    def estimate(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
        *,
        with_deviation: bool = True,  # noqa: ARG002
    ) -> Estimate:
        assert self.mean is not None
        self.seen.append(batch)
        cloud = self.is_cloud(batch).float()
        if batch.cloud is not None:
            cloud = torch.maximum(cloud, batch.cloud)
        painted = self.mean.view(1, -1, 1, 1).expand_as(batch.degraded)
        if batch.older is not None:
            painted = batch.older.where(batch.older.isfinite(), painted)
        image = cloud * painted + (1 - cloud) * batch.degraded
        return Estimate(image, 0.05 * cloud.expand_as(image), cloud)

    def is_cloud(self, batch: Batch) -> Tensor:
        return batch.degraded.mean(1, keepdim=True) > 0.4


def land(bands: int = 13, height: int = 75, width: int = 101, seed: int = 0) -> np.ndarray:
    """Digital numbers of ground whose bands rise and fall together, smoothly."""
    y, x = np.mgrid[:height, :width]
    shape = 1400 + 230 * np.sin((x + seed) / 9.0) * np.cos(y / 7.0)
    values = shape * np.linspace(0.9, 1.1, bands)[:, None, None]
    if bands == 13:
        values[10] = 15 + shape / 100
    return values.round().astype(np.uint16)


def cloudy(bands: int = 13) -> np.ndarray:
    scene = land(bands)
    scene[TOWN] = 8000
    return scene


def restore(scene: Path, **given: Any) -> Any:
    out = scene.with_name("out.tif")
    return restore_scene(scene, out, **({"method": Scout(), "options": OPTIONS} | given))


def test_a_method_that_finds_clouds_leaves_all_else_as_it_was(tmp_path: Path) -> None:
    scene, std = cloudy(), tmp_path / "std.tif"
    scene[:, :5] = 0
    report = restore(write(tmp_path / "s2.tif", scene, BANDS), uncertainty=std)
    out, inside = read(tmp_path / "out.tif"), np.zeros(scene.shape, bool)
    inside[TOWN] = True
    assert (out[~inside] == scene[~inside]).all()
    clear = scene.mean(0) < 4000
    clear[:5] = False
    expected = scene[:, clear].mean(axis=1)
    assert (np.abs(out[TOWN] - expected[:, None, None]) < 1).all()
    assert (report.num_restored, report.num_valid) == (30 * 40, 70 * 101)
    spread = read(std)
    assert np.isnan(spread[:, :5]).all()
    np.testing.assert_allclose(spread[TOWN], 500, rtol=1e-5)
    assert (spread[:, 5:][~inside[:, 5:]] == 0).all()


def test_each_valid_pixel_of_a_part_counts_once_whatever_the_tiles(tmp_path: Path) -> None:
    scene = cloudy()
    scene[:, :5] = 0
    path, results = write(tmp_path / "s2.tif", scene, BANDS), []
    counts: list[float] = []

    class Watched(Scout):
        def with_scene(self, collected: Found) -> Self:
            counts.append(collected.count)
            return super().with_scene(collected)

    for tile, overlap, batch in ((32, 8, 1), (32, 0, 3), (64, 60, 2), (256, 32, 1)):
        restore(path, method=Watched(), options=replace(OPTIONS, tile=tile, overlap=overlap, batch=batch))
        results.append(read(tmp_path / "out.tif"))
    assert counts == [70 * 101] * 4
    assert all((result == results[0]).all() for result in results)


def test_the_scene_is_read_first_by_a_method_that_collects_alone(tmp_path: Path) -> None:
    steps: list[tuple[float, int]] = []
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    restore(path, reading=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 1)]
    restore(path, method=identity(), options=OPTIONS, reading=lambda *_: pytest.fail("nothing is collected"))


def test_a_scene_of_cloud_alone_is_refused_before_work_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clear pixel, give a reference"):
        restore(write(tmp_path / "s2.tif", np.full((13, 75, 101), 8000, np.uint16), BANDS))
    assert [path.name for path in tmp_path.iterdir()] == ["s2.tif"]


def test_a_cloud_map_and_no_keep_clear_reach_the_method(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", land(), BANDS)
    told = replace(OPTIONS, margin_px=0, feather_px=0)
    report = restore(path, cloud=left_cloud(tmp_path), options=told)
    assert report.num_restored == 75 * 40
    assert restore(path, options=replace(OPTIONS, keep_clear=False)).num_restored == 75 * 101


@pytest.mark.parametrize(
    ("count", "names", "given", "expected"),
    [
        (12, (), None, LEVEL_2A),
        (13, (), None, BANDS),
        (4, ("B4", "B3", "B2", "B8"), None, ("B04", "B03", "B02", "B08")),
        (4, (), ("B02", "B03", "B04", "B08"), ("B02", "B03", "B04", "B08")),
        (3, ("B02", "SCL", "B04"), None, ("B02", "B04")),
        (5, (), ("red", "nir", "-", "swir", "B02"), ("B04", "B08", "swir", "B02")),
    ],
)
def test_any_bands_are_restored_and_others_pass_through(
    tmp_path: Path,
    count: int,
    names: tuple[str, ...],
    given: tuple[str, ...] | None,
    expected: tuple[str, ...],
) -> None:
    scene, method, seen = cloudy(count), Scout(), []
    with_bands = method.with_bands
    method.with_bands = lambda optical: seen.append(optical) or with_bands(optical)  # type: ignore[method-assign, func-returns-value]
    restore(write(tmp_path / "s2.tif", scene, names), method=method, options=replace(OPTIONS, bands=given))
    assert seen[0].bands == expected
    out = read(tmp_path / "out.tif")
    changed = [bool((out[i] != scene[i]).any()) for i in range(count)]
    assert sum(changed) == len(expected)


@pytest.mark.parametrize(
    ("count", "names", "given", "message"),
    [
        (4, (), None, "has 4 bands without names, say what they are with --bands"),
        (
            2,
            ("haze", "depth"),
            None,
            r"no band named as one of Sentinel-2 \(haze, depth\), say what they are",
        ),
        (4, (), ("B02", "B03"), "has 4 bands, --bands names 2; name each, - for one"),
        (2, (), ("B02", "B02"), "must name at least one band, and each once"),
    ],
)
def test_bands_that_nothing_tells_are_refused(
    tmp_path: Path, count: int, names: tuple[str, ...], given: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        restore(write(tmp_path / "s2.tif", cloudy(count), names), options=replace(OPTIONS, bands=given))


@pytest.mark.parametrize("kind", ["darker", "few", "picture", "decibels"])
def test_a_reference_of_any_sensor_gives_the_ground_its_colours(tmp_path: Path, kind: str) -> None:
    truth, shape = land(), land(1).astype(np.float32)
    older: np.ndarray
    names: tuple[str, ...]
    older, names = {
        "darker": ((truth * 0.7 + 50).astype(np.uint16), BANDS),
        "few": (truth[[1, 2, 3]], ("B02", "B03", "B04")),
        "picture": ((shape / 8).astype(np.uint8).repeat(3, 0), ()),
        "decibels": (shape / 100 - 20, ("backscatter",)),
    }[kind]
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    restore(path, references=[write(tmp_path / "older.tif", older, names)])
    error = read(tmp_path / "out.tif")[TOWN].astype(float) - truth[TOWN]
    assert np.sqrt((error**2).mean()) < 25


def test_clouds_of_a_reference_are_left_out_and_several_fill_each_other(tmp_path: Path) -> None:
    truth = land()
    one, two = truth.copy(), truth.copy()
    one[:, 15:55, 25:50] = 6000  # with other edges than the scene's cloud
    two[:, :, 60:] = 0
    paths = [write(tmp_path / f"{i}.tif", values, BANDS) for i, values in enumerate((one, two))]
    method = Scout()
    restore(write(tmp_path / "s2.tif", cloudy(), BANDS), references=paths, method=method)
    error = read(tmp_path / "out.tif")[TOWN].astype(float) - truth[TOWN]
    assert np.abs(error).max() < 40


def test_a_reference_that_cannot_guide_is_refused(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", cloudy(), BANDS)
    near, far = ({"transform": Affine(10, 0, x, 0, -10, 5_000_000)} for x in (500_050, 900_000))
    shifted = write(tmp_path / "near.tif", land(), BANDS, **near)
    with pytest.raises(InputError, match=r"the reference .*near.tif lies on another grid .* with --align"):
        restore(scene, references=[shifted])
    away = write(tmp_path / "away.tif", land(), BANDS, **far)
    for align in (False, True):
        with pytest.raises(InputError, match="and does not overlap it, give one of the same place"):
            restore(scene, references=[away], options=replace(OPTIONS, align=align))
    overcast = write(tmp_path / "overcast.tif", np.full((13, 75, 101), 6000, np.uint16), BANDS)
    with pytest.raises(InputError, match=r"overcast.tif has no clear pixel in common with the scene"):
        restore(scene, references=[overcast])
    clear = write(tmp_path / "clear.tif", land(), BANDS)
    restore(scene, references=[overcast, clear], method=Scout())
    assert inform(tmp_path / "out.tif")["inputs"]["references"] == ["clear.tif"]
    with pytest.raises(InputError, match=r"the reference .*s2.tif is the scene itself, give another date"):
        restore(scene, references=scene)
    restore(scene, references=[scene, clear], method=Scout())
    assert inform(tmp_path / "out.tif")["inputs"]["references"] == ["clear.tif"]
    with pytest.raises(InputError, match="references are given, but this model takes none"):
        restore(scene, references=[shifted], method=identity())


def test_a_reference_is_warped_to_the_scene(tmp_path: Path) -> None:
    coarse = np.kron(land(), np.ones((1, 2, 2), np.uint16))  # 5 m
    place = {"transform": Affine(5, 0, 500_000, 0, -5, 5_000_000)}
    older = write(tmp_path / "older.tif", coarse, BANDS, **place)
    options = replace(OPTIONS, align=True)
    restore(write(tmp_path / "s2.tif", cloudy(), BANDS), references=[older], options=options)
    error = read(tmp_path / "out.tif")[TOWN].astype(float) - land()[TOWN]
    assert np.abs(error).max() < 60


@pytest.mark.parametrize(
    ("names", "given", "missing"),
    [(("VV",), None, 1), (("Sigma0_VH",), None, 0), ((), ("VV",), 1), ((), ("vh",), 0)],
)
def test_one_polarisation_suffices_and_the_other_is_missing(
    tmp_path: Path, names: tuple[str, ...], given: tuple[str, ...] | None, missing: int
) -> None:
    sar = write(tmp_path / "s1.tif", np.full((1, 75, 101), -10, np.float32), names)
    method, options = Scout(), replace(OPTIONS, polarisations=given)
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    restore(path, sar=sar, method=method, options=options)
    assert all(batch.sar is not None and batch.sar[:, missing].isnan().all() for batch in method.seen)
    assert all(batch.sar is not None and batch.sar[:, 1 - missing].isfinite().all() for batch in method.seen)
    with pytest.raises(InputError, match="needed are VV and VH; give both"):
        restore(path, sar=sar, method=identity())


def test_radar_of_unknown_polarisation_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    for names in ((), ("HH",)):
        sar = write(tmp_path / "s1.tif", np.full((1, 75, 101), -10, np.float32), names)
        with pytest.raises(InputError, match=r"of unknown polarisation; .* with --polarisations VV$"):
            restore(path, sar=sar)
    sar = write(tmp_path / "s1.tif", np.full((3, 75, 101), -10, np.float32))
    with pytest.raises(InputError, match=r"of unknown polarisation; .* with --polarisations VV,VH,-$"):
        restore(path, sar=sar)
    with pytest.raises(InputError, match=r"has 13 bands \(B01, .*\), an optical one; give the radar scene"):
        restore(path, sar=path)


def test_a_name_in_place_of_the_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    with pytest.raises(InputError, match=r"needed is the model; give pellucid.load\('ground'\)"):
        restore(path, method="ground")


def test_the_line_of_a_check_names_the_guides(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    sar = write(tmp_path / "s1.tif", np.full((1, 75, 101), -10, np.float32), ("VV",))
    older = write(tmp_path / "older.tif", land(), BANDS)
    line = check_scene(
        path, tmp_path / "out.tif", sar=sar, references=[older], method=Scout(), options=OPTIONS
    )
    assert "13 bands, 12 tiles, with VV radar, with 1 other date; all checks passed" in line


def test_matching_to_surroundings_is_not_for_a_method_that_uses_them(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", cloudy(), BANDS)
    with pytest.raises(InputError, match="from the clear pixels already; leave out --match-surroundings"):
        restore(path, options=replace(OPTIONS, match_surroundings=True))


def test_a_real_older_date_is_closer_to_the_ground_than_the_mean(tmp_path: Path, data_folder: Path) -> None:
    root = data_folder / "oscd_two_dates"
    name = sorted(path.name for path in (root / "s2_newer").glob("*.tif"))[0]
    truth = read(root / "s2_newer" / name)
    scene = truth.copy()
    scene[:, 60:180, 60:180] = 8000
    path, errors = write(tmp_path / "s2.tif", scene, BANDS), []
    for references in ([], [write(tmp_path / "older.tif", read(root / "s2_older" / name), BANDS)]):
        restore(path, references=references, options=replace(OPTIONS, tile=128, overlap=32))
        out = read(tmp_path / "out.tif")
        errors.append(np.abs(out.astype(float) - truth)[:, 60:180, 60:180].mean())
    assert errors[1] < 0.8 * errors[0]
