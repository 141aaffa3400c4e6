from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import (
    BANDS,
    EVERYTHING,
    OPTIONS,
    FakeMethod,
    RandomMethod,
    constant,
    ground,
    identity,
    nothing_left,
    write,
)

from pellucid.apply.remove_clouds import restore_scene
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError


def refuse(folder: Path, out: Path, message: str, **changes: Any) -> None:
    """Check that the call is refused with the message and leaves only what was there."""
    before = {path.name for path in folder.iterdir()}
    scene = changes.pop("scene", folder / "s2.tif")
    arguments = {"method": identity(), "options": EVERYTHING} | changes
    with pytest.raises(InputError, match=message):
        restore_scene(scene, out, **arguments)
    assert nothing_left(folder, before)


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    refuse(tmp_path, scene / "out.tif", r"s2\.tif is a file; choose another folder")
    refuse(tmp_path, tmp_path / "new" / "out.jpg", "the result is a GeoTIFF; let its name end in .tif")
    refuse(tmp_path, tmp_path / "out.jpg", "the result is a GeoTIFF; let its name end in .tif")
    refuse(tmp_path, scene, "it is an input; name another file")
    (tmp_path / "folder.tif").mkdir()
    refuse(tmp_path, tmp_path / "folder.tif", "it is a folder; name a file in it")


def test_a_full_disk_is_refused_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pellucid.data.working_file.WorkingFile.write", full)
    refuse(tmp_path, tmp_path / "out.tif", "No space left on device; free the disk or choose another folder")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    refuse(tmp_path, tmp_path / "out.tif", r"has 0.0 MB free, 0.\d MB may be needed; free the disk")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    out = tmp_path / "out.tif"
    refuse(
        tmp_path,
        out,
        "tile is 30 px, must be a positive multiple of 4; try 32",
        options=replace(OPTIONS, tile=30),
    )
    refuse(tmp_path, out, "must be less than the tile of 32; try 8", options=replace(OPTIONS, overlap=32))
    refuse(tmp_path, out, "no device 'abacus'", options=replace(OPTIONS, device="abacus"))


def test_a_scene_without_any_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", np.zeros((13, 75, 101), np.uint16), BANDS)
    refuse(tmp_path, tmp_path / "out.tif", "holds no data at all, give another")


def test_a_scene_damaged_somewhere_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "s2.tif", ground(400, 400), BANDS, compress="deflate", tiled=True)
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 200):
        content[at] ^= 255
    path.write_bytes(content)
    refuse(tmp_path, tmp_path / "out.tif", "is damaged .* copy or download it again")


def test_missing_radar_is_refused_by_a_model_that_needs_it(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    method = FakeMethod(lambda batch: batch.degraded, radar_optional=False)
    refuse(
        tmp_path, tmp_path / "out.tif", "no radar is given and this model needs it; add --sar", method=method
    )


def test_radar_is_refused_by_a_model_that_takes_none(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    sar = write(tmp_path / "s1.tif", np.full((2, 75, 101), -10, np.float32))
    method = identity()
    method.radar = SENTINEL1.select(())
    refuse(tmp_path, tmp_path / "out.tif", "takes none; leave out --sar", method=method, sar=sar)


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    refuse(tmp_path, tmp_path / "out.tif", "gave no number at s2_0_0 in fp32", method=constant(float("nan")))


def test_bands_that_do_not_show_clouds_need_a_cloud_map(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground()[:1], ("B08",))
    method = identity()
    method.optical = SENTINEL2.select(("B08",))
    message = "cannot be found in B08 alone .* give a cloud map with --cloud"
    refuse(tmp_path, tmp_path / "out.tif", message, method=method, options=OPTIONS)


def test_a_model_for_slices_is_refused(tmp_path: Path) -> None:
    method = identity()
    method.scale = 4
    refuse(
        tmp_path, tmp_path / "out.tif", "enlarges slices 4 times.*or use `pellucid upscale`", method=method
    )


@pytest.mark.parametrize(
    ("method", "changes", "uncertainty", "message"),
    [
        (identity(), {"samples": 3}, None, "3 samples .* is deterministic.* use --samples 1"),
        (identity(), {}, "std.tif", "uncertainty .* is deterministic.* leave out --uncertainty"),
        (RandomMethod(0.1), {}, "std.tif", "needs several samples, 1 is drawn; add --samples 8"),
        (RandomMethod(0.1), {"samples": 2}, "out.tif", "it is the result itself; name another file"),
        (RandomMethod(0.1), {"samples": 2}, "s2.tif", "it is an input; name another file"),
        (RandomMethod(0.1), {"samples": 2}, "std.png", "is a GeoTIFF; let its name end in .tif"),
        (RandomMethod(0.1), {"samples": 2}, "s2.tif/std.tif", "s2.tif is a file; choose another folder"),
        (
            RandomMethod(0.1),
            {"samples": 2, "prompt": "a"},
            "new/std.tif",
            "takes no text; leave out --prompt",
        ),
        (identity(), {"prompt": "a lake"}, None, "takes no text; leave out --prompt or choose another"),
        (identity(), {"match_surroundings": True}, None, "which --no-keep-clear gives up; leave one out"),
        (identity(), {"steps": 4}, None, "takes no steps; leave out --steps or choose another --model"),
    ],
)
def test_what_the_model_or_the_options_do_not_allow_is_refused(
    tmp_path: Path, method: FakeMethod, changes: dict[str, Any], uncertainty: str | None, message: str
) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    path = tmp_path / uncertainty if uncertainty else None
    options = replace(EVERYTHING, **changes)
    refuse(tmp_path, tmp_path / "out.tif", message, method=method, options=options, uncertainty=path)
    assert method.num_calls == 0


def test_a_truth_on_another_grid_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s2.tif", ground(), BANDS)
    truth = write(tmp_path / "truth.tif", ground(24, 24), BANDS)
    options = replace(EVERYTHING, truth=truth)
    refuse(tmp_path, tmp_path / "out.tif", "has another grid than the scene; give one on", options=options)
