import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.evaluation.test_trial import Guided, make_patch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2
from pellucid.datasets.sen12ms_cr import Config, Sen12MsCr
from pellucid.errors import InputError
from pellucid.evaluation.evaluate import Extras, Record, evaluate
from pellucid.evaluation.figures import (
    CLEAR_MEAN,
    GREY_RADAR,
    INPUT,
    MEAN_COLOR,
    MODEL,
    OLDER_DATE,
    SPECTRUM,
)
from pellucid.evaluation.trial import NO_GUIDES, NO_OLDER, NO_RADAR, Setup, crop_centre
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.regression import Regression, RegressionConfig
from pellucid.methods.tones import Tones
from pellucid.networks import autoencoder

BANDS = ("B02", "B03", "B04")


class Identity(nn.Module):
    """Returns its input, refuses sides that its stride does not divide, and remembers the sides it saw."""

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        assert not any(side % self.stride for side in degraded.shape[-2:])
        assert sar.isfinite().all()
        self.seen.append(tuple(degraded.shape[-2:]))
        return degraded


class Answer(Identity):
    """Returns the truth of one item, a thousandth too bright."""

    def __init__(self, item: Batch) -> None:
        super().__init__()
        self.item = item

    def forward(self, degraded: Tensor, sar: Tensor) -> Tensor:
        assert degraded.shape[-2:] == sar.shape[-2:]
        assert self.item.target is not None
        return self.item.target + 0.001


def identity(*, radar_optional: bool = True) -> Regression:
    radar = SENTINEL1
    optical = SENTINEL2.select(BANDS)
    config = RegressionConfig(radar_optional=radar_optional)
    return Regression(Identity(), config, optical=optical, radar=radar, losses={})


