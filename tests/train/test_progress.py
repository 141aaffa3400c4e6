from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TinyData, train_tiny

from pellucid.config import Config
from pellucid.data.schema import parse
from pellucid.train.progress import describe_row
from pellucid.train.run_training import run_training
from pellucid.train.tracking import Logs


def read_events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_shows_the_loss_every_ten_steps_and_every_validation(tmp_path: Path) -> None:
    report, _ = train_tiny(tmp_path, num_steps=30, validate_every=15, val_data=TinyData(6, seed=99))
    events = read_events(tmp_path)
    assert [event.step for event in events.Scalars("loss")] == [10, 20, 30]
    shown = [(event.step, event.value) for event in events.Scalars("history/val_psnr")]
    assert shown == [(row["step"], pytest.approx(row["val_psnr"])) for row in report.history]


def test_tensorboard_shows_the_first_images_cloudy_restored_and_true(tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=2, validate_every=1, val_data=TinyData(6, size=(20, 24), seed=99))
    events = read_events(tmp_path)
    assert sorted(events.Tags()["images"]) == ["image 0", "image 1", "image 2", "image 3"]
    pictures = events.Images("image 0")
    assert [picture.step for picture in pictures] == [1, 2]
    assert (pictures[0].height, pictures[0].width) == (20, 3 * 24)


def test_events_lie_under_the_name_of_the_run_in_a_folder_of_logs(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=10, logs=Logs(tmp_path / "logs"))
    assert [event.step for event in read_events(tmp_path / "logs" / "run").Scalars("loss")] == [10]
    assert not list((tmp_path / "run").glob("events*"))


def test_a_resumed_run_goes_on_in_the_same_curve(tmp_path: Path) -> None:
    train_tiny(tmp_path, num_steps=10)
    train_tiny(tmp_path, num_steps=20, resume=True)
    assert [event.step for event in read_events(tmp_path).Scalars("loss")] == [10, 20]


def test_the_bar_counts_steps_on_standard_error_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(tmp_path, num_steps=10, validate_every=5, accumulate=2, val_data=TinyData(2))
    out, err = capsys.readouterr()
    assert out == ""
    assert "10/10" in err
    assert "left" in err
    assert "rate 1.00e-02" in err
    assert "step 5: PSNR in dB: restored " in err
    assert "best at step" in err
    assert err.count("PSNR") == 2
    assert "Tip" not in err
    assert "warning" not in err.lower()


def test_a_row_tells_the_psnr_or_else_the_loss() -> None:
    row = {"step": 40, "val_loss_total": 0.125, "val_found": 0.875, "val_chance": 0.5}
    assert describe_row({**row, "val_psnr": 21.5}) == "step 40: PSNR in dB: restored 21.50"
    rates = "images that find their text 88%, by chance 50%"
    assert describe_row(row) == f"step 40: validation loss 0.1250; {rates}"
    assert describe_row({"step": 40, "val_loss_total": 0.125}) == "step 40: validation loss 0.1250"


@pytest.mark.parametrize("quiet", [True, False])
def test_a_quiet_training_shows_no_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, quiet: bool
) -> None:
    config = {
        "network": {"name": "cross_attention", "width": 8},
        "data": {"train": [{"name": "synthetic", "num_scenes": 1, "size": 32}], "tile": 32},
        "train": {"num_steps": 1, "batch": 1, "device": "cpu"},
    }
    run_training(parse(Config, config, where="config"), tmp_path / "run", quiet=quiet)
    assert ("1/1" in capsys.readouterr().err) is not quiet
