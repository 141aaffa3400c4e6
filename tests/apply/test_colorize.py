import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image
from tests.apply.test_joint_tiles import Local, method
from tests.painters import PROMPTS, Painter, paint, pattern, read, save_radar
from tests.pairs import write_pairs

from pellucid.apply import engine
from pellucid.apply.color_jobs import SHEET, NamedPrompt, Prompts, plan
from pellucid.apply.colorize import (
    Colorizer,
    check_colorizer,
    check_takes_text,
    colorize_all,
    colorize_file,
)
from pellucid.apply.options import PictureOptions
from pellucid.data.ranges import SENTINEL1, SLICE
from pellucid.errors import InputError
from pellucid.generative.path import RectifiedFlow
from pellucid.methods.inference import warn_of_unknown
from pellucid.methods.tones import Tones, describe

SMALL = PictureOptions(tile=32, overlap=8, device="cpu", html=False)
TROPICAL, ARCTIC = PROMPTS


def painted(grey: np.ndarray, prompt: str) -> np.ndarray:
    return np.rint(grey[..., None] * np.array(paint(prompt))).astype(np.uint8)


@pytest.mark.parametrize("size", [(20, 24), (61, 83), (32, 33), (5, 3)])
def test_tiles_of_a_painter_leave_no_seams(tmp_path: Path, size: tuple[int, int]) -> None:
    source, out = save_radar(tmp_path / "sar.png", *size), tmp_path / "out.png"
    report = colorize_file(source, out, method=Painter(), prompt=TROPICAL, options=SMALL)
    assert np.abs(read(out).astype(int) - painted(pattern(*size), TROPICAL)).max() <= 1
    assert (report.out, report.sheet, report.num_done) == (out, None, 1)


def test_neighbouring_tiles_share_their_noise_and_seeds_differ(tmp_path: Path) -> None:
    Image.new("L", (96, 64), 128).save(tmp_path / "sar.png")
    results = []
    for tile, seed in ((32, 0), (128, 0), (32, 1)):
        options = replace(SMALL, tile=tile, seed=seed)
        colorize_file(
            tmp_path / "sar.png",
            tmp_path / "out.png",
            method=Painter(spread=0.1),
            prompt=ARCTIC,
            options=options,
        )
        results.append(read(tmp_path / "out.png").astype(float))
    assert np.abs(results[0] - results[1]).max() <= 1
    assert results[0].std() == pytest.approx(0.1 * 255, rel=0.1)
    assert abs(np.corrcoef(results[0].ravel(), results[2].ravel())[0, 1]) < 0.1


def test_the_mean_of_several_samples_is_nearer_to_what_all_share(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 128).save(tmp_path / "sar.png")
    wanted, apart = painted(np.full((64, 64), 128), ARCTIC), []
    for samples in (1, 16):
        options = replace(SMALL, samples=samples)
        colorize_file(
            tmp_path / "sar.png",
            tmp_path / f"{samples}.png",
            method=Painter(spread=0.1),
            prompt=ARCTIC,
            options=options,
        )
        apart.append((read(tmp_path / f"{samples}.png").astype(float) - wanted).std())
    assert apart[1] == pytest.approx(apart[0] / 4, rel=0.1)


def test_a_sampled_picture_does_not_depend_on_its_tiles(tmp_path: Path) -> None:
    source = save_radar(tmp_path / "sar.png", 70, 90)
    results = []
    for tile, overlap, batch in ((128, 16, 1), (32, 16, 1), (32, 16, 3)):
        options = replace(SMALL, tile=tile, overlap=overlap, batch=batch, sampler="ddpm", steps=4)
        colorize_file(source, tmp_path / "out.png", method=method(Local()), options=options)
        results.append(read(tmp_path / "out.png").astype(int))
    assert np.abs(results[1] - results[0]).max() <= 1
    assert np.abs(results[2] - results[0]).max() <= 1


def test_windows_of_a_huge_picture_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_radar(tmp_path / "sar.png", 150, 170)
    for name, window in (("whole", 4096), ("parts", 66)):
        monkeypatch.setattr(engine, "WINDOW", window)
        colorize_file(source, tmp_path / f"{name}.png", method=method(Local()), options=SMALL)
    difference = read(tmp_path / "whole.png").astype(int) - read(tmp_path / "parts.png")
    assert np.abs(difference).max() <= 1