def make_item(seed: int, size: tuple[int, int] = (32, 32)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(1, 3, *size, generator=generator) * 0.3
    cloud = (torch.rand(1, 1, *size, generator=generator) > 0.4).float()
    return Batch(
        degraded=torch.maximum(target, 0.5 * cloud),
        target=target,
        sar=torch.full((1, 2, *size), torch.nan),
        cloud=cloud,
        valid=torch.ones(1, 1, *size, dtype=torch.bool),
        key=(f"patch_{seed}",),
    )


def test_a_model_that_returns_its_input_has_the_figures_of_the_input() -> None:
    result = evaluate(identity(), [make_item(0), make_item(1)], name="identity")
    assert result.row(MODEL).metrics == result.row(INPUT).metrics
    gaps = [
        image.values[MODEL, "all", "psnr"] - image.values[CLEAR_MEAN, "all", "psnr"]
        for image in result.images
    ]
    assert result.gain.mean == pytest.approx(sum(min(0, gap) for gap in gaps) / 2)
    assert SPECTRUM not in {row.source for row in result.rows}


def test_a_model_that_returns_the_truth_beats_all_baselines() -> None:
    item = make_item(0)
    method = identity()
    method.network = Answer(item)
    result = evaluate(method, [item], name="truth", mean_spectrum=tuple(item.target.mean((0, 2, 3)).tolist()))
    assert result.row().metrics["psnr"].mean == pytest.approx(60, abs=0.01)
    baselines = [result.row(source).metrics["psnr"].mean for source in (INPUT, SPECTRUM, CLEAR_MEAN)]
    assert result.gain.mean == pytest.approx(60 - max(baselines), abs=0.01)


def test_patches_of_any_size_are_padded_for_the_network_and_cut_again() -> None:
    method = identity()
    items = [make_item(0, (33, 40)), make_item(1, (48, 17))]
    result = evaluate(method, items, name="identity")
    assert method.network.seen == [(48, 48), (48, 32)]
    assert result.row(MODEL).metrics == result.row(INPUT).metrics


def test_a_crop_takes_the_centre_of_every_image() -> None:
    item = make_item(0, (40, 32))
    cut = crop_centre(item, 16)
    torch.testing.assert_close(cut.degraded, item.degraded[..., 12:28, 8:24])
    torch.testing.assert_close(cut.valid, item.valid[..., 12:28, 8:24])
    with pytest.raises(InputError, match="patch_0 has 40 x 32 pixels, the crop needs 64"):
        crop_centre(item, 64)


def test_the_mean_spectrum_of_the_method_is_the_default_baseline() -> None:
    item, method = make_item(0), identity()
    method.mean_spectrum = (0.1, 0.2, 0.3)
    default = evaluate(method, [item], name="m").row(SPECTRUM)
    assert default == evaluate(method, [item], name="m", mean_spectrum=(0.1, 0.2, 0.3)).row(SPECTRUM)
    assert default != evaluate(method, [item], name="m", mean_spectrum=(0.3, 0.2, 0.1)).row(SPECTRUM)


def test_the_published_loader_and_metrics_give_the_published_figures(data_folder: Path) -> None:
    options = {"name": "sen12ms_cr", "root": data_folder / "sen12mscr", "split": "test", "legacy_fill": True}
    data = Sen12MsCr(Config(**options), bands=SENTINEL2.bands)
    method = identity()
    method.optical = SENTINEL2
    result = evaluate(method, data, name="input", extras=Extras(legacy=True), setup=Setup(crop=128))
    assert result.row(INPUT).metrics["legacy_psnr"].mean == pytest.approx(12.980359754757036, abs=1e-5)
    assert result.row(INPUT).metrics["legacy_ssim"].mean == pytest.approx(0.5508124828338623, abs=1e-6)
    assert result.row(MODEL).metrics == result.row(INPUT).metrics


def test_tables_files_and_pictures_are_written(tmp_path: Path) -> None:
    done = []
    result = evaluate(
        identity(),
        [make_item(seed) for seed in range(5)],
        name="identity",
        record=Record(notes="a note", sheet=3),
        mean_spectrum=(0.15, 0.15, 0.15),
        out=tmp_path / "new",
        progress=lambda count, total: done.append((count, total)),
    )
    assert result.folder == tmp_path / "new" / "identity"
    files = sorted(path.name for path in result.folder.iterdir())
    assert files == ["evaluation.html", "metrics.json", "per_image.csv", "sheet.png"]
    with Image.open(result.folder / "sheet.png") as picture:
        assert picture.width > 5 * 256
        assert 3 * 256 < picture.height < 4 * 256
    assert done == [(count, 5) for count in range(1, 6)]
    text = io.StringIO()
    Console(file=text, width=140).print(result.table())
    for word in ("PSNR dB", "SAM °", "gain dB", "cloudy", "clear", "mean spectrum", "input", "5 images"):
        assert word in text.getvalue()


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate(identity(), [make_item(0)], name="identity")
    assert not list(tmp_path.iterdir())


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    item = make_item(0)
    with pytest.raises(InputError, match="there are no images"):
        evaluate(identity(), [], name="m")
    with pytest.raises(InputError, match="patch_0 has no reference image"):
        evaluate(identity(), [replace(item, target=None)], name="m")
    with pytest.raises(InputError, match="patch_0 has 2 bands, the model needs B02, B03, B04"):
        evaluate(identity(), [replace(item, degraded=item.degraded[:, :2])], name="m")
    with pytest.raises(InputError, match="patch_0 has pixels without radar and this model needs it"):
        evaluate(identity(radar_optional=False), [item], name="m")
    with pytest.raises(InputError, match="5 samples are asked for, but this model is deterministic"):
        evaluate(identity(), [item], name="m", samples=5)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match=r"cannot make the folder .*file"):
        evaluate(identity(), [item], name="m", out=blocked)


def test_lpips_of_other_than_one_or_three_bands_is_refused() -> None:
    method = Regression(Identity(), RegressionConfig(), optical=SENTINEL2, radar=SENTINEL1, losses={})
    with pytest.raises(InputError, match="three bands, the model restores 13; leave out --lpips"):
        evaluate(method, [make_item(0)], name="m", extras=Extras(lpips=lambda a, b: (a - b).mean((1, 2, 3))))


