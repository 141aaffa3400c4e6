"""End to end, for a text encoder: train a little, save, load, resume, refuse what cannot work."""

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pellucid import restore_scene
from pellucid.build.method import build_text_encoder, load
from pellucid.build.run import check_tokenizer, read_metadata, read_run
from pellucid.cli import app
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.tokenizer import default_tokenizer
from pellucid.errors import InputError
from pellucid.methods.contrastive import Contrastive
from pellucid.train.data import build_training_data, in_steps
from pellucid.train.run_training import run_training, start_method

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = pytest.mark.usefixtures("pictures")


def tiny(*changes: str) -> Config:
    return load_config(CONFIGS / "text_encoder_tiny.yaml", ("train.device=cpu", *changes))


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "texts"
    report = run_training(tiny(), folder)
    rows = report.history
    assert rows[-1]["val_loss_total"] < 0.7 * rows[0]["val_loss_total"]
    assert rows[-1]["val_found"] > 0.9
    assert rows[-1]["val_chance"] < 0.6
    assert report.best_psnr is None
    assert report.best_step == min(rows, key=lambda row: row["val_loss_total"])["step"]
    return folder


def test_texts_find_pictures_of_places_that_were_not_learnt(run: Path) -> None:
    method = load(run, device="cpu")
    assert isinstance(method, Contrastive)
    data = build_training_data(tiny()).val
    batch = Batch.cat([data[i] for i in range(9)])
    figures = method.validate(batch)
    assert figures["found"] == 1
    untrained = start_method(tiny()).validate(batch)
    assert figures["loss_total"] < 0.7 * untrained["loss_total"]


def test_the_run_holds_the_tokenizer_of_the_training_prompts(run: Path) -> None:
    tokenizer = check_tokenizer(run, read_metadata(run)[1])
    assert tokenizer.length == 16
    assert tokenizer.unknown("Colorise image, Region: arctic, Season: winter") == ("winter",)
    method = load(run, device="cpu")
    assert method.tokenizer.to_json() == tokenizer.to_json()
    (run / "tokenizer.json").rename(run / "kept")
    with pytest.raises(InputError, match=r"lacks tokenizer.json"):
        load(run)
    (run / "kept").rename(run / "tokenizer.json")


def test_it_takes_no_clouds_off(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this model is a text encoder, it takes no clouds off; choose"):
        restore_scene(tmp_path / "scene.tif", tmp_path / "out.tif", method=load(run, device="cpu"))


def test_the_card_says_how_the_weights_were_chosen(run: Path) -> None:
    card = (run / "card.md").read_text()
    assert "chosen by `val_loss_total`, the lowest mean loss" in card
    assert "`val_chance` is the share that always naming the most frequent" in card
    assert "PSNR" not in card


def test_a_resumed_run_ends_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    changes = ("train.validate_every=2", "train.schedule=constant", "train.warmup_steps=1")
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        for number, steps in enumerate(parts):
            run_training(tiny(f"train.num_steps={steps}", *changes), tmp_path / name, resume=number > 0)
    whole, parts_state = (read_run(tmp_path / name)[1] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in parts_state.items())


def test_epochs_are_passes_over_the_training_samples(tmp_path: Path) -> None:
    changes = ("train.epochs=2", "train.validate_every_epochs=1", "train.checkpoint_every_epochs=2")
    settings = in_steps(tiny(*changes)).train
    assert (settings.num_steps, settings.validate_every, settings.checkpoint_every) == (6, 3, 6)  # 18 samples
    held_out = in_steps(tiny(*changes, "data.hold_out=[r_001]", "train.accumulate=3")).train
    assert (held_out.num_steps, held_out.checkpoint_every) == (2, 2)
    assert in_steps(tiny()) == tiny()
    run_training(tiny(*changes), tmp_path)
    with (tmp_path / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3", "6"]
    assert (tmp_path / "checkpoints" / "step-0000006.ckpt").is_file()
    further = ("train.epochs=3", *changes[1:])
    assert run_training(tiny(*further), tmp_path, resume=True).num_steps == 9


def test_the_command_line_trains_and_tells_the_loss(tmp_path: Path) -> None:
    words = ["train", str(CONFIGS / "text_encoder_tiny.yaml"), "--set", "train.num_steps=2"]
    words += ["--set", "train.validate_every=2", "--set", "train.device=cpu", "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "validation loss" in result.output
    assert "PSNR" not in result.output


def test_the_published_size_is_the_default() -> None:
    config = load_config(CONFIGS / "text_encoder.yaml")
    with torch.device("meta"):
        network = build_text_encoder(config, default_tokenizer())
    assert sum(weight.numel() for weight in network.text.parameters()) == 85_883_136
    options = config.train
    assert (options.batch, options.learning_rate, options.weight_decay) == (32, 1e-4, 0.01)
    assert (options.epochs, options.warmup_steps, options.checkpoint_every_epochs) == (50, 1000, 5)


def test_prompts_may_be_told_by_the_published_vocabulary_or_a_file(run: Path, tmp_path: Path) -> None:
    known = start_method(tiny("method.tokenizer=default", "network.vocab_size=1000"))
    assert known.tokenizer(["tropical"])[0, :3].tolist() == [2, 8, 3]
    other = start_method(tiny(f"method.tokenizer={run}"))
    assert other.tokenizer.to_json() == check_tokenizer(run, read_metadata(run)[1]).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network.vocab_size=9", "a vocabulary of 9 has room for 5; set vocab_size to at least"),
        ("method.tokenizer=default", "the text encoder's vocabulary is 40; set vocab_size to at least 1000"),
        ("network.length=8", "at most 6 fit into length = 8; shorten it, or set a larger length"),
        ("method.tokenizer=nowhere.json", "the tokenizer nowhere.json does not exist"),
        ("network.end_id=4", "network.end_id is 4, but the id that ends the tokenizer's texts is 3"),
        ("network.bands=4", "network.bands is 4, but the number of the method's bands is 3; leave it out"),
        ("network={name: glf_cr}", "network.name is 'glf_cr', which reads no texts"),
        ("network.num_heads=3", "network: num_heads is 3, must divide width = 16"),
        ("losses={l1: 1.0}", "losses.l1 compares images, of which a text encoder makes none; leave it out"),
        (
            "data.train=[{name: synthetic}]",
            "the data are scenes of Sentinel-2 and Sentinel-1, but the method names R, G, B",
        ),
    ],
)
def test_a_config_that_cannot_work_is_explained(change: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        start_method(tiny(change))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_validation_pictures_that_are_too_small_are_named() -> None:
    with pytest.raises(InputError, match=r"img_p0 has 32 x 32 pixels, data.tile needs 33; lower it"):
        build_training_data(tiny("data.tile=33")).val[0]
