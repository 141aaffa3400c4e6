from pathlib import Path

import pytest
import torch

from pellucid.build.method import load
from pellucid.config import Config
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.methods.ground import Ground
from pellucid.train.run_training import run_training

TINY = {
    "network": {
        "name": "ground",
        "features": 6,
        "widths": [8, 12],
        "clear_widths": [8, 8],
        "detail": 4,
        "refine": 8,
    },
    "method": {"name": "ground"},
    "data": {
        "train": [{"name": "synthetic", "num_scenes": 2, "size": 64}],
        "tile": 64,
        "augment": {"hide": 0.5, "simulate": 1.0},
    },
    "train": {"num_steps": 3, "batch": 2, "validate_every": 3, "checkpoint_every": 3, "device": "cpu"},
}


def config(**changes: object) -> Config:
    return parse(Config, {**TINY, **changes}, where="a test")


def test_run_is_trained_saved_and_loaded_with_all_that_the_method_is(tmp_path: Path) -> None:
    run_training(config(), tmp_path / "run")
    method = load(tmp_path / "run", device="cpu")
    assert isinstance(method, Ground)
    assert method.mean_spectrum is not None
    assert all(values.isfinite().all() for values in method.network.state_dict().values())


def test_losses_of_other_methods_and_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"losses\.l1: the method ground has losses of its own"):
        run_training(config(losses={"l1": 1.0}), tmp_path / "run", dry_run=True)
    network = {"name": "cross_attention", "width": 8}
    with pytest.raises(InputError, match="solves for no ground"):
        run_training(config(network=network), tmp_path / "run", dry_run=True)


def test_network_has_its_weights_from_the_seed(tmp_path: Path) -> None:
    run_training(config(), tmp_path / "one")
    run_training(config(), tmp_path / "two")
    one, two = (load(tmp_path / name, device="cpu").network.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
