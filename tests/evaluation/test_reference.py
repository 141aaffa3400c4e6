from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from tests.datasets.test_sar_optical import make_folder
from tests.datasets.test_slices import make_slices
from tests.rasters import write_raster

from pellucid.apply.color_jobs import trained_pictures
from pellucid.config import Config
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE
from pellucid.data.schema import parse
from pellucid.datasets import sar_optical, slices, synthetic
from pellucid.datasets._listing import SingleImages
from pellucid.datasets.sar_optical import SarOptical
from pellucid.errors import InputError
from pellucid.evaluation.reference import read_reference
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.method import Method
from pellucid.networks import autoencoder

WORDS = (("tropical", "summer"), ("", "winter"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(4):
        make_folder(tmp_path, number, WORDS)
    return tmp_path


def colorizer(bands: tuple[str, ...] = ("VV",)) -> Method:
    return cast(
        "Method", SimpleNamespace(task="restore", optical=PICTURE, radar=SENTINEL1.select(bands), scale=1)
    )


def autoencoding(**bands: Any) -> Autoencoding:
    sizes = {"width": 8, "multipliers": (1, 2), "num_blocks": 1, "groups": 4, "attention": False}
    count = len(bands["optical"].bands or bands["radar"].bands)
    network = autoencoder.build(autoencoder.Config(bands=count, **sizes))
    return Autoencoding(network, AutoencodingConfig(), losses={}, **bands)


def trained(root: Path, **keys: Any) -> sar_optical.Config:
    return sar_optical.Config(root=root, **keys)


def test_folders_of_pictures_are_read_in_place_of_a_split(pictures: Path) -> None:
    images = read_reference(colorizer(), pictures, split="test", folders=("r_002", "r_003"))
    assert set(images.groups) == {"r_002", "r_003"}
    assert len(images) == 4


def test_pictures_are_prompted_sized_and_split_as_in_training(pictures: Path) -> None:
    like = trained(Path("elsewhere"), prompt="{season}", size=8, split="train", seed=3, exclude=("r_009",))
    images = read_reference(colorizer(), pictures, split="val", trained=[like])
    expected = SarOptical(trained(pictures, split="val", seed=3))
    assert images.keys == expected.keys
    assert images[0].prompt == ("summer",)
    assert images[0].degraded.shape == (1, 3, 8, 8)


def test_a_split_that_the_training_did_not_know_is_refused(pictures: Path) -> None:
    like = trained(pictures, exclude=("r_003",))
    with pytest.raises(InputError, match="was not trained on a split, so that split 'test' may hold what it"):
        read_reference(colorizer(), pictures, split="test", trained=[like])
    assert len(read_reference(colorizer(), pictures, split="all", trained=[like])) == 8
    assert len(read_reference(colorizer(), pictures, split="test", folders=("r_003",), trained=[like])) == 2


def test_an_autoencoder_is_judged_by_colours_or_by_radar(pictures: Path) -> None:
    none = PICTURE.select(())
    of_colors = read_reference(autoencoding(optical=PICTURE, radar=none), pictures, folders=("r_000",))
    of_radar = read_reference(
        autoencoding(optical=none, radar=SENTINEL1.select(("VV",))), pictures, folders=("r_000",)
    )
    assert isinstance(of_colors, SingleImages)
    pair = read_reference(colorizer(), pictures, folders=("r_000",))[0]
    torch.testing.assert_close(of_colors[0].target, pair.target)
    torch.testing.assert_close(of_radar[0].target, pair.sar)
    assert of_radar.words[0]["region"] == "tropical"


def test_pictures_tell_folder_region_and_season(pictures: Path) -> None:
    images = read_reference(colorizer(), pictures, folders=("r_001",))
    assert images.words == (
        {"folder": "r_001", "region": "tropical", "season": "summer"},
        {"folder": "r_001", "region": "", "season": "winter"},
    )


def test_a_model_of_other_bands_is_refused(pictures: Path) -> None:
    method = cast("Method", SimpleNamespace(task="restore", optical=SENTINEL2, radar=SENTINEL1, scale=1))
    with pytest.raises(InputError, match=r"the data are pictures of the bands R, G, B .* of scenes; choose"):
        read_reference(method, pictures)
    with pytest.raises(InputError, match="the method names R, G, B, VV, VH"):
        read_reference(colorizer(("VV", "VH")), pictures)


def test_the_pictures_of_a_training_are_its_first(tmp_path: Path) -> None:
    sources = [{"name": "synthetic"}, {"name": "sar_optical", "root": str(tmp_path), "size": 64}]
    values = {"network": {"name": "tiny"}, "data": {"train": sources}}
    found = trained_pictures(parse(Config, values, where="test"))
    assert found is not None
    assert found.size == 64
    values = {"network": {"name": "tiny"}, "data": {"train": sources[:1]}}
    assert trained_pictures(parse(Config, values, where="test")) is None


def test_the_layout_of_a_folder_is_recognised_or_that_of_the_training(tmp_path: Path) -> None:
    upscaler = cast(
        "Method", SimpleNamespace(task="restore", optical=SLICE, radar=SENTINEL1.select(()), scale=2)
    )
    assert len(read_reference(upscaler, make_slices(tmp_path, "a_1.png", "a_2.png"), numbers=(2, 3))) == 1
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a_0.png")
    with pytest.raises(InputError, match="is in colour, but slices are grey"):
        read_reference(upscaler, tmp_path, numbers=(2, 3))
    sources = [synthetic.Config(), slices.Config(hr=tmp_path)]
    assert read_reference(upscaler, tmp_path, numbers=(2, 3), trained=sources).keys == ("a_2",)


def test_clear_scenes_are_no_reference_but_for_autoencoders(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.full((13, 16, 16), 500, np.uint16), SENTINEL2.bands)
    method = cast("Method", SimpleNamespace(task="restore", optical=SENTINEL2, radar=SENTINEL1, scale=1))
    with pytest.raises(InputError, match="holds clear images alone, of layout clear_scenes; give pairs"):
        read_reference(method, tmp_path)
    of_scenes = read_reference(autoencoding(optical=SENTINEL2, radar=SENTINEL1.select(())), tmp_path)
    assert of_scenes[0].target.mean() == pytest.approx(0.05)


def test_one_list_is_evaluated_on_alone(pictures: Path) -> None:
    images = read_reference(colorizer(), pictures / "data_r_002.csv", split="test")
    assert set(images.groups) == {"r_002"}
    assert len(images) == 2
    renamed = (pictures / "data_r_002.csv").rename(pictures / "mine.csv")
    assert read_reference(colorizer(), renamed).keys == images.keys


def test_a_list_of_the_published_script_has_splits(tmp_path: Path) -> None:
    for folder, kind, count in (("s1", "float32", 2), ("clear", "uint16", 13), ("cloudy", "uint16", 13)):
        (tmp_path / folder).mkdir()
        for name in ("a.tif", "b.tif"):
            write_raster(tmp_path / folder / name, np.ones((count, 8, 8), kind), ("",) * count)
    path = tmp_path / "mine.csv"
    path.write_text("1,s1,clear,cloudy,a.tif\n3,s1,clear,cloudy,b.tif\n")
    method = cast("Method", SimpleNamespace(task="restore", optical=SENTINEL2, radar=SENTINEL1, scale=1))
    assert read_reference(method, path, split="test").keys == ("b",)
    assert read_reference(method, path, split="all").keys == ("a", "b")
    path.write_text("name,size\na,8\n")
    with pytest.raises(InputError, match="is no list of images: its first row must begin"):
        read_reference(method, path)


def test_what_has_no_meaning_for_the_images_is_refused(pictures: Path, tmp_path: Path) -> None:
    sources = tmp_path / "places.yaml"
    for given in ({"numbers": (1, 2)}, {"lr": pictures}):
        (name,) = given
        with pytest.raises(InputError, match=rf"--{name} does not apply to .*, of layout sar_optical; leave"):
            read_reference(colorizer(), pictures, **cast(Any, given))
        with pytest.raises(InputError, match=rf"--{name} .* says itself what is read; leave it out"):
            read_reference(colorizer(), sources, **cast(Any, given))
