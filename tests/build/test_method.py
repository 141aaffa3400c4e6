from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pellucid.build.method import build_losses, build_method, known_networks, load
from pellucid.build.run import save_run
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.evaluation.figures import baseline_spectrum
from pellucid.losses.adversarial import AdversarialLoss
from pellucid.losses.l1 import l1
from pellucid.train.data import build_training_data
from pellucid.train.run_training import run_training

CONFIGS = Path(__file__).parents[2] / "configs"


def tiny(*changes: str) -> Config:
    return load_config(CONFIGS / "cross_attention_tiny.yaml", changes)


def test_every_file_in_networks_is_known() -> None:
    assert set(known_networks()) >= {"cross_attention", "glf_cr"}
    assert "blocks" not in known_networks()


def test_the_same_seed_builds_the_same_weights() -> None:
    first, second = (build_method(tiny()).network.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_saved_run_loads_as_the_same_function(tmp_path: Path) -> None:
    config = tiny()
    method = build_method(config)
    method.mean_spectrum = (0.25,) * 13
    save_run(tmp_path, config=config, method=method)
    loaded = load(tmp_path, device="cpu")
    degraded, sar = torch.rand(1, 13, 16, 16), torch.rand(1, 2, 16, 16)
    torch.testing.assert_close(loaded.network(degraded, sar), method.network(degraded, sar))
    assert loaded.mean_spectrum == method.mean_spectrum
    assert loaded.radar_optional
    assert baseline_spectrum(loaded) == method.mean_spectrum


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network.name=vgg", "network.name is 'vgg'; known are autoencoder, cross_attention, "),
        ("network.name=cros_attention", "is 'cros_attention'; did you mean 'cross_attention'?"),
        ("network.widht=3", "unknown key 'widht'; did you mean 'width'"),
        ("network.num_heads=7", "num_heads is 7, must divide"),
        ("network.optical_bands=3", "network.optical_bands is 3, but the method names B01"),
        ("method.radar=[HH]", "no range for HH"),
    ],
)
def test_a_network_that_cannot_be_built_is_explained(change: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        build_method(tiny(change))
    assert message in str(raised.value)


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    for change, message in (
        ("data.tile=33", "data.tile is 33, must be a multiple of 4 for this network; try 32"),
        ("data.tile=128", "data.tile needs 128; lower it"),
        ("method.radar=[]", "method.radar names no band, and the network cross_attention needs one"),
    ):
        with pytest.raises(InputError, match=message):
            run_training(load_config(CONFIGS / "cross_attention_tiny.yaml", (change,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny(), method=build_method(tiny("network.width=4")))
    with pytest.raises(InputError, match="do not fit the network of the config"):
        load(tmp_path)


def test_training_and_validation_may_not_share_a_place() -> None:
    with pytest.raises(InputError, match="training and validation share synthetic_1000"):
        build_training_data(tiny("data.val.0.num_scenes=1", "data.train.0.seed=1000"))


def test_a_place_held_out_of_training_may_validate() -> None:
    data = build_training_data(
        tiny("data.val.0.seed=3", "data.val.0.num_scenes=1", "data.hold_out=[synthetic_3]")
    )
    assert data.stream.places == {"synthetic_0", "synthetic_1", "synthetic_2"}


def slices_config(folder: Path, *changes: str) -> Config:
    """Slices of ramps, numbered 0, 5, ... 30."""
    for depth in range(0, 31, 5):
        ramp = torch.arange(40 * 44, dtype=torch.uint8).view(40, 44) + depth
        Image.fromarray(ramp.numpy()).save(folder / f"slice_{depth:04d}.png")
    both = (f"data.train.0.hr={folder}", f"data.val.0.hr={folder}")
    return load_config(CONFIGS / "sr3_ct_tiny.yaml", (*both, *changes))


def test_slices_train_on_pairs_of_low_and_high_resolution(tmp_path: Path) -> None:
    data = build_training_data(slices_config(tmp_path))
    assert (len(data.stream.places), data.mean_spectrum) == (5, None)
    sample = data.stream[0]
    assert sample.target is not None
    assert (sample.degraded.shape, sample.target.shape) == ((1, 1, 8, 8), (1, 1, 32, 32))
    assert data.val is not None
    assert [data.val[i].key for i in range(2)] == [("slice_0025",), ("slice_0030",)]


def test_training_and_validation_may_not_share_a_slice(tmp_path: Path) -> None:
    config = slices_config(tmp_path, "data.val.0.numbers=[0, 30]")
    with pytest.raises(InputError) as raised:
        build_training_data(config)
    assert f"training and validation share {tmp_path}/slice_0000.png, " in str(raised.value)
    with pytest.raises(InputError, match=r"slice_0020\.png and 2 more; add them to data\.hold_out"):
        build_training_data(
            slices_config(tmp_path, "data.val.0.numbers=[0, 30]", "data.train.0.numbers=[0, 30]")
        )
    held = slices_config(
        tmp_path, f"data.hold_out=[{tmp_path}/slice_0020.png]", "data.val.0.numbers=[20, 20]"
    )
    assert len(build_training_data(held).stream.places) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method={name: regression, optical: [gray], radar: []}", "slices are for a method that enlarges"),
        ("method.optical=[B02, B03]", "the data are slices of one band, gray, but the method names B02, B03"),
    ],
)
def test_a_method_that_slices_do_not_fit_is_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_training_data(slices_config(tmp_path, change))


def test_training_starts_from_the_weights_that_are_named(tmp_path: Path) -> None:
    method = build_method(tiny("train.seed=5"))
    save_run(tmp_path / "first", config=tiny(), method=method)
    config = tiny(
        f"train.init_from={tmp_path / 'first'}",
        "train.num_steps=1",
        "train.learning_rate=1.0e-12",
        "train.validate_every=1",
    )
    run_training(config, tmp_path / "second")
    trained = load(tmp_path / "second", device="cpu").network.state_dict()
    for name, tensor in method.network.state_dict().items():
        torch.testing.assert_close(trained[name], tensor)


REGRESSION = {"name": "regression", "optical": ["B02", "B03", "B04"]}
GENERATIVE = {"name": "generative", "optical": ["gray"]}
AUTOENCODING = {"name": "autoencoding", "radar": ["VV", "VH"]}


def config(method: dict[str, Any], losses: dict[str, float], seed: int = 0) -> Config:
    values = {"network": {"name": "any"}, "data": {"train": []}, "method": method, "losses": losses}
    return parse(Config, {**values, "train": {"seed": seed}}, where="test")


@pytest.mark.parametrize(("method", "bands"), [(REGRESSION, 3), (GENERATIVE, 1), (AUTOENCODING, 2)])
def test_the_discriminator_sees_the_bands_of_the_results(method: dict[str, Any], bands: int) -> None:
    weight, term = build_losses(config(method, {"l1": 0.0, "adversarial": 0.01}))["adversarial"]
    assert weight == 0.01
    image = torch.rand(1, bands, 16, 16)
    batch = Batch(degraded=image, target=image, valid=torch.ones(1, 1, 16, 16, dtype=torch.bool), key=("a",))
    assert term is not None
    assert term(image, batch) > 0


def test_the_discriminator_follows_from_the_seed_and_leaves_the_others_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1):
        _, term = build_losses(config(REGRESSION, {"adversarial": 0.01}, seed))["adversarial"]
        assert isinstance(term, AdversarialLoss)
        found.append(term.discriminator.state_dict()["layers.0.weight"])
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])
    assert torch.get_rng_state().equal(before)


