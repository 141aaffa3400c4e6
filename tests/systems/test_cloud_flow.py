"""End to end, for a flow in latent space: train a little, save, load, restore a scene, resume."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import restore_scene
from pellucid.build.method import build_method, build_network, load
from pellucid.build.run import save_run
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE
from pellucid.data.schema import parse
from pellucid.data.tokenizer import learn_tokenizer
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.contrastive import Contrastive
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.method import Method
from pellucid.networks import flux, text_encoder
from pellucid.simulate.pairs import simulate_pairs
from pellucid.train.data import build_training_data, keep_encoded
from pellucid.train.run_training import run_training, start_method

CONFIGS = Path(__file__).parents[2] / "configs"
# Of CR_RF, but with a context of the 16 channels that 2 x 2 radar latents have, instead of 4096.
PUBLISHED_SIZE = 162_341_120 - 768 * (4096 - 16)
QUICK = ("train.device=cpu", "data.train.0.num_scenes=1", "train.ema_decay=0")


@pytest.fixture(scope="module")
def coders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs `optical` and `sar`, of autoencoders that know nothing yet."""
    folder = tmp_path_factory.mktemp("coders")
    draw = torch.Generator().manual_seed(0)
    for name, file in (("optical", "cloud_flow_autoencoder"), ("sar", "cloud_flow_sar_autoencoder")):
        config = load_config(CONFIGS / f"{file}_tiny.yaml")
        method = build_method(config)
        assert isinstance(method, Autoencoding)
        method.network.measure([torch.rand(4, method.network.config.bands, 32, 32, generator=draw)])
        save_run(folder / name, config=config, method=method)
    return folder


def tiny(coders: Path, *changes: str) -> Config:
    spaces = (f"method.space.{name}={coders / name}" for name in ("optical", "sar"))
    return load_config(CONFIGS / "cloud_flow_tiny.yaml", (*spaces, *changes))


@pytest.fixture(scope="module")
def run(coders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained run, whose autoencoders' own runs are gone."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(coders, folder / "coders")
    report = run_training(tiny(folder / "coders", "train.device=cpu"), folder / "flow")
    assert report.history[-1]["train_loss_denoise"] < report.history[0]["train_loss_denoise"]
    shutil.rmtree(folder / "coders")
    return folder / "flow"


def weights(method: Method) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in method.network.state_dict().items()}


def test_a_run_needs_nothing_else(run: Path, coders: Path) -> None:
    method, optical = load(run, device="cpu"), load(coders / "optical", device="cpu")
    assert isinstance(method, Generative)
    assert (method.stride, method.is_random, method.radar_optional) == (8, True, True)
    assert set(method.autoencoders) == {"optical", "sar"}
    for name, value in optical.network.state_dict().items():
        assert method.autoencoders["optical"].state_dict()[name].equal(value)
    assert not any(name.startswith("autoencoders") for name in method.network.state_dict())
    saved = method.network.state_dict()
    fresh = build_method(tiny(coders)).network.state_dict()
    assert saved.keys() == fresh.keys()
    assert not saved["time_in.linear_1.weight"].equal(fresh["time_in.linear_1.weight"])


def test_the_same_seed_gives_the_same_scene(run: Path, tmp_path: Path) -> None:
    simulate_pairs(tmp_path, count=1, size=96, seed=3)
    (scene,), (radar,) = (sorted((tmp_path / folder).iterdir()) for folder in ("s2_cloudy", "s1"))
    found = []
    for seed, sar in ((0, radar), (0, radar), (1, radar), (0, None)):
        options = SceneOptions(tile=64, overlap=16, device="cpu", seed=seed, preview=False, steps=1)
        out = tmp_path / f"{len(found)}.tif"
        restore_scene(scene, out, sar=sar, method=load(run, device="cpu"), options=options)
        with rasterio.open(out) as file:
            found.append(torch.from_numpy(file.read().astype("float32")))
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])
    assert not found[0].equal(found[3])


def test_a_resumed_run_is_the_run(coders: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name, steps in (("whole", (4,)), ("parts", (2, 4))):
        for number, num_steps in enumerate(steps):
            changes = (f"train.num_steps={num_steps}", "train.schedule=constant", "train.validate_every=100")
            config = tiny(
                coders, *QUICK, *changes, "train.warmup_steps=1", "data.val=[]", "method.importance=0.5"
            )
            run_training(config, tmp_path / name, resume=number > 0)
    whole, parts = (weights(load(tmp_path / name, device="cpu")) for name in ("whole", "parts"))
    assert all(whole[name].equal(parts[name]) for name in whole)


def test_a_resumed_run_keeps_its_autoencoders(run: Path, coders: Path) -> None:
    kept = load(run, device="cpu")
    assert isinstance(kept, Generative)
    for where in (coders, run / "nowhere"):
        resumed = start_method(tiny(where), run)
        assert isinstance(resumed, Generative)
        for kind, network in resumed.autoencoders.items():
            assert network.shift.equal(kept.autoencoders[kind].shift)  # type: ignore[operator]


def test_kept_samples_train_as_new_ones_do(coders: Path, tmp_path: Path) -> None:
    changes = ("train.num_steps=1", "data.val=[]", "train.schedule=constant", "train.warmup_steps=0")
    config = tiny(coders, *QUICK, *changes)
    kept = tiny(coders, *QUICK, *changes, "data.num_cached=4", f"data.cache={tmp_path / 'cache'}")
    for name, some in (("new", config), ("kept", kept)):
        run_training(some, tmp_path / name)
    new, again = (weights(load(tmp_path / name, device="cpu")) for name in ("new", "kept"))
    for name, value in new.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=1e-5)


