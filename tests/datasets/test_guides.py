from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import write_raster

from pellucid.datasets._guides import mirror, read_polarisations
from pellucid.errors import InputError

# Backscatter as of land: VV about -12 dB, VH about -18 dB.
DB = np.random.default_rng(0).normal((-12, -18), 2, (8, 8, 2)).transpose(2, 0, 1).astype(np.float32)


def test_linear_power_becomes_the_same_as_decibels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_raster(tmp_path / "db.tif", DB, ("VV", "VH"))
    write_raster(tmp_path / "linear.tif", 10 ** (DB / 10), ("VV", "VH"))
    db, linear = (read_polarisations(tmp_path / f"{name}.tif") for name in ("db", "linear"))
    torch.testing.assert_close(linear, db)
    assert float(db[0].mean()) == pytest.approx((25 - 12) / 25, abs=0.02)
    assert "holds linear power, not dB: it is converted" in caplog.text


def test_another_unit_of_radar_is_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "s1.tif", DB * 10, ("VV", "VH"))
    with pytest.raises(InputError, match=r"dB times 10\?; divide them"):
        read_polarisations(tmp_path / "s1.tif")


def test_radar_without_a_value_is_nan(tmp_path: Path) -> None:
    write_raster(tmp_path / "s1.tif", np.full((2, 4, 6), -9999, np.float32), ("VV", "VH"))
    found = read_polarisations(tmp_path / "s1.tif")
    assert found.shape == (2, 4, 6)
    assert found.isnan().all()


def test_an_image_is_mirrored_as_often_as_needed() -> None:
    image = torch.tensor([[1, 2, 3]])
    assert mirror(image, 8).tolist() == [[1, 2, 3, 3, 2, 1, 1, 2]] * 8
    assert mirror(image, 1).tolist() == [[1, 2, 3]]
