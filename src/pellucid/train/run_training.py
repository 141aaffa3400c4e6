"""Config in, run folder out."""

import warnings
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from pellucid.build.method import build_method
from pellucid.build.parts import Parts, read_parts
from pellucid.build.run import read_run, save_run
from pellucid.build.starting import prepare_network
from pellucid.config import Config
from pellucid.data.batch import Batch
from pellucid.data.claims import claim_files, claim_folders
from pellucid.data.files import write_text
from pellucid.data.ownership import check_replaceable
from pellucid.data.prompts import describe_all
from pellucid.data.run_folder import WEIGHTS
from pellucid.errors import InputError
from pellucid.methods.contrastive import ContrastiveConfig
from pellucid.methods.generative import GenerativeConfig
from pellucid.methods.inference import warn_of_unknown
from pellucid.methods.method import Method
from pellucid.train.checkpoints import TrainReport, check_new
from pellucid.train.data import TrainingData, build_training_data, choose_tokenizer, in_steps, keep_encoded
from pellucid.train.processes import check_processes, is_first
from pellucid.train.sample_sheet import draw_samples
from pellucid.train.schedule import check_schedule, fit_warmup
from pellucid.train.sharding import check_sharding
from pellucid.train.tracking import Logs
from pellucid.train.trainer import train

# Training samples by which the latents of an autoencoder are measured.
NUM_MEASURED = 128
# The file of a run folder that lists the patches which were left out.
MISSING = "missing.txt"


def start_method(config: Config, resumed: Path | None = None) -> Method:
    """Return the method that training starts with: random weights, or those of `train.init_from`.

    `resumed` is the folder of a run that goes on; the autoencoders and texts that it has saved stay the same.
    """
    parts = None
    if resumed is not None and (resumed / WEIGHTS).is_file():
        _, state, metadata = read_run(resumed)
        parts = read_parts(resumed, state, metadata)
    elif isinstance(config.method, ContrastiveConfig):
        parts = Parts(tokenizer=choose_tokenizer(config))
    method = build_method(config, parts=parts)
    prepare_network(method.network, config.train)
    return method


def _list_missing(data: TrainingData, folder: Path | None) -> None:
    """Say how many patches were left out, and list them in the run folder."""
    if data.left_out:
        where = "" if folder is None else f"; {folder / MISSING} lists them"
        warnings.warn(
            f"{len(data.left_out)} patches are left out, of which files are missing{where}", stacklevel=2
        )
        if folder is not None:
            write_text(folder / MISSING, "\n".join(data.left_out) + "\n")


def _announce(data: TrainingData, config: Config, method: Method, folder: Path | None) -> None:
    """Say which samples are left out, and what of the texts a method learns nothing."""
    _list_missing(data, folder)
    if not isinstance(config.method, GenerativeConfig) or not method.takes_text:
        return
    prompts = data.stream.prompts or describe_all(config.method.prompt, data.stream.keys)
    if not any(prompts):
        warnings.warn(
            f"method.text is {config.method.text}, but nothing is known of the data by which method.prompt, "
            f"{config.method.prompt!r}, would be a text, so that all are empty and teach nothing; set it to "
            '"{season}, {place}, {cover}" or a part of that, or leave method.text out',
            stacklevel=2,
        )
    warn_of_unknown(method, prompts)


def check_together(config: Config) -> None:
    """Refuse processes that are not there, or that cannot train what the config says together."""
    check_processes(config.train)
    check_sharding(config)


def run_training(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    checkpoint: Path | None = None,
    dry_run: bool = False,
    sample_sheet: Path | None = None,
    logs: Logs | None = None,
    command: str = "",
    quiet: bool = False,
) -> TrainReport:
    """Train what the config describes and leave a run folder.

    Args:
        config: of the run.
        folder: the run folder.
        resume: continue the run in `folder`.
        checkpoint: to continue from, in place of the last one.
        dry_run: check config, data and one step; nothing is written.
        sample_sheet: where a picture of the first samples goes, as the network sees them.
        logs: where the curves go; None: to the run folder.
        command: what the user typed, for the card.
        quiet: show no progress bar.
    """
    if checkpoint is not None and not resume:
        raise InputError(f"a checkpoint, {checkpoint}, is to go on from, which needs --resume; add it")
    check_together(config)
    with claim_folders(folder if is_first() and not dry_run else None):
        if is_first() and not (resume or dry_run):
            check_new(folder)
        config = fit_warmup(in_steps(config))
        method = start_method(config, folder if resume else None)
        data = build_training_data(config)
        data.stream.check(method.stride)
        _announce(data, config, method, folder if is_first() and not dry_run else None)
        check_schedule(config.train, data.stream.samples_per_epoch)
        method.mean_spectrum, method.mean_colors, method.tones = *data.means, data.tones
        _draw_sheet(sample_sheet if is_first() else None, config, data.stream, method)
        is_encoded = config.data.num_cached and not dry_run
        samples: Dataset[Batch] = keep_encoded(config, method, data.stream) if is_encoded else data.stream

        def save(*, card: str, metrics: dict[str, Any]) -> None:
            method.measure(data.stream[i] for i in range(min(NUM_MEASURED, len(data.stream))))
            save_run(folder, config=config, method=method, card=card, metrics=metrics)

        return train(
            config,
            method,
            samples,
            data.val,
            folder,
            save=save,
            resume=resume,
            checkpoint=checkpoint,
            dry_run=dry_run,
            logs=logs,
            command=command,
            quiet=quiet,
        )


def _draw_sheet(path: Path | None, config: Config, samples: Dataset[Batch], method: Method) -> None:
    """Draw the first samples, if a path says where; never in place of one of the images."""
    if path is not None:
        check_replaceable(path)
        roots = [getattr(source, "root", None) for source in (*config.data.train, *config.data.val)]
        if path.exists() and any(root and root.resolve() in path.resolve().parents for root in roots):
            raise InputError(f"cannot write {path}: it is among the images; name another file")
        with claim_files(path):
            draw_samples(samples, method, path)