def test_figures_that_an_autoencoder_lacks_are_refused() -> None:
    sizes = {"width": 8, "multipliers": (1, 2), "num_blocks": 1, "groups": 4, "attention": False}
    network = autoencoder.build(autoencoder.Config(bands=3, **sizes))
    optical, radar = SENTINEL2.select(BANDS), SENTINEL1.select(())
    method = Autoencoding(network, AutoencodingConfig(), optical=optical, radar=radar, losses={})
    with pytest.raises(InputError, match="errors alone; leave out --legacy-metrics"):
        evaluate(method, [make_item(0)], name="m", extras=Extras(legacy=True))


def radar_picture(seed: int, prompt: str) -> Batch:
    """Grey radar of a place, and its colours: red under the prompt "red", and so on."""
    generator = torch.Generator().manual_seed(seed)
    sar = torch.rand(1, 1, 32, 32, generator=generator)
    color = torch.tensor([float(prompt == band) for band in ("red", "green", "blue")]).view(1, 3, 1, 1)
    return Batch(
        degraded=sar.repeat(1, 3, 1, 1),
        sar=sar,
        target=(0.2 + 0.6 * color).expand(-1, -1, 32, 32).contiguous(),
        valid=torch.ones_like(sar, dtype=torch.bool),
        key=(f"place_{seed}",),
        prompt=(prompt,),
    )


def colorizer() -> Regression:
    """Returns the grey radar."""
    return Regression(
        Identity(), RegressionConfig(), optical=PICTURE, radar=SENTINEL1.select(("VV",)), losses={}
    )


def test_colours_are_judged_against_the_radar_and_the_mean_colour_of_the_prompt(tmp_path: Path) -> None:
    data = [radar_picture(0, "red"), radar_picture(1, "blue")]
    method = colorizer()
    method.mean_colors = {"": (0.4, 0.2, 0.4), "red": (0.7, 0.2, 0.2)}
    words = [{"region": "arctic"}, {"region": ""}]
    record = Record(words=words)
    result = evaluate(method, data, name="grey", record=record, out=tmp_path, mean_spectrum=(0.0, 0.0, 0.0))
    assert [row.source for row in result.rows[:3]] == [MODEL, GREY_RADAR, MEAN_COLOR]
    assert result.row(MODEL).metrics == result.row(GREY_RADAR).metrics
    # Red is off by 0.1 in one band of three, blue, for which the mean of all stands in, by 0.2 and 0.4.
    assert result.row(MEAN_COLOR, "region arctic").metrics["mae"].mean == pytest.approx(0.1 / 3)
    assert result.row(MEAN_COLOR, "region unknown").metrics["mae"].mean == pytest.approx(0.6 / 3)
    with Image.open(tmp_path / "grey" / "sheet.png") as picture:
        assert 4 * 256 < picture.width < 5 * 256  # the radar once, not as input and as radar


def test_results_get_the_tone_that_is_asked_for_as_by_colorize() -> None:
    picture = radar_picture(0, "red")
    result = evaluate(colorizer(), [picture], name="grey", setup=Setup(tone=(0.8, 0.2, 0.2)))
    grey = picture.degraded - picture.degraded.mean((2, 3), keepdim=True)
    wanted = (grey + torch.tensor([0.8, 0.2, 0.2])[:, None, None]).clamp(0, 1)
    error = (wanted - picture.reference()).abs().mean().item()
    assert result.row(MODEL).metrics["mae"].mean == pytest.approx(error, abs=1e-6)
    assert result.row(GREY_RADAR).metrics["mae"].mean != pytest.approx(error, abs=0.01)
    method = colorizer()
    method.tones = Tones.of([(picture.degraded[:, :1], torch.full_like(picture.reference(), 0.6))] * 2)
    wanted = (grey + 0.6).clamp(0, 1)
    result = evaluate(method, [picture], name="by radar")
    error = (wanted - picture.reference()).abs().mean().item()
    assert result.row(MODEL).metrics["mae"].mean == pytest.approx(error, abs=1e-6)
    with pytest.raises(InputError, match="--tone is for models that turn radar into pictures"):
        evaluate(identity(), [make_item(0)], name="m", setup=Setup(tone=(0.8, 0.2, 0.2)))