def test_a_picture_gets_the_mean_colour_of_another(tmp_path: Path) -> None:
    source = save_radar(tmp_path / "sar.png")
    tone = np.zeros((8, 9, 3), np.uint8)
    tone[2:] = (120, 100, 80)
    Image.fromarray(tone).save(tmp_path / "tone.png")  # black is no data
    colorize_file(source, tmp_path / "plain.png", method=Painter(), prompt=ARCTIC, options=SMALL)
    colorize_file(
        source,
        tmp_path / "toned.png",
        method=Painter(),
        prompt=ARCTIC,
        tone=tmp_path / "tone.png",
        options=SMALL,
    )
    plain, toned = (read(tmp_path / f"{name}.png").astype(float) for name in ("plain", "toned"))
    wanted = (plain + np.array([120, 100, 80]) - plain.mean((0, 1))).clip(0, 255)
    assert np.abs(toned - wanted).max() <= 0.51
    method = Painter()
    method.tones = Tones(
        [[*describe(torch.from_numpy(pattern(20, 24) / 255)[None, None]), 0.5, 0.4, 0.3]] * 2
    )
    colorize_file(source, tmp_path / "by_radar.png", method=method, prompt=ARCTIC, options=SMALL)
    wanted = (plain + 255 * np.array([0.5, 0.4, 0.3]) - plain.mean((0, 1))).clip(0, 255)
    assert np.abs(read(tmp_path / "by_radar.png") - wanted).max() <= 0.51
    with pytest.raises(InputError, match=r"sar\.png is grey, an optical picture in colour is needed"):
        colorize_file(source, tmp_path / "out.png", method=Painter(), tone=source, options=SMALL)
    Image.fromarray(tone[:2]).save(tmp_path / "black.png")
    with pytest.raises(InputError, match=r"black\.png is .*; give"):
        colorize_file(source, tmp_path / "out.png", method=Painter(), tone=tmp_path / "black.png")
    assert not (tmp_path / "out.png").exists()


def test_each_page_of_a_tiff_is_a_radar_image(tmp_path: Path) -> None:
    pages = [pattern(20, 24, 0), pattern(32, 40, 1)]
    with tifffile.TiffWriter(tmp_path / "sar.tif") as file:
        for number, page in enumerate(pages):
            file.write(page, photometric="minisblack")
            Image.fromarray(page).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    jobs = plan(tmp_path / "sar.tif", out, prompts=[NamedPrompt("")])
    report = colorize_all(jobs, out, method=method(Local()), options=SMALL)
    assert (report.num_done, report.page) == (2, None)
    for number in range(2):
        one = tmp_path / f"one_{number}.tif"
        colorize_file(tmp_path / f"{number}.png", one, method=method(Local()), options=SMALL)
        assert (read(out / f"sar_page000{number}.tif") == read(one)).all()
    with pytest.raises(InputError, match=r"several pictures are to be made"):
        plan(tmp_path / "sar.tif", tmp_path / "one_0.tif", prompts=[NamedPrompt("")])


def test_georeference_and_gaps_are_kept(tmp_path: Path) -> None:
    values = np.full((1, 40, 50), -12.5, np.float32)
    values[0, :5] = np.nan
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 10, 10)}
    size = {"count": 1, "height": 40, "width": 50, "dtype": "float32"}
    with rasterio.open(tmp_path / "sar.tif", "w", driver="GTiff", **size, **place) as file:
        file.write(values)
    colorize_file(
        tmp_path / "sar.tif", tmp_path / "out.tif", method=Painter(), prompt=TROPICAL, options=SMALL
    )
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.crs.to_epsg(), file.transform, file.nodata) == (32633, place["transform"], 0)
        found = file.read()
    assert (found[:, :5] == 0).all()
    assert np.abs(found[:, 5:, 7].astype(int) - [[26], [128], [26]]).max() <= 1


def test_radar_and_prompt_reach_the_method(tmp_path: Path) -> None:
    painter = Painter()
    colorize_file(
        save_radar(tmp_path / "sar.png"),
        tmp_path / "out.png",
        method=painter,
        prompt=ARCTIC,
        options=SMALL,
    )
    (batch,) = painter.seen
    assert batch.prompt == (ARCTIC,)
    assert batch.sar is not None
    assert batch.degraded.equal(batch.sar.expand(-1, 3, -1, -1))
    np.testing.assert_allclose(batch.sar[0, 0, :20, :24] * 255, pattern(20, 24), atol=1e-4)


