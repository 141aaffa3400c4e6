"""SEN12MS-CR in `.tar` files as it is downloaded, and copies of which files are missing or cut."""

import tarfile
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.datasets.test_sen12ms_cr import config, write_rois

from pellucid.data.batch import Batch
from pellucid.datasets._augment import AugmentConfig
from pellucid.datasets.sen12ms_cr import Sen12MsCr, recognise
from pellucid.errors import InputError
from pellucid.evaluation.check_folder import check_folder
from pellucid.train.stream import TrainingStream


def assert_same(one: Batch, two: Batch) -> None:
    assert one.key == two.key
    for name, image in one.images().items():
        torch.testing.assert_close(two.images()[name], image, rtol=0, atol=0, equal_nan=True)


def as_shards(root: Path, shards: Path, kinds: tuple[str, ...] = ("s1", "s2", "s2_cloudy")) -> None:
    """Make a `.tar` of each folder of a season and sensor, as the dataset is published but for gzip."""
    shards.mkdir()
    for folder in root.iterdir():
        if folder.name.partition("_spring_")[2] in kinds:
            with tarfile.open(shards / f"{folder.name}.tar", "w") as archive:
                archive.add(folder, folder.name)


PATCHES = ("ROIs1158_spring_1_p30", "ROIs1158_spring_1_p4", "ROIs1158_spring_26_p7")


def test_patches_in_tar_shards_are_those_of_the_unpacked_folder(tmp_path: Path) -> None:
    write_rois(tmp_path / "all", PATCHES)
    as_shards(tmp_path / "all", tmp_path / "shards")
    one, two = Sen12MsCr(config(tmp_path / "all")), Sen12MsCr(config(tmp_path / "shards"))
    assert one.keys == two.keys
    assert one.groups == two.groups
    for i in range(len(one)):
        assert_same(one[i], two[i])
    assert recognise(tmp_path / "shards")
    reports = [check_folder(tmp_path / name) for name in ("all", "shards")]
    assert [(report.num_samples, report.num_unusable) for report in reports] == [(3, 0)] * 2


def test_training_samples_from_shards_are_those_of_the_unpacked_folder(tmp_path: Path) -> None:
    write_rois(tmp_path / "all", PATCHES)
    as_shards(tmp_path / "all", tmp_path / "shards")
    streams = [
        TrainingStream(
            [(data, 1.0, partial(data.change, augment=AugmentConfig()))],
            length=6,
            tile=8,
            augment=AugmentConfig(),
            seed=3,
        )
        for data in (Sen12MsCr(config(tmp_path / name)) for name in ("all", "shards"))
    ]
    for i in range(6):
        assert_same(streams[0][i], streams[1][i])


def test_compressed_shards_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "ROIs1158_spring_s2_cloudy.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"is compressed.*gunzip ROIs1158_spring_s2_cloudy\.tar\.gz"):
        Sen12MsCr(config(tmp_path))


def test_missing_files_are_refused_or_their_patches_left_out(tmp_path: Path) -> None:
    write_rois(tmp_path, PATCHES)
    (tmp_path / "ROIs1158_spring_s2" / "s2_1" / "ROIs1158_spring_s2_1_p4.tif").unlink()
    cut = tmp_path / "ROIs1158_spring_s1" / "s1_26" / "ROIs1158_spring_s1_26_p7.tif"
    cut.write_bytes(cut.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"s2_1_p4\.tif is missing.*missing: skip"):
        Sen12MsCr(config(tmp_path))
    data = Sen12MsCr(config(tmp_path, missing="skip"))
    assert data.keys == PATCHES[:1]
    assert [line.partition(":")[0] for line in data.left_out] == [*PATCHES[1:]]
    assert str(cut) in data.left_out[1]


def test_a_truncated_shard_is_refused_or_what_is_whole_of_it_taken(tmp_path: Path) -> None:
    write_rois(tmp_path / "all", PATCHES)
    as_shards(tmp_path / "all", tmp_path / "shards")
    shard = tmp_path / "shards" / "ROIs1158_spring_s1.tar"
    with tarfile.open(shard) as archive:
        *_, last = archive
    shard.write_bytes(shard.read_bytes()[: last.offset_data + last.size - 1])
    with pytest.raises(InputError, match=r"spring_s1\.tar is not whole.*missing: skip"):
        Sen12MsCr(config(tmp_path / "shards"))
    data = Sen12MsCr(config(tmp_path / "shards", missing="skip"))
    assert len(data) == 2
    assert len(data.left_out) == 1
    assert Path(last.name).name in data.left_out[0]


def test_nothing_whole_is_refused(tmp_path: Path) -> None:
    write_rois(tmp_path / "all", PATCHES)
    as_shards(tmp_path / "all", tmp_path / "shards", ("s1", "s2_cloudy"))
    with pytest.raises(InputError, match=r"no patch is whole.*ROIs1158_spring_s2.*; download more"):
        Sen12MsCr(config(tmp_path / "shards", missing="skip"))
