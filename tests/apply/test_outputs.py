from pathlib import Path

import pytest
from scenes import BANDS, ground, write

from pellucid.apply.options import SceneOptions
from pellucid.apply.outputs import GO_ON, Done, Output, SceneOutputs, can_go_on, check_outputs
from pellucid.data.files import beside
from pellucid.data.gdal_open import open_raster
from pellucid.data.working_file import ENDINGS
from pellucid.errors import InputError, WriteError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


def test_results_of_several_sources_may_lie_in_one_folder_that_is_still_to_be_made(tmp_path: Path) -> None:
    sources = [tmp_path / "in" / name for name in ("a.png", "b.png")]
    touch(*sources)
    outputs = [Output(tmp_path / "out" / source.name, source, 1) for source in sources]
    check_outputs(outputs, sources, folders=[tmp_path / "out"])
    check_outputs(outputs, sources)
    assert not (tmp_path / "out").exists()


def test_results_that_replace_something_are_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    touch(a, b)
    (tmp_path / "link.tif").hardlink_to(a)
    for outputs, message in (
        ([Output(a, b)], "a.tif: it is an input; name another file"),
        ([Output(tmp_path / "link.tif", b)], "link.tif: it is an input"),
        (
            [Output(tmp_path / "c.tif", a), Output(tmp_path / "c.tif", b)],
            "a.tif and .*b.tif would both become",
        ),
        ([Output(tmp_path / "c.tif", a), Output(tmp_path / "c.tif", a, 1)], "c.tif: it is the result itself"),
    ):
        with pytest.raises(InputError, match=message):
            check_outputs(outputs, [a, b])
    twins = [Output(tmp_path / "c.tif", a), Output(tmp_path / "C.tif", b)]
    check_outputs(twins, [a, b])
    with pytest.raises(InputError, match="would both become"):
        check_outputs(twins, [a, b], ignore_case=True)


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    out = Output(tmp_path / "out" / "a.tif", tmp_path / "a.tif", 10**18)
    with pytest.raises(InputError, match=r"GB free, 1000000000.0 GB may be needed; free the disk"):
        check_outputs([out], [], folders=[tmp_path / "out"])


def test_a_scene_that_the_disk_cannot_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    scene, out = tmp_path / "s2.tif", tmp_path / "out.tif"
    size = {"height": 400_000, "width": 400_000, "count": 13, "dtype": "uint16"}
    options = {"sparse_ok": True, "bigtiff": "YES", "tiled": True, "blockxsize": 8192, "blockysize": 8192}
    with open_raster(scene, "w", driver="GTiff", **size, **options):
        pass
    outputs = SceneOutputs.of(out, None, SceneOptions())
    with pytest.raises(InputError, match=r"GB free, 4160.0 GB may be needed; free the disk"):
        outputs.check([scene])
    beside(out, ENDINGS["result"]).touch()  # an earlier call has room for it
    outputs.check([scene])


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), WriteError("cannot write x: No space left on device")]
)
def test_where_work_stops_it_is_said_once_that_what_is_finished_was_kept(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, can_go_on(), can_go_on():
        raise error
    said = [str(raised.value), *getattr(raised.value, "__notes__", [])]
    assert " ".join(said).count(GO_ON) == 1
    with pytest.raises(ZeroDivisionError) as fault, can_go_on():
        raise ZeroDivisionError
    assert not getattr(fault.value, "__notes__", [])


def test_what_is_done_is_remembered_until_it_or_the_key_changes(tmp_path: Path) -> None:
    note, source, result = tmp_path / "note.json", tmp_path / "a.png", tmp_path / "out.png"
    touch(source, result)
    done = Done(note, "key", resume=True)
    assert not done.holds(source, [result])
    done.add(source, [result])
    assert Done(note, "key", resume=True).holds(source, [result])
    assert not Done(note, "other", resume=True).holds(source, [result])
    assert not Done(note, "key", resume=False).holds(source, [result])
    source.write_text("changed")
    assert not Done(note, "key", resume=True).holds(source, [result])
    note.write_text("no JSON")
    assert not Done(note, "key", resume=True).holds(source, [result])
    done.drop()
    assert not note.exists()


def test_without_a_note_nothing_is_kept(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    done = Done(None, "", resume=True)
    done.add(tmp_path / "a.png", [])
    done.drop()
    assert not done.holds(tmp_path / "a.png", [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_files_that_a_vrt_is_made_of_are_inputs(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(8, 8), BANDS)
    band = "<VRTRasterBand dataType='UInt16' band='1'><SimpleSource><SourceFilename relativeToVRT='1'>{}"
    band += "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    for name, source in (("inner.vrt", "s2.tif"), ("outer.vrt", "inner.vrt")):
        text = f"<VRTDataset rasterXSize='8' rasterYSize='8'>{band.format(source)}</VRTDataset>"
        (tmp_path / name).write_text(text)
    (tmp_path / "link.tif").symlink_to(scene)
    for name in ("s2.tif", "inner.vrt", "link.tif"):
        with pytest.raises(InputError, match=f"{name}: it is an input; name another file"):
            check_outputs([Output(tmp_path / name, scene)], [tmp_path / "outer.vrt"])


def test_a_preview_is_a_result_like_the_others(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(8, 8), BANDS)
    (tmp_path / "out.png").write_bytes(b"my picture")
    with pytest.raises(
        InputError, match=r"out\.png: a file is there that pellucid did not write; name another"
    ):
        SceneOutputs.of(tmp_path / "out.tif", None, SceneOptions()).check([scene])
    SceneOutputs.of(tmp_path / "out.tif", None, SceneOptions(preview=False)).check([scene])
    (tmp_path / "out.png").unlink()
    (tmp_path / "out.png").symlink_to(scene)
    with pytest.raises(InputError, match=r"out\.png: it is an input"):
        SceneOutputs.of(tmp_path / "out.tif", None, SceneOptions()).check([scene])


def test_what_was_painted_never_replaces_a_file_of_others(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(8, 8), BANDS)
    write(tmp_path / "out_painted.tif", ground(8, 8), BANDS)
    with pytest.raises(InputError, match=r"out_painted\.tif: a file is there that pellucid did not write"):
        SceneOutputs.of(tmp_path / "out.tif", None, SceneOptions()).check([scene])
    SceneOutputs.of(tmp_path / "out.tif", None, SceneOptions(painted=False)).check([scene])
    std = tmp_path / "b_painted.tif"
    with pytest.raises(InputError, match=r"b_painted\.tif: it is the result itself"):
        SceneOutputs.of(tmp_path / "b.tif", std, SceneOptions()).check([scene])


def test_results_that_a_list_names_stay_in_their_folder(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "a.png"
    touch(source)
    check_outputs([Output(out / "r_000" / "a.png", source)], [source], folders=[out])
    for path in (out / ".." / "a.png", out / Path("/etc/a.png"), out / "x" / ".." / ".." / "b.png"):
        with pytest.raises(InputError, match=r"it is not in .*out; let names in lists be relative, without"):
            check_outputs([Output(path, source)], [source], folders=[out])


def test_what_a_user_replaces_knowingly_may_be_anybodys(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "a.png"
    touch(source, out / "b.png")
    check_outputs([Output(out / "b.png", source)], [source], folders=[out], replaces=True)
    with pytest.raises(InputError, match="pellucid did not write"):
        check_outputs([Output(out / "b.png", source)], [source], folders=[out])
