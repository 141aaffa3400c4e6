import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from loopback import TIFF

from pellucid.errors import InputError
from pellucid.web.given_files import (
    DRIVERS,
    check_content,
    check_given,
    check_name,
    find_given,
    skipped_drivers,
)
from pellucid.web.limits import RequestError

JP2 = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50)


@pytest.mark.parametrize("name", ["S2.tif", "a b (1)+x=2.tif", "Überflug, März.tif", "T33UUP_20200101.zip"])
def test_plain_names_are_taken(name: str) -> None:
    assert check_name(name) == name


def write_zip(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_archives_of_images_are_taken_and_others_are_not(tmp_path: Path) -> None:
    check_content(write_zip(tmp_path / "a.zip", "x.SAFE/B02.jp2", JP2))
    with pytest.raises(InputError, match=r"x.SAFE/B02.jp2 in b.zip is no JPEG 2000"):
        check_content(write_zip(tmp_path / "b.zip", "x.SAFE/B02.jp2", b"<VRTDataset/>"))
    with pytest.raises(InputError, match="no Sentinel-2 product"):
        check_content(write_zip(tmp_path / "c.zip", "x.txt", b""))
    (tmp_path / "d.zip").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(InputError, match="damaged archive"):
        check_content(tmp_path / "d.zip")


def test_a_product_whose_files_leave_the_folder_is_refused(tmp_path: Path) -> None:
    shared, secret = tmp_path / "data", tmp_path / "secret.jp2"
    product = shared / "S2A.SAFE"
    product.mkdir(parents=True)
    (product / "MTD_MSIL1C.xml").write_text("<a/>")
    (product / "B02.jp2").write_bytes(JP2)
    secret.write_bytes(JP2)
    check_given(shared, find_given(shared, "S2A.SAFE"))
    (product / "B03.jp2").write_bytes(b"<VRTDataset/>")
    with pytest.raises(InputError, match=r"B03.jp2 is no TIFF"):
        check_given(shared, find_given(shared, "S2A.SAFE"))
    (product / "B03.jp2").unlink()
    (product / "B03.jp2").symlink_to(secret)
    with pytest.raises(InputError, match="a link to another place"):
        check_given(shared, find_given(shared, "S2A.SAFE"))


def test_a_folder_holds_pictures_alone(tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "a.tif").write_bytes(TIFF)
    check_given(tmp_path, find_given(tmp_path, "slices"))
    (tmp_path / "slices" / "list.csv").write_text("../../x.tif")
    with pytest.raises(InputError, match=r"list.csv is no TIFF"):
        check_given(tmp_path, find_given(tmp_path, "slices"))


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"II*\0"])
def test_a_vrt_behind_the_first_bytes_of_a_picture_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(start + b'<VRTDataset rasterXSize="8" rasterYSize="8"></VRTDataset>')
    with pytest.raises(InputError, match="takes nothing else"):
        check_content(path)


def test_jobs_know_no_formats_that_read_elsewhere() -> None:
    skipped = skipped_drivers().split(",")
    assert {"WMS", "STACIT", "GTI", "DERIVED", "HTTP", "MRF"} <= set(skipped)
    code = "import rasterio\nwith rasterio.Env() as env: print(sorted(env.drivers()))"
    environment = {**os.environ, "GDAL_SKIP": ",".join(skipped)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert set(ast.literal_eval(done.stdout)) <= set(DRIVERS)


def test_without_a_folder_no_path_is_read() -> None:
    with pytest.raises(RequestError, match="reads no folder"):
        find_given(None, "S2.tif")