def test_samples_are_encoded_once_and_come_again_in_another_order(coders: Path, tmp_path: Path) -> None:
    changes = ("data.num_cached=6", f"data.cache={tmp_path}", "train.num_steps=5")
    config = tiny(coders, *QUICK, *changes)
    method, stream = build_method(config), build_training_data(config).stream
    assert isinstance(method, Generative)
    samples = keep_encoded(config, method, stream)
    calls: list[Batch] = []
    method.encode = calls.append  # type: ignore[assignment, method-assign]
    again = keep_encoded(config, method, stream)
    assert not calls
    assert len(again) == 20  # type: ignore[arg-type]
    turns = [[again[6 * turn + i].key[0] for i in range(6)] for turn in range(3)]
    assert turns[0] == [f"sample {i}" for i in range(6)]
    assert sorted(turns[1]) == sorted(turns[2]) == turns[0]
    assert len({tuple(turn) for turn in turns}) == 3
    where = turns[1].index("sample 2")
    assert again[6 + where].x0.equal(samples[2].x0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", ["train.seed=1", "data.augment.gain=0.1", "data.train.0.num_scenes=2"])
def test_other_samples_are_kept_apart(change: str, coders: Path, tmp_path: Path) -> None:
    for changes in ((), (change,)):
        config = tiny(coders, *QUICK, "data.num_cached=1", f"data.cache={tmp_path}", *changes)
        method = build_method(config)
        keep_encoded(config, method, build_training_data(config).stream)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method.space.optical=runs/none", "method.space.optical: 'runs/none' is neither a run folder"),
        ("method.space.optical=cross_attention", "is a regression model, a space needs an autoencoder"),
        ("method.space.optical={sar}", "is for VV, VH from (-25.0, -32.5) to (0.0, 0.0) dB, the method's"),
        ("method.space.sar=''", "the images become 4 times smaller, the radar 1 times; name autoencoders"),
        ("network.latent_channels=16", "network.latent_channels is 16, but the autoencoder has 4"),
        ("network.text_channels=16", "network.text_channels is 16, but method.text names no text encoder"),
        ("method.residual=2", "method.residual is 2, which is for pixels"),
        ("method.eta=0.5", "method.start is degraded, which needs the path rectified_flow and eta 0"),
        ("method.path={name: variance_preserving}", "method.start is degraded, which needs the path"),
        ("method.times=logit_normal", "method.importance is 0.5, which needs even times"),
        ("losses={denoise: 1.0, l1: 0.5}", "encoded samples have no images for the loss l1"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: str, message: str, coders: Path) -> None:
    changes = ("method.importance=0.5", "data.num_cached=4", change.replace("{sar}", str(coders / "sar")))
    with pytest.raises(InputError) as raised:
        build_method(tiny(coders, *changes))
    assert message in str(raised.value)


def test_a_run_without_its_autoencoder_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "weights.safetensors"
    state = {name: value for name, value in load_file(path).items() if not name.startswith("autoencoders.")}
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    del metadata["autoencoders"], metadata["sha256"]
    save_file(state, path, metadata)
    with pytest.raises(InputError, match=r"method\.space\.optical: .* is neither a run folder"):
        load(tmp_path / "run")


def write_texts(folder: Path, words: Sequence[str] = ("lake", "forest")) -> Path:
    """Write the run of a text encoder that knows some words and has learnt nothing."""
    network = {
        "name": "text_encoder",
        "vocab_size": 8,
        "width": 16,
        "num_layers": 1,
        "num_heads": 2,
        "length": 4,
    }
    network |= {"bands": 3, "image_width": 8}
    values = {"network": network, "method": {"name": "contrastive"}, "data": {"train": ()}}
    config = parse(Config, values, where="texts")
    encoder = build_network(config)
    assert isinstance(encoder, text_encoder.TextEncoder)
    tokenizer = learn_tokenizer(words, size=8, length=4)
    save_run(folder, config=config, method=Contrastive(encoder, tokenizer, optical=PICTURE))
    return folder


def test_a_flow_that_heeds_texts_restores_what_a_prompt_says(coders: Path, tmp_path: Path) -> None:
    changes = (*QUICK, "train.num_steps=4", "data.val=[]", f"method.text={write_texts(tmp_path / 'texts')}")
    with pytest.warns(UserWarning, match=r"method\.prompt, '', would be a text, so that all are"):
        run_training(tiny(coders, *changes), tmp_path / "flow")
    shutil.rmtree(tmp_path / "texts")
    method = load(tmp_path / "flow", device="cpu")
    assert method.takes_text
    simulate_pairs(tmp_path, count=1, size=64, seed=3)
    (scene,) = (tmp_path / "s2_cloudy").iterdir()
    found = {}
    for prompt in ("lake", "forest", "", None):
        options = SceneOptions(tile=64, overlap=16, device="cpu", preview=False, prompt=prompt)
        restore_scene(scene, tmp_path / "out.tif", method=method, options=options)
        with rasterio.open(tmp_path / "out.tif") as file:
            found[prompt] = file.read().tobytes()
    assert found[""] == found[None]
    assert len(set(found.values())) == 3


def test_without_a_prompt_a_scene_gets_the_words_for_what_is_known(coders: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", ("spring", "clear", "overcast"))
    template = "method.prompt='{season}, {cover}'"
    changes = (*QUICK, "train.num_steps=2", "data.val=[]", f"method.text={texts}", template)
    with pytest.warns(UserWarning, match="does not know 'mostly', 'cloudy', 'partly'"):
        run_training(tiny(coders, *changes), tmp_path / "flow")
    method = load(tmp_path / "flow", device="cpu")
    simulate_pairs(tmp_path, count=1, size=64, seed=3)
    (scene,) = (tmp_path / "s2_cloudy").iterdir()
    scene = scene.rename(tmp_path / "our_spring.tif")
    clouds = tmp_path / "clouds.tif"
    with rasterio.open(scene) as file, rasterio.open(clouds, "w", **{**file.profile, "count": 1}) as cloud:
        cloud.write(np.full((1, *file.shape), 100, file.dtypes[0]))
    found = []
    for prompt in (None, "spring, overcast", "spring, clear"):
        options = SceneOptions(tile=64, overlap=16, device="cpu", preview=False, prompt=prompt)
        restore_scene(scene, tmp_path / "out.tif", cloud=clouds, method=method, options=options)
        with rasterio.open(tmp_path / "out.tif") as file:
            found.append(file.read().tobytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("size", ["", "_shipped", "_tiny"])
def test_the_configs_of_the_three_trainings_fit_together(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_DATA", "data")
    flow = load_config(CONFIGS / f"cloud_flow{size}.yaml")
    assert isinstance(flow.method, GenerativeConfig)
    optical, sar = (
        load_config(CONFIGS / f"{Path(run).name}.yaml")
        for run in (flow.method.space.optical, flow.method.space.sar)
    )
    assert (optical.method.optical, optical.method.radar) == (flow.method.optical, ())
    assert (sar.method.optical, sar.method.radar) == ((), flow.method.radar)
    with torch.device("meta"):
        coders = [build_network(config) for config in (optical, sar)]
        sizes = {
            "latent_channels": coders[0].config.latent_channels,
            "sar_channels": coders[1].config.latent_channels,
        }
        values = {name: value for name, value in flow.network.items() if name != "name"}
        network = flux.build(parse(flux.Config, {**values, **sizes}, where="network"))
    assert coders[0].factor == coders[1].factor
    assert flow.data.tile % (coders[0].factor * network.stride) == 0
    if not size:
        assert sum(weight.numel() for weight in network.parameters()) == PUBLISHED_SIZE


@pytest.mark.parametrize("seed", [0, 1])
def test_the_flow_that_ships_leaves_no_seams(tmp_path: Path, seed: int) -> None:
    """Steps across the borders of tiles against those across other tokens' borders, 8 pixels apart."""
    tile, overlap, size = 96, 32, 160
    simulate_pairs(tmp_path, count=1, size=size, seed=5)
    (scene,), (radar,) = (sorted((tmp_path / folder).iterdir()) for folder in ("s2_cloudy", "s1"))
    options = SceneOptions(
        tile=tile, overlap=overlap, device="cpu", seed=seed, preview=False, keep_clear=False, steps=4
    )
    restore_scene(scene, tmp_path / "clear.tif", sar=radar, method=load("cloud_flow"), options=options)
    with rasterio.open(tmp_path / "clear.tif") as file:
        image = torch.from_numpy(file.read().astype("float32"))
    borders = {tile - overlap, tile}
    others = set(range(overlap, size - overlap + 1, 8)) - borders
    for axis in (1, 2):
        steps = image.diff(dim=axis).abs().mean((0, 3 - axis))
        assert steps[[b - 1 for b in borders]].mean() < 1.25 * steps[[b - 1 for b in others]].mean()