def test_without_mean_colours_the_mean_spectrum_stands_in() -> None:
    result = evaluate(colorizer(), [radar_picture(0, "red")], name="grey", mean_spectrum=(0.8, 0.2, 0.2))
    assert result.row(MEAN_COLOR).metrics["mae"].mean == pytest.approx(0, abs=1e-6)


def test_the_distance_of_sets_is_of_the_model_and_the_baselines() -> None:
    data = [radar_picture(seed, prompt) for seed, prompt in enumerate(("red", "blue", "green", "red"))]
    result = evaluate(
        colorizer(),
        data,
        name="grey",
        mean_spectrum=(0.4, 0.3, 0.3),
        extras=Extras(fid=lambda image: image.mean((2, 3))[:, :2]),
    )
    distances = {source: result.row(source).metrics["fid"] for source in (MODEL, GREY_RADAR, MEAN_COLOR)}
    assert distances[MODEL] == distances[GREY_RADAR]
    assert distances[MEAN_COLOR].mean > 0.1
    assert distances[MODEL].num == 4


def test_the_distance_of_sets_of_other_than_one_or_three_bands_is_refused() -> None:
    method = Regression(Identity(), RegressionConfig(), optical=SENTINEL2, radar=SENTINEL1, losses={})
    with pytest.raises(InputError, match="--fid compares grey images or three bands, the model restores 13"):
        evaluate(method, [make_item(0), make_item(1)], name="m", extras=Extras(fid=lambda image: image))


def test_guides_calibration_and_thickness_are_in_tables_and_files(tmp_path: Path) -> None:
    patch = make_patch((32, 32))
    cloud = patch.cloud.clone()
    cloud[..., :8, :] = 0.9
    patch = replace(patch, cloud=cloud)
    bare = replace(patch, sar=None, older=None)
    result = evaluate(
        Guided(), [patch, bare], name="guided", out=tmp_path, mean_spectrum=(0.1, 0.2, 0.3, 0.4)
    )
    sources = [row.source for row in result.rows if row.region == "cloudy"]
    assert sources == [MODEL, NO_RADAR, NO_OLDER, NO_GUIDES, INPUT, SPECTRUM, CLEAR_MEAN, OLDER_DATE]
    assert [label for label in result.gains if "cover" not in label] == [
        "all",
        "cloudy",
        "thin",
        "thick",
        "clear",
    ]
    assert result.row(NO_RADAR).metrics["psnr"].num == 1  # one of the two has radar
    fall = result.guides[NO_RADAR]["cloudy"]
    first = result.images[0].values
    assert fall.mean == pytest.approx(first[MODEL, "cloudy", "psnr"] - first[NO_RADAR, "cloudy", "psnr"])
    written = json.loads((tmp_path / "guided" / "metrics.json").read_text())
    assert written["psnr_loss_db"][NO_RADAR]["cloudy"]["mean"] == pytest.approx(fall.mean)
    assert set(written["calibration"]) == {"all", "cloudy", "thin", "thick", "clear", "restored"}
    assert (tmp_path / "guided" / "calibration.png").exists()
    text = io.StringIO()
    Console(file=text, width=140).print(result.table(), result.guide_table(), result.calibration_table())
    for word in ("model without guides", "clear mean", "within 1 std", "AUSE", "thick dB"):
        assert word in text.getvalue()


