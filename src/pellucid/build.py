"""Config -> objects; the only file that sees every layer."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from pellucid.bookkeeping import TrainReport
from pellucid.config import (
    ClearScenesSource,
    Config,
    DataConfig,
    MethodConfig,
    Sen12MsCrSource,
    Source,
    SyntheticSource,
    parse,
)
from pellucid.data.augment import Clouded, Patches, Selected, TrainingStream
from pellucid.data.batch import Batch
from pellucid.data.clear_scenes import ClearScenes
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.sen12ms_cr import Sen12MsCr
from pellucid.data.synthetic import SyntheticScenes
from pellucid.errors import InputError
from pellucid.evaluator import mean_spectrum
from pellucid.losses import LOSSES
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression
from pellucid.published import read_checkpoint
from pellucid.run import Metadata, find_run, read_run, save_run, shipped_runs
from pellucid.trainer import choose_device, train

NETWORKS = Path(__file__).parent / "networks"


def build_network(config: Config) -> nn.Module:
    """Return the network that `config.network` names, with random weights.

    Raises:
        InputError: if there is no such network, or a key or size does not fit it.
    """
    values: dict[str, Any] = {
        "optical_bands": len(config.method.optical),
        "radar_bands": len(config.method.radar),
        **config.network,
    }
    name = values.pop("name", None)
    if name not in known_networks():
        raise InputError(f"network.name is {name!r}, known networks are {', '.join(known_networks())}")
    for key, names in (("optical_bands", config.method.optical), ("radar_bands", config.method.radar)):
        if values[key] != len(names):
            raise InputError(f"network.{key} is {values[key]}, but the method names {', '.join(names)}")
    module = importlib.import_module(f"pellucid.networks.{name}")
    try:
        return module.build(parse(module.Config, values, where="network"))
    except ValueError as error:
        raise InputError(f"network: {error}") from error


def known_networks() -> tuple[str, ...]:
    """Return the names that `network.name` may have: the files in networks/."""
    return tuple(sorted(path.stem for path in NETWORKS.glob("[a-z]*.py") if path.stem != "blocks"))


def build_method(config: Config, metadata: Metadata | None = None) -> Regression:
    """Return the method, with random weights.

    Args:
        config: of the run.
        metadata: value ranges and mean spectrum of a saved run; None: Sentinel's ranges, mean unknown.
    """
    unknown = [name for name in config.losses if name not in LOSSES]
    if unknown:
        raise InputError(f"losses: unknown {', '.join(unknown)}; known are {', '.join(LOSSES)}")
    try:
        optical, radar = SENTINEL2.select(config.method.optical), SENTINEL1.select(config.method.radar)
    except ValueError as error:
        raise InputError(f"method: {error}") from error
    torch.manual_seed(config.train.seed)  # the libraries' layers draw their weights from the global state
    return Regression(
        build_network(config),
        optical=metadata.optical if metadata else optical,
        radar=metadata.radar if metadata else radar,
        losses={name: (weight, LOSSES[name]) for name, weight in config.losses.items() if weight},
        residual=config.method.residual,
        radar_optional=config.method.radar_optional,
        caution=config.method.caution,
        mean_spectrum=metadata.mean_spectrum if metadata else None,
    )


def load(run_or_name: str | Path, *, device: str = "auto") -> Method:
    """Return the method of a run folder, or of a model that ships with the package, ready to restore.

    Args:
        run_or_name: a run folder, or a name that `pellucid models` lists.
        device: "auto" is the GPU where there is one.

    Raises:
        InputError: if there is no such run, or its weights do not fit its config.
    """
    config, state, metadata = read_run(find_run(run_or_name))
    method = build_method(config, metadata)
    _load_weights(method, state, run_or_name)
    method.network.to(choose_device(device)).eval()
    return method


def start_method(config: Config) -> Regression:
    """Return the method that training starts with: random weights, or those of `train.init_from`.

    Raises:
        InputError: if those weights do not fit the network of the config.
    """
    method = build_method(config)
    if config.train.init_from:
        _, state, _ = read_run(find_run(config.train.init_from))
        _load_weights(method, state, config.train.init_from)
    return method


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is judged by.

    Attributes:
        stream: the samples of the run.
        val: whole patches for validation; None where the config names none.
        mean_spectrum: mean per band of the clear images of the training places, a baseline.
    """

    stream: TrainingStream
    val: Dataset[Batch] | None
    mean_spectrum: tuple[float, ...]


