"""What CONTRIBUTING.md shows of extending pellucid works: each toy, in one file on its shelf."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from tests.test_docs import toys
from tests.tiny import BANDS, TinyData
from typer.testing import CliRunner

from pellucid.build.method import build_network, load
from pellucid.cli import app
from pellucid.config import Config, load_config
from pellucid.data.schema import parse
from pellucid.train.run_training import run_training


def check_layout(module: ModuleType, root: Path) -> None:
    """Train, check and evaluate with a layout that only its file knows."""
    data = TinyData(2)
    for batch in (data[0], data[1]):
        for role, image in (("cloudy", batch.degraded), ("clear", batch.target)):
            (root / role).mkdir(parents=True, exist_ok=True)
            np.save(root / role / f"{batch.key[0]}.npy", image[0].numpy())
    assert module.recognise(root)
    torch.testing.assert_close(module.Toy(root)[1].target, batch.target)
    values = {
        "network": {"name": "cross_attention", "width": 8},
        "method": {"optical": ["B02", "B03", "B04"], "radar_optional": True},
        "data": {"train": [{"name": "toy", "root": str(root)}], "tile": 16},
        "train": {"num_steps": 2, "batch": 1, "device": "cpu"},
    }
    config, run = root.parent / "toy.yaml", root.parent / "run"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert "toy, 2 samples" in call("data", "check", root)
    call("train", config, "--run", run)
    assert load_config(run / "config.yaml").data.train == (module.Config(root=root),)
    assert "mean spectrum" in call("evaluate", run, "--data", root)


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def toy_config(loss: str) -> Config:
    """Return the config of a run of one step that trains the toy network by a loss."""
    values = {
        "network": {"name": "toy"},
        "data": {"train": [{"name": "synthetic", "num_scenes": 1}], "tile": 32},
        "losses": {loss: 1.0},
        "train": {"num_steps": 1, "batch": 1, "device": "cpu"},
    }
    return parse(Config, values, where="toy")


@pytest.mark.parametrize("path", toys())
def test_a_toy_works_on_its_shelf(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in {path, "networks/toy.py"}:  # the published toy imports the network
        name_of_shelf = Path(each).parent.name
        (tmp_path / name_of_shelf).mkdir()
        (tmp_path / each).write_text(toys()[each], encoding="utf-8")
        shelf = importlib.import_module(f"pellucid.{name_of_shelf}")
        places = [*getattr(shelf, "__path__", ()), str(tmp_path / name_of_shelf)]
        monkeypatch.setattr(shelf, "__path__", places, raising=False)
    module = importlib.import_module("pellucid." + path.removesuffix(".py").replace("/", "."))
    batch = TinyData(1)[0]
    match Path(path).parent.name:
        case "networks":
            method = {"name": "regression", "optical": BANDS, "radar": ("VV", "VH")}
            values = {"network": {"name": "toy"}, "method": method, "data": {"train": ()}}
            config = parse(Config, values, where="toy")
            assert build_network(config)(batch.degraded, batch.sar).shape == batch.target.shape
        case "losses":
            loss = getattr(module, Path(path).stem)
            assert loss(batch.target, batch) < loss(batch.degraded, batch)
            report = run_training(toy_config(Path(path).stem), tmp_path / "run", dry_run=True)
            assert report.history[0][f"train_loss_{Path(path).stem}"] > 0
        case "datasets":
            check_layout(module, tmp_path / "data")
        case "published":
            network = module.FORMAT.network.build(module.FORMAT.network.Config(optical_bands=3, width=4))
            torch.save(network.state_dict(), tmp_path / "toy.pth")
            words = ["import", "toy", str(tmp_path / "toy.pth"), str(tmp_path / "run")]
            assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
            imported = load(tmp_path / "run", device="cpu").network
            expected = network(batch.degraded, batch.sar)
            torch.testing.assert_close(imported(batch.degraded, batch.sar), expected)
