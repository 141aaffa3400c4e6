"""Writing a scene: what is said where the disk is full when the result is compressed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.shutil
from rasterio.errors import RasterioIOError
from rasters import write_raster

from pellucid.data.working_file import explain_write_error, write_cog
from pellucid.errors import WriteError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    write_raster(tmp_path / "made.tif", np.ones((1, 64, 64), np.uint16), ("B02",))
    return tmp_path / "made.tif"


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))


@pytest.mark.parametrize("is_written", [True, False])
def test_a_disk_that_is_full_is_named_whatever_gdal_says(
    is_written: bool, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = rasterio.shutil.copy

    def fill(source: Path, out: Path, **options: Any) -> None:
        if not is_written:
            raise RasterioIOError("TIFFReadDirectory:Failed to read directory at offset 13176832")
        copy(source, out, **options)
        out.write_bytes(out.read_bytes()[:100])

    monkeypatch.setattr(rasterio.shutil, "copy", fill)
    leave_free(monkeypatch, 1000)
    with pytest.raises(WriteError, match=r"has 0.0 MB free, 0.\d MB may be needed; free the disk"):
        write_cog(made, tmp_path / "out.tif")
    leave_free(monkeypatch, 1 << 30)
    with pytest.raises((WriteError, RasterioIOError), match=r"Failed to read directory|not recognized|disk"):
        write_cog(made, tmp_path / "out.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["made.tif"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("TIFFAppendToStrip:Write error at scanline 256", "the disk, which may be full, took no more (TIFF"),
        ("not recognized as being in a supported file format", "cannot write out.tif: not recognized"),
    ],
)
def test_what_gdal_says_of_a_full_disk_is_put_in_words(found: str, said: str) -> None:
    error = str(explain_write_error(Path("out.tif"), RasterioIOError(found)))
    assert said in error
    assert error.endswith("free the disk or choose another folder")