def build_training_data(config: Config) -> TrainingData:
    """Return the training samples and the validation patches that `config.data` names.

    Raises:
        InputError: if a source cannot be read, or training and validation share a place.
    """
    data, run = config.data, config.train
    sources = [(read_source(source, config), source) for source in data.train]
    try:
        stream = TrainingStream(
            [
                (patches, source.weight, not isinstance(source, Sen12MsCrSource))
                for patches, source in sources
            ],
            length=run.num_steps * run.batch * run.accumulate * run.num_devices,
            tile=data.tile,
            bands=config.method.optical,
            augment=data.augment,
            seed=run.seed,
            hold_out=data.hold_out,
        )
    except ValueError as error:
        raise InputError(f"data: {error}") from error
    val = [_cloudy(source, config) for source in data.val]
    shared = stream.places & {group for patches in val for group in patches.groups}
    if shared:
        raise InputError(
            f"training and validation share {', '.join(sorted(shared))}; add them to data.hold_out"
        )
    real = [patches for patches, source in sources if isinstance(source, Sen12MsCrSource)]
    kept = [
        Selected(patches, without=data.hold_out) for patches in real or [patches for patches, _ in sources]
    ]
    return TrainingData(stream, join(val) if val else None, mean_spectrum(join(kept)))


def join(parts: Sequence[Patches]) -> ConcatDataset[Batch]:
    """Return datasets as one, in their order."""
    return ConcatDataset(cast("Sequence[Dataset[Batch]]", parts))


def read_source(source: Source, config: Config) -> Patches:
    """Return the dataset that a source of the config describes, with the bands of its method."""
    bands, radar = config.method.optical, config.method.radar
    match source:
        case Sen12MsCrSource():
            return Sen12MsCr(source, bands=bands, radar=radar)
        case ClearScenesSource():
            return ClearScenes(source, bands=bands, radar=radar)
        case SyntheticSource():
            return SyntheticScenes(source, bands=bands, radar=radar)


def _cloudy(source: Source, config: Config) -> Patches:
    """Return the dataset, its clear images under simulated clouds: validation needs a task."""
    patches = read_source(source, config)
    if isinstance(source, Sen12MsCrSource):
        return patches
    return Clouded(patches, config.method.optical, seed=config.train.seed)


def run_training(
    config: Config, folder: Path, *, resume: bool = False, dry_run: bool = False, command: str = ""
) -> TrainReport:
    """Train what the config describes and leave a run folder.

    Args:
        config: of the run.
        folder: the run folder.
        resume: continue the run in `folder`.
        dry_run: check config, data and one step; nothing is written.
        command: what the user typed, for the card.

    Raises:
        InputError: if config, data or folder do not allow it.
    """
    method = start_method(config)
    data = build_training_data(config)
    method.mean_spectrum = data.mean_spectrum

    def save(*, card: str, metrics: dict[str, Any]) -> None:
        save_run(folder, config=config, method=method, card=card, metrics=metrics)

    return train(
        config,
        method,
        data.stream,
        data.val,
        folder,
        save=save,
        resume=resume,
        dry_run=dry_run,
        command=command,
    )


def _load_weights(method: Method, state: dict[str, torch.Tensor], source: str | Path) -> None:
    try:
        method.network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"the weights of {source} do not fit the network of the config: {reason}") from error


def baseline_spectrum(method: Method) -> tuple[float, ...] | None:
    """Return the mean spectrum to compare with: the method's own, else that of the model that ships.

    A published checkpoint does not say what it was trained on.
    """
    if method.mean_spectrum is not None:
        return method.mean_spectrum
    for name in shipped_runs():
        _, _, metadata = read_run(find_run(name))
        if metadata.mean_spectrum and set(method.optical.bands) <= set(metadata.optical.bands):
            known = dict(zip(metadata.optical.bands, metadata.mean_spectrum, strict=True))
            return tuple(known[band] for band in method.optical.bands)
    return None


def import_run(
    format: str,  # noqa: A002
    checkpoint: Path,
    run: Path,
    *,
    optical: tuple[str, ...] = (),
    radar: tuple[str, ...] = (),
) -> None:
    """Write a published checkpoint as a run folder.

    Args:
        format: a key of `published.FORMATS`.
        checkpoint: .pth, .pt or .safetensors.
        run: the folder to write.
        optical: names of the optical bands; empty: all thirteen, or B04, B03, B02 where there are three.
        radar: names of the radar bands; empty: VV, VH, or VV where there is one.

    Raises:
        InputError: if the checkpoint is not of that format, or the names do not fit it.
    """
    network, state = read_checkpoint(checkpoint, format)
    default = {13: SENTINEL2.bands, 3: ("B04", "B03", "B02")}.get(network["optical_bands"], ())
    names = MethodConfig(optical=optical or default, radar=radar or SENTINEL1.bands[: network["radar_bands"]])
    config = Config(network=network, method=names, data=DataConfig(train=()))
    method = build_method(config)
    method.network.load_state_dict(state)
    card = (
        f"# {run.name}\n\nImported from `{checkpoint.name}` (layout `{format}`), a published checkpoint. "
        "pellucid does not know what it was trained on and has measured nothing; "
        f"`pellucid evaluate {run.name} --data ...` does.\n"
    )
    save_run(run, config=config, method=method, card=card)
