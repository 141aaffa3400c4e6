"""The mean of the weights of several checkpoints of a run, which often is better than the last of them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pellucid.build.run import read_run, save_run
from pellucid.data.claims import claim_folders
from pellucid.data.run_folder import CARD, CONFIG, check_no_run
from pellucid.errors import InputError
from pellucid.methods.tones import Tones
from pellucid.train.checkpoint_files import LAST, read_checkpoint
from pellucid.train.checkpoints import CHECKPOINTS
from pellucid.train.data import build_training_data
from pellucid.train.run_training import NUM_MEASURED, start_method

# Prefix of the network's weights in a checkpoint.
NETWORK = "network."


def average_run(
    run: Path, out: Path, *, last: int = 5, progress: Callable[[float, int], None] | None = None
) -> list[int]:
    """Write a run folder with the mean of the weights of the last checkpoints, and return their steps.

    Args:
        run: the folder of a trained run.
        out: the new run folder.
        last: how many checkpoints, 2 or more, of those that are kept by step, and the last one.
        progress: called with (checkpoints read, checkpoints).
    """
    if not (run / CONFIG).is_file():
        raise InputError(f"{run} is no run folder; name one with {CONFIG} and {CHECKPOINTS}/")
    check_no_run(out)
    with claim_folders(out):
        steps, weights = _mean_weights(_find_checkpoints(run / CHECKPOINTS, last), progress)
        config, _, metadata = read_run(run)
        method = start_method(config, run)
        method.network.load_state_dict(weights)
        method.mean_spectrum, method.mean_colors = metadata.mean_spectrum, metadata.mean_colors
        method.tones = Tones(metadata.tones) if metadata.tones else None
        if method.task == "reconstruct":  # latents are measured with the weights that are saved
            samples = build_training_data(config).stream
            method.measure(samples[i] for i in range(min(NUM_MEASURED, len(samples))))
        save_run(out, config=config, method=method, card=_describe(out.name, run, steps))
    return steps


def _find_checkpoints(folder: Path, last: int) -> list[Path]:
    """Return the newest checkpoints, one per step, oldest first."""
    by_step = {int(path.stem.partition("-")[2]): path for path in folder.glob("step-*.ckpt")}
    if (folder / LAST).is_file():
        newest = int(read_checkpoint(folder / LAST)["global_step"])
        by_step = {step: path for step, path in by_step.items() if step <= newest}  # later: before a resume
        by_step.setdefault(newest, folder / LAST)
    found = [by_step[step] for step in sorted(by_step)][-last:]
    if last < 2 or len(found) < 2:
        raise InputError(
            f"{folder} has {len(by_step)} checkpoints of different steps, and --last is {last}; a mean needs "
            "two or more: train with a smaller train.checkpoint_every"
        )
    return found


def _mean_weights(
    checkpoints: list[Path], progress: Callable[[float, int], None] | None
) -> tuple[list[int], dict[str, Tensor]]:
    """Return the steps of checkpoints, and the mean of their weights; whole numbers are those of the last."""
    steps, sums, last = list[int](), dict[str, Tensor](), dict[str, Tensor]()
    for done, path in enumerate(checkpoints, start=1):
        saved = read_checkpoint(path)
        steps.append(int(saved["global_step"]))
        state = saved["state_dict"].items()
        last = {name.removeprefix(NETWORK): value for name, value in state if name.startswith(NETWORK)}
        for name, value in last.items():
            if value.is_floating_point():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
        if progress is not None:
            progress(done, len(checkpoints))
    means = {name: (total / len(steps)).to(last[name].dtype) for name, total in sums.items()}
    return steps, {name: means.get(name, torch.clone(value)) for name, value in last.items()}


def _describe(name: str, run: Path, steps: list[int]) -> str:
    before = (run / CARD).read_text(encoding="utf-8") if (run / CARD).is_file() else ""
    listed = ", ".join(map(str, steps))
    return (
        f"# {name}\n\nThe mean of the weights of `{run}` at the steps {listed}. It was not validated: "
        f"`pellucid evaluate` says how good it is. What follows is the card of that run.\n\n{before}"
    )
