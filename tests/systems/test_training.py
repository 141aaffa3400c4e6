"""Whole training runs: resumed, interrupted, distributed."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyData, tiny_config, tiny_method, train_tiny
from torch.multiprocessing.spawn import start_processes

from pellucid.build.run import read_run
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.train.trainer import train

VALIDATION = TinyData(3, size=(17, 18), seed=5000)
# Everything that a resumed run must have in common with one that was never stopped.
EVERYTHING = {
    "ema_decay": 0.9,
    "schedule": "cosine",
    "warmup_steps": 2,
    "accumulate": 2,
    "weight_decay": 0.01,
    "clip_norm": 0.1,
}


class InterruptedData(TinyData):
    """Data that sends this process a signal while it is read."""

    def __init__(self, length: int, at: int, number: signal.Signals = signal.SIGINT) -> None:
        super().__init__(length)
        self.at, self.number = at, number

    def __getitem__(self, index: int) -> Batch:
        if index == self.at:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read_checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / name, weights_only=True))


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Return every number and tensor of a nested checkpoint by its path, without clock times."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = dict(enumerate(value)).items()
    else:
        return {} if name.endswith("seconds") else {name: value}
    return {path: leaf for key, child in items for path, leaf in leaves(child, f"{name}/{key}").items()}


def assert_same_state(first: Path, second: Path) -> None:
    """Compare weights, averages, optimiser, schedule and history of two runs bit by bit."""
    parts = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    one, two = read_checkpoint(first), read_checkpoint(second)
    for part in (*(part for part in parts if part in one or part in two), "callbacks", "global_step"):
        left, right = leaves(one[part]), leaves(two[part])
        assert left.keys() == right.keys(), part
        for path, value in left.items():
            same = (
                torch.equal(value, right[path]) if isinstance(value, torch.Tensor) else value == right[path]
            )
            assert same, f"{part}{path}: {value} and {right[path]}"


def test_the_loss_falls(tmp_path: Path) -> None:
    report, _ = train_tiny(tmp_path / "run", num_steps=40, val_data=VALIDATION, ema_decay=0.9)
    assert (report.status, report.num_steps) == ("done", 40)
    assert report.history[-1]["train_loss_l1"] < 0.7 * report.history[0]["train_loss_l1"]
    assert report.history[-1]["val_psnr"] > report.history[0]["val_psnr"] + 1


def test_the_weights_that_are_saved_are_those_that_validated_best(tmp_path: Path) -> None:
    report, method = train_tiny(tmp_path / "run", num_steps=20, val_data=VALIDATION, learning_rate=0.3)
    best = max(report.history, key=lambda row: row["val_psnr"])
    assert (report.best_step, report.best_psnr) == (best["step"], best["val_psnr"])
    assert report.best_step != report.num_steps  # or the test would be none
    state = read_run(tmp_path / "run")[1]
    checkpoint = read_checkpoint(tmp_path / "run", "best.ckpt")
    assert checkpoint["global_step"] == report.best_step
    for name, weight in method.network.state_dict().items():
        assert torch.equal(state[name], checkpoint["state_dict"][f"network.{name}"])
        assert torch.equal(state[name], weight)


def test_averaged_weights_are_saved_as_soon_as_they_validate_best(tmp_path: Path) -> None:
    config, method = tiny_config(ema_decay=0.9, num_steps=8, checkpoint_every=4), tiny_method()
    saved: list[dict[str, torch.Tensor]] = []

    def save(*, card: str, metrics: dict[str, Any]) -> None:
        saved.append({name: weight.clone() for name, weight in method.network.state_dict().items()})

    train(config, method, TinyData(1000), VALIDATION, tmp_path, save=save)
    fourth = read_checkpoint(tmp_path, "step-0000004.ckpt")
    for name, weight in saved[0].items():
        assert torch.equal(weight, fourth["state_dict"][f"network.{name}"])
        assert not torch.equal(weight, fourth["current_model_state"][f"network.{name}"])


def test_checkpoints_are_kept_every_so_many_steps_with_the_config(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=8, checkpoint_every=3, val_data=VALIDATION)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt", "previous.ckpt", "step-0000003.ckpt", "step-0000006.ckpt"]
    third = read_checkpoint(tmp_path / "run", "step-0000003.ckpt")
    assert (third["global_step"], third["config"]["train"]["num_steps"]) == (3, 8)


def test_averaged_weights_follow_the_decay(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=3, checkpoint_every=1, ema_decay=0.15)
    name, weights, averages = "network.second.bias", [], []
    for step in (1, 2, 3):
        checkpoint = read_checkpoint(tmp_path / "run", f"step-000000{step}.ckpt")
        weights.append(checkpoint["current_model_state"][name])
        averages.append(checkpoint["state_dict"][name])
    # The first is a copy; then the decay is min(0.15, (1 + n) / (10 + n)) for n averaged so far: 2/11, 3/12.
    torch.testing.assert_close(averages[0], weights[0])
    torch.testing.assert_close(averages[1], 0.15 * averages[0] + 0.85 * weights[1])
    torch.testing.assert_close(averages[2], 0.15 * averages[1] + 0.85 * weights[2])
    train_tiny(tmp_path / "slow", num_steps=2, checkpoint_every=1, ema_decay=0.999)
    second = read_checkpoint(tmp_path / "slow", "step-0000002.ckpt")
    first = read_checkpoint(tmp_path / "slow", "step-0000001.ckpt")
    expected = 2 / 11 * first["state_dict"][name] + 9 / 11 * second["current_model_state"][name]
    torch.testing.assert_close(second["state_dict"][name], expected)


def test_the_psnr_of_the_history_is_that_of_the_saved_weights(tmp_path: Path) -> None:
    report, _ = train_tiny(tmp_path / "run", val_data=VALIDATION, ema_decay=0.9, num_steps=12)
    method = tiny_method()
    method.network.load_state_dict(read_run(tmp_path / "run")[1])
    method.network.eval()
    values = []
    for i in range(len(VALIDATION)):
        batch = VALIDATION[i]
        padded = [
            torch.nn.functional.pad(x, (0, 2, 0, 3), mode="reflect") for x in (batch.degraded, batch.sar)
        ]
        with torch.no_grad():
            restored = method.network(*padded)[..., :17, :18].clamp(0, 1)
        values.append(-10 * torch.log10((restored - batch.target).square().mean()))
    assert report.best_psnr == pytest.approx(torch.stack(values).mean().item(), abs=1e-4)


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    train_tiny(tmp_path / "once", num_steps=11, val_data=VALIDATION, **EVERYTHING)
    # Micro-batch 12 is the first of step 7; each has two samples.
    interrupted = InterruptedData(1000, at=24)
    report, _ = train_tiny(
        tmp_path / "twice", num_steps=11, val_data=VALIDATION, train_data=interrupted, **EVERYTHING
    )
    assert (report.status, report.num_steps) == ("interrupted", 7)
    other = tiny_method(seed=9)  # whatever the weights are, the checkpoint's count
    report, _ = train_tiny(
        tmp_path / "twice", num_steps=11, val_data=VALIDATION, method=other, resume=True, **EVERYTHING
    )
    assert (report.status, report.num_steps) == ("done", 11)
    assert [row["step"] for row in report.history] == [4, 8, 11]
    assert_same_state(tmp_path / "once", tmp_path / "twice")
    assert_same_weights(tmp_path / "once", tmp_path / "twice")


@pytest.mark.parametrize("schedule", ["constant", "step"])
@pytest.mark.parametrize("with_validation", [True, False])
def test_n_steps_and_n_more_equal_two_n(tmp_path: Path, schedule: str, with_validation: bool) -> None:
    options = {"schedule": schedule, "steps_per_epoch": 2, "step_epochs": 1}
    options["val_data"] = VALIDATION if with_validation else None
    train_tiny(tmp_path / "once", num_steps=8, **options)
    train_tiny(tmp_path / "twice", num_steps=4, **options)
    train_tiny(tmp_path / "twice", num_steps=8, resume=True, **options)
    assert_same_state(tmp_path / "once", tmp_path / "twice")
    assert_same_weights(tmp_path / "once", tmp_path / "twice")


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = read_run(first)[1], read_run(second)[1]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_interrupted_run_leaves_weights_that_can_be_used(tmp_path: Path) -> None:
    data = InterruptedData(1000, at=2, number=signal.SIGTERM)
    report, _ = train_tiny(tmp_path / "run", train_data=data, val_data=VALIDATION, ema_decay=0.9)
    assert (report.status, report.num_steps) == ("interrupted", 2)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    _, state, _ = read_run(tmp_path / "run")
    average = read_checkpoint(tmp_path / "run")["state_dict"]
    assert all(torch.equal(state[name], average[f"network.{name}"]) for name in state)


def test_a_finished_run_says_that_it_was_done(tmp_path: Path) -> None:
    first, _ = train_tiny(tmp_path / "run", val_data=VALIDATION)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again, _ = train_tiny(tmp_path / "run", val_data=VALIDATION, resume=True)
    assert again.status == "was done"
    assert (again.num_steps, again.history) == (first.num_steps, first.history)
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_a_run_stops_early_when_validation_does_not_improve(tmp_path: Path) -> None:
    options = {"num_steps": 100, "validate_every": 2, "early_stopping": 3, "val_data": VALIDATION}
    report, _ = train_tiny(tmp_path / "run", learning_rate=1e-30, **options)
    assert (report.status, report.num_steps, report.best_step) == ("stopped early", 8, 2)
    again, _ = train_tiny(tmp_path / "run", learning_rate=1e-30, resume=True, **options)
    assert again.status == "was done"


def test_a_new_run_does_not_touch_one_that_is_there(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=2)
    with pytest.raises(InputError, match="already holds a run, resume it"):
        train_tiny(tmp_path / "run", num_steps=2)


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no checkpoints/last\.ckpt, leave --resume away"):
        train_tiny(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_what_it_was_trained_with(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=2)
    with pytest.raises(InputError, match=r"train\.seed is 5 but the run .* with 0"):
        train_tiny(tmp_path / "run", num_steps=4, seed=5, resume=True)


def test_a_resumed_run_may_go_on_with_other_settings_and_says_so(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=3, val_data=VALIDATION)
    before = read_checkpoint(tmp_path / "run")
    changes = {"learning_rate": 0.5, "batch": 3, "accumulate": 2, "eps": 1e-6, "validate_every": 2}
    with pytest.warns(
        UserWarning, match=r"batch is 3 \(was 2\), .*rate is 0.5 \(was 0.01\), train.num_steps is 7 \(was 3\)"
    ):
        report, _ = train_tiny(
            tmp_path / "run", num_steps=7, val_data=VALIDATION, resume=True, schedule="constant", **changes
        )
    after = read_checkpoint(tmp_path / "run")
    assert [row["step"] for row in report.history] == [3, 4, 6, 7]
    assert [row["learning_rate"] for row in report.history] == [0.01, 0.5, 0.5, 0.5]
    (old,), (new,) = (state["optimizer_states"] for state in (before, after))
    assert (new["param_groups"][0]["eps"], new["param_groups"][0]["lr"]) == (1e-6, 0.5)
    assert old["state"][0]["step"] == 3
    assert new["state"][0]["step"] == 7  # the means went on
    assert after["global_step"] == 7


def test_a_run_goes_on_from_the_checkpoint_that_is_chosen(tmp_path: Path) -> None:
    options = {"num_steps": 8, "validate_every": 2, "checkpoint_every": 4, "val_data": VALIDATION}
    first, _ = train_tiny(tmp_path / "run", **options)
    again, _ = train_tiny(tmp_path / "run", resume=True, checkpoint=Path("step-0000004.ckpt"), **options)
    strip = [[{**row, "seconds": 0} for row in report.history] for report in (first, again)]
    assert strip[0] == strip[1]  # from step 4 on, the same steps again
    assert again.best_step == max(again.history[1:], key=lambda row: row["val_psnr"])["step"]
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == again.best_step
    with pytest.raises(InputError, match=r"no checkpoint step-0000005.ckpt; did you mean 'step"):
        train_tiny(tmp_path / "run", resume=True, checkpoint=Path("step-0000005.ckpt"), **options)


def test_a_chosen_checkpoint_stays_the_best_if_nothing_after_it_is_better(tmp_path: Path) -> None:
    options = {"num_steps": 4, "validate_every": 2, "checkpoint_every": 2, "val_data": VALIDATION}
    train_tiny(tmp_path / "run", **options)
    chosen = tmp_path / "run" / "checkpoints" / "step-0000002.ckpt"
    with pytest.warns(UserWarning, match="learning_rate is 1000"):
        report, method = train_tiny(
            tmp_path / "run", resume=True, checkpoint=chosen, learning_rate=1000.0, **options
        )
    assert report.best_step == 2
    kept = torch.load(chosen, weights_only=True)["state_dict"]
    assert torch.equal(method.network.first.weight, kept["network.first.weight"])


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=2)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    last.with_name("previous.ckpt").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        train_tiny(tmp_path / "run", num_steps=4, resume=True)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .* choose another run folder"):
        train_tiny(tmp_path / "file" / "run")


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_data has 15 samples, the run needs 16"):
        train_tiny(tmp_path / "run", train_data=TinyData(15), num_steps=8, batch=2)


def test_a_dry_run_writes_nothing_and_leaves_the_weights(tmp_path: Path) -> None:
    method = tiny_method()
    before = {name: weight.clone() for name, weight in method.network.state_dict().items()}
    report, _ = train_tiny(tmp_path / "run", method=method, val_data=VALIDATION, dry_run=True, accumulate=2)
    assert report.status == "dry run"
    assert report.history[0].keys() >= {"train_loss_l1", "val_loss_l1", "val_psnr"}
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(before[name], weight) for name, weight in method.network.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(tmp_path: Path) -> None:
    method = tiny_method()
    method.network.second.bias.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"the loss is nan at step 0 \(image 0, image 1\)"):
        train_tiny(tmp_path / "run", method=method)


def test_worker_processes_give_the_same_samples(tmp_path: Path) -> None:
    train_tiny(tmp_path / "none", num_steps=3)
    train_tiny(tmp_path / "two", num_steps=3, num_workers=2)
    assert_same_weights(tmp_path / "none", tmp_path / "two")


def test_half_precision_trains_float32_weights(tmp_path: Path) -> None:
    full, _ = train_tiny(tmp_path / "full", num_steps=20, val_data=VALIDATION)
    half, method = train_tiny(tmp_path / "half", num_steps=20, val_data=VALIDATION, precision="bf16")
    assert {weight.dtype for weight in method.network.parameters()} == {torch.float32}
    assert half.best_psnr == pytest.approx(full.best_psnr, abs=0.2)
    assert half.best_psnr != full.best_psnr


def test_accumulated_micro_batches_have_the_gradient_of_one_batch(tmp_path: Path) -> None:
    same = {"num_steps": 1, "clip_norm": 0}
    train_tiny(tmp_path / "one", method=tiny_method(dropout=0), batch=4, **same)
    train_tiny(tmp_path / "two", method=tiny_method(dropout=0), batch=2, accumulate=2, **same)
    for one, two in zip(gradients(tmp_path / "one"), gradients(tmp_path / "two"), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-8)


def test_two_processes_have_the_gradients_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    train_tiny(
        tmp_path / "one", method=tiny_method(dropout=0, adversarial=True), batch=4, **distributed_options()
    )
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload(["tiny"])  # the imports take longer than the training
    start_processes(train_as_one_of_two, args=(port, tmp_path / "two"), nprocs=2, start_method="forkserver")
    for one, two in zip(gradients(tmp_path / "one"), gradients(tmp_path / "two"), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-8)
    rows = [
        read_checkpoint(tmp_path / name)["callbacks"]["BestWeights"]["history"][0] for name in ("one", "two")
    ]
    for name in ("train_loss_l1", "val_loss_l1", "val_psnr"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-5)


def distributed_options() -> dict[str, Any]:
    return {"num_steps": 1, "accumulate": 2, "clip_norm": 0, "val_data": VALIDATION}


def train_as_one_of_two(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    method = tiny_method(dropout=0, adversarial=True)
    train_tiny(folder, method=method, batch=2, num_devices=2, **distributed_options())


def gradients(folder: Path) -> list[torch.Tensor]:
    """Return the gradients of a run's only step: Adam's first moment is 1 - beta1 = 0.1 times them."""
    state = read_checkpoint(folder)["optimizer_states"][0]["state"]
    return [10 * state[i]["exp_avg"] for i in sorted(state)]
