import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from rasters import write_raster

from pellucid.data.geotiff import Raster
from pellucid.data.shards import Tree, is_there, is_whole, read_shard
from pellucid.errors import InputError


def pack(folder: Path, shard: Path, prefix: str = "") -> None:
    """Put the files below a folder into a `.tar`, as `tar -cf` does."""
    with tarfile.open(shard, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, f"{prefix}{path.relative_to(folder).as_posix()}", recursive=False)


def write_images(folder: Path, count: int = 3) -> None:
    for i in range(count):
        values = np.random.default_rng(i).integers(1, 9000, (2, 16, 16)).astype(np.uint16)
        write_raster(folder / "a" / f"{i}.tif", values, ("B02", "B03"))


def test_an_image_in_a_tar_is_read_as_the_unpacked_one(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    pack(tmp_path / "images", tmp_path / "images.tar", "./")
    for name in ("a/0.tif", "a/2.tif"):
        with (
            Raster(tmp_path / "images" / name, "image") as one,
            Raster(tmp_path / "images.tar" / name, "image") as two,
        ):
            assert np.array_equal(one.read_array(), two.read_array())
            assert one.grid.matches(two.grid)
            assert one.dataset.descriptions == two.dataset.descriptions


def test_a_tree_lists_what_lies_in_shards_as_if_it_were_unpacked(tmp_path: Path) -> None:
    write_images(tmp_path / "all")
    names = [name for name, _ in Tree(tmp_path / "all").glob("a/*.tif")]
    assert names == [PurePosixPath(f"a/{i}.tif") for i in range(3)]
    shards = tmp_path / "shards"
    (shards / "a").mkdir(parents=True)
    pack(tmp_path / "all", shards / "one.tar")
    (tmp_path / "all" / "a" / "0.tif").rename(shards / "a" / "0.tif")
    tree = Tree(shards)
    assert [name for name, _ in tree.glob("a/*.TIF")] == names
    assert tree.find(names[0]) == shards / "a" / "0.tif"
    assert tree.find(names[1]) == shards / "one.tar" / "a" / "1.tif"
    assert tree.has_folder("a")
    assert not tree.has_folder("b")
    assert not tree.glob("*.tif")


def test_what_a_truncated_tar_lacks_is_missing(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    shard = tmp_path / "images.tar"
    pack(tmp_path / "images", shard)
    first, count = read_shard(shard).files["a/2.tif"]
    shard.write_bytes(shard.read_bytes()[: first + count - 1])
    assert not read_shard(shard).is_whole
    assert Tree(tmp_path).broken == (shard,)
    assert is_there(shard / "a" / "1.tif")
    assert not is_there(shard / "a" / "2.tif")
    with pytest.raises(InputError, match=r"a/2\.tif is not in .*images\.tar, or not whole; download"):
        Raster(shard / "a" / "2.tif", "image")


def test_an_image_without_its_end_is_not_whole(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    path = tmp_path / "a" / "0.tif"
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_whole(path)
    path.write_bytes(b"II")
    assert not is_whole(path)
    assert not is_whole(tmp_path / "none.tif")
