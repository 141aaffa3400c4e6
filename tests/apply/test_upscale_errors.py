import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from stacks import SMALL, Fake, pattern, save

from pellucid.apply.upscale import upscale
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError


@pytest.mark.parametrize(
    ("name", "values"),
    [("colour.png", "colour"), ("float.tif", math.inf), ("broken.png", "broken")],
)
def test_one_bad_slice_of_a_folder_stops_the_work_before_it_starts(
    tmp_path: Path, name: str, values: str | float
) -> None:
    folder = tmp_path / "in"
    save(folder / "good.png", pattern(8, 8))
    if values == "colour":
        save(folder / name, np.stack([pattern(8, 8, seed=i) for i in range(3)], 2))
    elif values == "broken":
        whole = (folder / "good.png").read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    else:
        save(folder / name, np.full((8, 8), values, np.float32))
    method = Fake()
    with pytest.raises(InputError, match=name):
        upscale(folder, tmp_path / "out", method=method, options=SMALL)
    assert not method.seen
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (Fake(), {"factor": 8}, "makes slices 4 times larger, the factor asked for is 8; use --factor 4"),
        (Fake(scale=1), {}, "does not enlarge, the factor asked for is 1; choose another --model"),
        (Fake(optical=SENTINEL2), {}, "the model restores B01, .* choose a model for slices"),
        (Fake(is_random=False), {"samples": 2}, "2 samples .* is deterministic.* use --samples 1"),
        (Fake(), {"tile": 100}, "tile is 100 px, must be a positive multiple of 8; try 96"),
        (Fake(), {"tile": 16}, "tiles of 16 px are too small for an overlap of 8 px .* use --tile 32"),
        (Fake(), {"grey_range": (5.0, 1.0)}, "the range is 5,1, but LOW must lie below HIGH; swap them"),
        (Fake(), {"steps": 3}, "takes no steps; leave out --steps"),
        (Fake(), {"device": "cuda:77"}, "there is no device 'cuda:77'"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    tmp_path: Path, method: Fake, options: dict[str, Any], message: str
) -> None:
    source = save(tmp_path / "in.png", pattern(8, 8))
    with pytest.raises(InputError, match=message):
        upscale(source, tmp_path / "out.png", method=method, options=replace(SMALL, **options))
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("source", "out", "std", "message"),
    [
        ("none.png", "out.png", None, "none.png does not exist"),
        ("a.png", "a.png", None, "a.png: it is an input; name another file"),
        ("a.png", "out.bmp", None, "out.bmp has the suffix '.bmp', slices are written as .png"),
        ("stack.tif", "out.png", None, "out.png cannot hold 2 pages"),
        ("a.png", "a.png/out.png", None, "a.png is a file; choose another folder"),
        ("a.png", "new/out.bmp", None, "out.bmp has the suffix '.bmp', slices are written as .png"),
        ("a.png", "full", None, "full: it is a folder; name a file in it"),
        ("a.png", "out.png", "out_std.png", "cannot hold a standard deviation, name a .tif"),
        ("a.png", "out.tif", "out.tif", "it is the result itself; name another file"),
        ("empty", "out", None, "no slice .* in .*empty fits"),
        ("full", "full", None, "full: it is the input; name another folder"),
        ("full", "a.png", None, "a.png: it is a file, and a folder of slices is given; name a folder"),
        ("full", "a.png/out", None, "a.png is a file; choose another folder"),
        ("full", "out", "full", "full: it is the input; name another folder"),
        ("tiffs", "out", "out", "a.tif: it is the result itself; name another file"),
        ("twins", "out", None, "b.jpg and .*b.png would both become .*b.png; rename one"),
    ],
)
def test_what_cannot_be_written_is_refused_before_work_starts(
    tmp_path: Path, source: str, out: str, std: str | None, message: str
) -> None:
    save(tmp_path / "a.png", pattern(8, 8))
    save(tmp_path / "stack.tif", np.stack([pattern(8, 8)] * 2))
    save(tmp_path / "full" / "a.png", pattern(8, 8))
    save(tmp_path / "tiffs" / "a.tif", pattern(8, 8))
    save(tmp_path / "twins" / "b.png", pattern(8, 8))
    Image.fromarray(pattern(8, 8)).save(tmp_path / "twins" / "b.jpg")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    method, options = Fake(), replace(SMALL, samples=2 if std else 1)
    std_path = tmp_path / std if std else None
    with pytest.raises(InputError, match=message):
        upscale(tmp_path / source, tmp_path / out, method=method, std=std_path, options=options)
    assert sorted(tmp_path.rglob("*")) == before
    assert not method.seen


def test_a_map_of_one_sample_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "in.png", pattern(8, 8))
    with pytest.raises(InputError, match="needs several samples, 1 is drawn; add --samples 5"):
        upscale(source, tmp_path / "out.png", method=Fake(), std=tmp_path / "std.tif", options=SMALL)


def test_a_full_disk_is_refused_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / "in.tif", np.stack([pattern(8, 8)] * 2))
    free = shutil.disk_usage(tmp_path)._replace(free=2047)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: free)
        with pytest.raises(InputError, match=r"0.0 MB may be needed; free the disk"):
            upscale(source, tmp_path / "out.tif", method=Fake(), options=SMALL)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    with pytest.raises(InputError, match=r"cannot write .*out.tif: No space left on device; free the disk"):
        upscale(source, tmp_path / "out.tif", method=Fake(), options=SMALL)
    assert list(tmp_path.iterdir()) == [source]


def test_a_model_that_gives_no_numbers_leaves_nothing(tmp_path: Path) -> None:
    source = save(tmp_path / "in.png", pattern(8, 8))
    options = replace(SMALL, samples=2)
    with pytest.raises(InputError, match="gave no number at row 0, column 0 in fp32"):
        upscale(source, tmp_path / "out.png", method=Fake(spread=math.nan), options=options)
    assert list(tmp_path.iterdir()) == [source]
