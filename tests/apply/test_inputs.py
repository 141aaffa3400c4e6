from pathlib import Path

import numpy as np
import pytest
import rasterio
from scenes import BANDS, ground, write

from pellucid.apply.inputs import (
    check_bands,
    check_radar_picture,
    check_rasters,
    check_scene_model,
    check_slices,
    find_scenes,
)
from pellucid.apply.scene_list import list_scenes
from pellucid.errors import InputError


def test_missing_and_unreadable_files_are_named_by_what_they_are(tmp_path: Path) -> None:
    scene, none, junk = (
        write(tmp_path / "s2.tif", ground(8, 8), BANDS),
        tmp_path / "none.tif",
        tmp_path / "j.tif",
    )
    junk.write_text("junk")
    (tmp_path / "empty").mkdir()
    check_rasters(scene)
    for check, files, message in (
        (check_rasters, (none,), "the optical scene .*none.tif does not exist"),
        (check_rasters, (scene, junk), "the radar scene .*j.tif is no readable raster"),
        (check_rasters, (scene, None, none), "the cloud map .*none.tif does not exist"),
        (check_slices, (none,), "none.tif does not exist"),
        (check_slices, (junk,), "j.tif is damaged or no TIF file"),
        (check_slices, (tmp_path / "empty",), "no slice .* in .*empty fits"),
        (check_radar_picture, (none,), "none.tif does not exist; name a radar picture"),
        (check_radar_picture, (Path("/dev/zero"),), "radar picture /dev/zero is a pipe or device, no file"),
        (find_scenes, (Path("/dev/zero"), "*"), "the scene /dev/zero is a pipe or device, no file; save it"),
        (check_radar_picture, (junk,), "the radar image .*j.tif is no readable raster"),
    ):
        with pytest.raises(InputError, match=message):
            check(*files)


def test_a_scene_without_the_bands_of_a_model_is_refused(tmp_path: Path) -> None:
    few = write(tmp_path / "few.tif", np.ones((3, 8, 8), np.uint16))
    with pytest.raises(InputError, match="has 3 bands without names, needed are 13"):
        check_bands(few, "cross_attention")
    check_bands(few, "sr3_ct_x4")  # which `restore_scene` refuses
    with pytest.raises(InputError, match="'no_such_model' is neither a run folder"):
        check_bands(few, "no_such_model")
    check_bands(write(tmp_path / "s2.tif", ground(8, 8), BANDS), "cross_attention")


def test_what_a_model_does_not_take_is_refused_by_its_config() -> None:
    check_scene_model("ground", references=True, bands=True)
    check_scene_model("cross_attention")
    with pytest.raises(InputError, match="the model cross_attention takes none; leave out --reference"):
        check_scene_model("cross_attention", references=True)
    with pytest.raises(InputError, match="the model cross_attention needs its own bands"):
        check_scene_model("cross_attention", bands=True)


def test_scenes_are_found_by_name_without_hidden_ones_and_results(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIFF", "c.txt", ".hidden.tif", "maps/a.tif", "sub/d.vrt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    root, found = find_scenes(tmp_path, "**/*", [tmp_path / "maps"])
    assert [path.relative_to(root).as_posix() for path in found] == ["a.TIFF", "b.tif", "sub/d.vrt"]
    assert find_scenes(tmp_path / "b.tif", "**/*") == (tmp_path, [tmp_path / "b.tif"])


def test_what_was_painted_beside_a_scene_is_no_scene(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(), BANDS)
    painted = write(tmp_path / "s2_painted.tif", ground()[:1])
    with rasterio.open(painted, "r+") as file:
        file.update_tags(PELLUCID_LAYER="painted")
    assert find_scenes(tmp_path, "*.tif")[1] == [scene]
    assert [job.scene for job in list_scenes(tmp_path / "*.tif", tmp_path / "out")] == [scene]


def test_bands_and_polarisations_that_nothing_tells_are_refused_for_a_model_of_any_bands(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("method: {name: ground}\n")
    (run / "weights.safetensors").touch()
    four = write(tmp_path / "four.tif", np.ones((4, 8, 8), np.uint16))
    radar = write(tmp_path / "s1.tif", np.ones((1, 8, 8), np.float32))
    names = ("B02", "B03", "B04", "B08")
    with pytest.raises(InputError, match="4 bands without names, say what they are with --bands"):
        check_bands(four, str(run))
    with pytest.raises(InputError, match="of unknown polarisation"):
        check_bands(four, str(run), bands=names, sar=radar)
    check_bands(four, str(run), bands=names, sar=radar, polarisations=("VV",))


def test_guides_on_another_grid_are_refused_unless_they_are_aligned(tmp_path: Path) -> None:
    scene, other = (write(tmp_path / f"{side}.tif", ground(side, side), BANDS) for side in (8, 9))
    with pytest.raises(InputError, match=r"the reference .*9.tif lies on another grid .* with --align"):
        check_rasters(scene, references=[other], align=False)
    check_rasters(scene, references=[other], align=True)