def test_baselines_and_figures_are_of_the_bands_that_are_restored() -> None:
    patch, spectrum = make_patch((32, 32)), (0.1, 0.2, 0.3, 0.4)
    setup = Setup(bands=("B08", "B03"), ablate_guides=False)
    result = evaluate(Guided(), [patch], name="two", setup=setup, mean_spectrum=spectrum)
    gone = replace(patch, degraded=patch.degraded.clone())
    gone.degraded[:, [0, 2]] = torch.nan
    other = evaluate(Guided(), [gone], name="two", setup=Setup(ablate_guides=False), mean_spectrum=spectrum)
    for source in (MODEL, INPUT, SPECTRUM, CLEAR_MEAN):
        found = result.row(source).metrics["rmse"].mean
        assert found == pytest.approx(other.row(source).metrics["rmse"].mean)
    error = torch.tensor([0.4, 0.2]).view(1, 2, 1, 1) - patch.target[:, [3, 1]]
    assert result.row(SPECTRUM).metrics["rmse"].mean == pytest.approx(error.square().mean().sqrt().item())


def test_the_spread_of_samples_is_calibrated_too() -> None:
    method = identity()
    method.is_random = True
    assert evaluate(method, [make_item(0)], name="m", samples=2).calibration["all"].unchanged == 1
    assert not evaluate(method, [make_item(0)], name="m").calibration


def test_every_image_has_pictures_of_its_own_on_demand(tmp_path: Path) -> None:
    items = [make_item(seed) for seed in range(3)]
    items = [replace(item, sar=torch.rand(1, 2, 32, 32)) for item in items]
    items[2] = replace(items[2], key=("season/place 7",))
    result = evaluate(identity(), items, name="m", out=tmp_path, record=Record(sheet=1, pictures=True))
    folders = sorted((result.folder / "pictures").iterdir())
    assert [folder.name for folder in folders] == ["0001_patch_0", "0002_patch_1", "0003_season_place_7"]
    for folder in folders:
        names = sorted(path.stem for path in folder.iterdir())
        assert names == ["after", "before", "error", "radar", "truth"]
        with Image.open(folder / "after.png") as after, Image.open(folder / "before.png") as before:
            assert after.size == (32, 32)
            assert (np.asarray(after) == np.asarray(before)).all()


def test_a_batch_of_images_has_the_figures_of_each(tmp_path: Path) -> None:
    patches = [replace(make_patch((32, 32)), key=(f"patch_{i}",)) for i in range(3)]
    patches.insert(2, replace(make_patch((32, 40)), key=("wide",)))
    patches.append(replace(patches[0], sar=None, key=("bare",)))
    methods = Guided(), Guided()
    one, more = (
        evaluate(method, patches, name="m", setup=Setup(batch=batch))
        for method, batch in zip(methods, (1, 4), strict=True)
    )
    assert [score.values for score in one.images] == [score.values for score in more.images]
    assert [score.key for score in more.images] == ["patch_0", "patch_1", "wide", "patch_2", "bare"]
    assert max(len(batch) for batch in methods[1].seen) == 2  # neighbours of one size


def test_the_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    method = identity()
    method.is_random = True
    method.restore = lambda batch, noise, progress=None: batch.degraded + 0.01 * noise(0, 3)
    items = [make_item(0), make_item(1)]
    alone, together = (
        evaluate(method, items, name="m", setup=Setup(batch=batch), samples=2) for batch in (1, 2)
    )
    assert [score.values for score in alone.images] == [score.values for score in together.images]


def test_the_first_images_can_be_evaluated_alone() -> None:
    assert len(evaluate(identity(), [make_item(seed) for seed in range(3)], name="m", limit=2).images) == 2


def test_the_threshold_says_which_pixels_are_cloudy_and_which_are_clear_ground() -> None:
    item = make_item(0)
    item.cloud[:] = 0.15
    item.cloud[..., :8, :] = 0.3
    results = [evaluate(identity(), [item], name="m", cloud_threshold=at) for at in (0.1, 0.2, 0.5)]
    assert [result.images[0].cover for result in results] == [1, 0.25, 0]
    assert [result.settings["cloud_threshold"] for result in results] == [0.1, 0.2, 0.5]
    assert CLEAR_MEAN not in {
        row.source for row in results[0].rows
    }  # nothing is clear, and no spectrum known
    assert CLEAR_MEAN in {row.source for row in results[1].rows}