def test_terms_without_weight_are_left_out() -> None:
    losses = {"l1": 2.0, "ssim": 0.0, "denoise": 1.0}
    assert build_losses(config(GENERATIVE, losses)) == {"l1": (2.0, l1), "denoise": (1.0, None)}


@pytest.mark.parametrize(
    ("method", "losses", "message"),
    [
        (REGRESSION, {"denoise": 1.0}, "is for generative methods, set it to 0 for regression"),
        (AUTOENCODING, {"cloud_adaptive": 1.0}, "is for restored clouds, set it to 0"),
        (AUTOENCODING, {"perceptual": 1.0}, "sees grey or three bands, the method has 2"),
        (REGRESSION, {"perceptual": 1.0}, "needs the weights of VGG19, name a file or URL"),
    ],
)
def test_terms_that_do_not_fit_are_refused(
    method: dict[str, Any], losses: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_losses(config(method, losses))


def test_the_perceptual_loss_is_left_out_with_a_word_where_its_weights_are_not_named() -> None:
    losses = {"l1": 1.0, "perceptual": 0.01}
    options = config(GENERATIVE, losses).model_copy(update={"perceptual_weights": "${VGG19_WEIGHTS}"})
    with pytest.warns(
        UserWarning, match=r"losses\.perceptual is left out, as the variable VGG19_WEIGHTS is not set"
    ):
        assert build_losses(options) == {"l1": (1.0, l1)}