def test_sampling_starts_from_a_guess(tmp_path: Path) -> None:
    """A tenth of the way from the data there is little noise, and the network says that all is well."""

    class Content(Local):
        def forward(self, x_t: torch.Tensor, *_: object) -> torch.Tensor:
            return x_t

    colors = np.random.default_rng(5).integers(50, 200, (40, 48, 3), np.uint8)
    Image.fromarray(colors).save(tmp_path / "guess.png")
    difference = []
    for guess in (tmp_path / "guess.png", None):
        colorize_file(
            save_radar(tmp_path / "sar.png", 40, 48),
            tmp_path / "out.png",
            method=method(Content(), RectifiedFlow("image"), steps=10),
            guess=guess,
            options=replace(SMALL, strength=0.1),
        )
        difference.append(np.abs(read(tmp_path / "out.png").astype(int) - colors).mean())
    assert difference[0] < 20 < 40 < difference[1]


def test_a_folder_is_made_by_a_grid_and_gone_on_with(tmp_path: Path) -> None:
    for number in range(2):
        save_radar(tmp_path / "in" / f"{number}.png", seed=number)
    wishes = Prompts().combine(("tropical", "arctic"), ("summer", "winter"))
    jobs, out = plan(tmp_path / "in", tmp_path / "out", prompts=wishes), tmp_path / "out"
    with pytest.warns(UserWarning, match="does not know 'winter'"):
        report = colorize_all(jobs, out, method=Painter(), options=SMALL)
    assert (report.num_done, report.num_skipped, report.sheet) == (8, 0, out / SHEET)
    assert (read(out / "1_arctic_summer.png") == painted(pattern(20, 24, 1), ARCTIC)).all()
    assert Image.open(out / SHEET).width > 5 * 256
    (out / "0_tropical_winter.png").unlink()
    before = (out / "1_arctic_summer.png").stat().st_mtime_ns
    with pytest.warns(UserWarning, match="does not know"):
        again = colorize_all(jobs, out, method=Painter(), options=SMALL)
    assert (again.num_done, again.num_skipped) == (1, 7)
    assert (out / "1_arctic_summer.png").stat().st_mtime_ns == before
    with pytest.warns(UserWarning, match="does not know"):
        forced = colorize_all(jobs, out, method=Painter(), options=replace(SMALL, force=True))
    assert forced.num_done == 8


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("change", ["prompt", "seed", "tone", "weights", "radar", "tone file", "nothing"])
def test_pictures_made_otherwise_are_made_anew_and_that_is_said(
    change: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        save_radar(tmp_path / "in" / f"{number}.png", seed=number)
        if suffix == ".tif":
            Image.open(tmp_path / "in" / f"{number}.png").save(tmp_path / "in" / f"{number}.tif")
            (tmp_path / "in" / f"{number}.png").unlink()
    tone, other = tmp_path / "tone.png", tmp_path / "other.png"
    for path, color in ((tone, (90, 60, 30)), (other, (10, 20, 30))):
        Image.new("RGB", (4, 4), color).save(path)
    method, settings = Painter(), SMALL

    def run(prompt: str = TROPICAL, tone: Path = tone, out: str = "out") -> tuple[int, int]:
        jobs = plan(tmp_path / "in", tmp_path / out, prompts=[NamedPrompt(prompt)], tone=tone)
        report = colorize_all(jobs, tmp_path / out, method=method, options=settings)
        return report.num_done, report.num_skipped

    run()
    given = {"prompt": {"prompt": ARCTIC}, "tone": {"tone": other}}.get(change, {})
    if change == "seed":
        settings = replace(SMALL, seed=1)
    elif change == "weights":
        method.origin = "another", "0" * 64
    elif change == "radar":
        source = tmp_path / "in" / f"0{suffix}"
        source.write_bytes((tmp_path / "in" / f"1{suffix}").read_bytes())
    elif change == "tone file":
        Image.new("RGB", (4, 4), (1, 200, 3)).save(tone)
    number = {"nothing": 0, "radar": 1}.get(change, 2)
    assert run(**given) == (number, 2 - number)
    assert ("with other settings, or before an input changed" in caplog.text) == (number > 0)
    assert run(**given) == (0, 2)
    run(**given, out="fresh")
    for name in (f"0{suffix}", f"1{suffix}"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_a_picture_of_others_is_not_taken_for_a_result_nor_replaced_unless_forced(tmp_path: Path) -> None:
    save_radar(tmp_path / "in" / "0.png")
    theirs = save_radar(tmp_path / "out" / "0.png", seed=5)
    kept, jobs = (
        theirs.read_bytes(),
        plan(tmp_path / "in", tmp_path / "out", prompts=[NamedPrompt(TROPICAL)]),
    )
    with pytest.raises(InputError, match=r"0\.png: a file is there that is no result .* --force"):
        colorize_all(jobs, tmp_path / "out", method=Painter(), options=SMALL)
    with pytest.raises(InputError, match="--force"):
        Colorizer(jobs, Painter(), SMALL).describe(tmp_path / "out")
    assert theirs.read_bytes() == kept
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png"}
    report = colorize_all(jobs, tmp_path / "out", method=Painter(), options=replace(SMALL, force=True))
    assert report.num_done == 1


def test_a_dataset_is_shown_beside_its_truth(tmp_path: Path) -> None:
    pairs, out = write_pairs(tmp_path / "pairs"), tmp_path / "out"
    jobs = plan(pairs, out, prompts=[NamedPrompt("")], own_prompts="Region: {region}", num_samples=4)
    report = colorize_all(jobs, out, method=Painter(), options=SMALL)
    assert report.num_done == 4
    assert {job.prompt for job in jobs} == {"Region: tropical", "Region: arctic"}
    shown = np.asarray(Image.open(out / SHEET))
    assert shown.shape[1] // (256 + 6) == 3
    for column, file in enumerate((jobs[0].source, jobs[0].out, jobs[0].truth)):
        assert file is not None
        first = read(file)[0, 0]
        assert (shown[40, 6 + 262 * column + 2] == first).all()


def test_progress_counts_tiles_and_ends_with_all(tmp_path: Path) -> None:
    source = save_radar(tmp_path / "sar.png", 60, 60)
    counts: list[tuple[float, int]] = []
    given = method(Local(), steps=5, strength=0.5)
    colorize_file(
        source,
        tmp_path / "out.png",
        method=given,
        options=SMALL,
        progress=lambda *count: counts.append(count),
    )
    # Half of five steps are two; after each, all tiles are that far.
    assert counts == [(4.5, 9), (9, 9), (9, 9)]


def test_what_is_asked_for_is_described(tmp_path: Path) -> None:
    source = save_radar(tmp_path / "sar.png", 60, 60)
    jobs = plan(source, tmp_path / "out.png", prompts=[NamedPrompt(ARCTIC)])
    assert Colorizer(jobs, Painter(), SMALL).describe(jobs[0].out) == "1 picture, 9 tiles; all checks passed"
    assert not (tmp_path / "out.png").exists()


def test_what_cannot_be_used_is_refused_before_work_starts(tmp_path: Path) -> None:
    source, small = save_radar(tmp_path / "sar.png"), tmp_path / "small.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)).save(small)
    begins = method(Local(), strength=0.5)
    for options, message in (
        ({"options": replace(SMALL, tile=30)}, "tile is 30 px, must be a positive multiple of 8"),
        ({"options": replace(SMALL, overlap=32)}, "overlap is 32 px, must be less than the tile"),
        ({"guess": small}, "--guess has no effect where sampling starts from noise alone"),
        ({"guess": small, "method": begins}, "20 x 24 pixels and .* 4 x 4, both must show the same place"),
        ({"source": small}, "three different channels, a radar picture is grey"),
        ({"method": Painter(takes_text=False), "prompt": "text"}, "takes no text"),
    ):
        given = {"source": source, "method": Painter(), "options": SMALL, **options}
        with pytest.raises(InputError, match=message):
            colorize_file(given.pop("source"), tmp_path / "out.png", **given)  # type: ignore[arg-type]
        assert not (tmp_path / "out.png").exists()


def test_what_makes_no_pictures_of_radar_is_refused() -> None:
    check_colorizer(Painter())
    for wrong in (
        Painter(optical=SLICE),
        Painter(radar=SENTINEL1.select(())),
        Painter(scale=4),
    ):
        with pytest.raises(InputError, match="does not turn radar into pictures in colour"):
            check_colorizer(wrong)
    with pytest.raises(InputError, match=r"has no tokenizer; put the tokenizer\.json of its training"):
        check_colorizer(Painter(tokenizer=None))
    with pytest.raises(InputError, match="takes no text; leave out prompt, regions and seasons"):
        check_takes_text(replace(Painter(), takes_text=False))


def test_words_that_training_did_not_have_are_named_once() -> None:
    with pytest.warns(UserWarning, match="does not know 'desert', 'sand'; it uses"):
        warn_of_unknown(Painter(), ["Region: desert", "image, sand, desert"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unknown(Painter(), ["Region: tropical", ""])
        warn_of_unknown(Painter(takes_text=False, tokenizer=None), ["anything"])
