"""Config -> objects; the only file that sees every layer."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from pellucid.bookkeeping import TrainReport
from pellucid.config import (
    ClearScenesSource,
    Config,
    GenerativeConfig,
    MethodConfig,
    PathConfig,
    RegressionConfig,
    Sen12MsCrSource,
    SlicesSource,
    Source,
    SyntheticSource,
    parse,
)
from pellucid.data.augment import (
    Change,
    Clouded,
    Patches,
    Selected,
    TrainingStream,
    change_clouds,
    change_low_resolution,
)
from pellucid.data.batch import Batch
from pellucid.data.clear_scenes import ClearScenes
from pellucid.data.ranges import SENTINEL1, SENTINEL2, SLICE, ValueRange
from pellucid.data.sen12ms_cr import Sen12MsCr
from pellucid.data.slices import Slices
from pellucid.data.synthetic import SyntheticScenes
from pellucid.errors import InputError
from pellucid.evaluator import mean_spectrum
from pellucid.generative.path import RectifiedFlow, VariancePreserving, beta_schedule
from pellucid.losses import LOSSES, PerceptualLoss
from pellucid.methods.generative import DENOISE, Generative, Sampling
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression
from pellucid.perceptual import load_vgg19
from pellucid.published import Hints, read_checkpoint
from pellucid.run import Metadata, find_run, read_run, save_run, shipped_runs
from pellucid.trainer import choose_device, train

# A term of the loss: (estimated image, batch) -> scalar.
Loss: TypeAlias = Callable[[torch.Tensor, Batch], torch.Tensor]
PERCEPTUAL = "perceptual"
NETWORKS = Path(__file__).parent / "networks"
# Shared places that a message names before it counts the rest.
NAMED = 5


def build_network(config: Config) -> nn.Module:
    """Return the network that `config.network` names, with random weights.

    Raises:
        InputError: if there is no such network, or a key or size does not fit it.
    """
    values = dict(config.network)
    name = values.pop("name", None)
    if name not in known_networks():
        raise InputError(f"network.name is {name!r}, known networks are {', '.join(known_networks())}")
    module = importlib.import_module(f"pellucid.networks.{name}")
    optical, radar = config.method.optical, config.method.radar
    for key, names in (("bands", optical), ("optical_bands", optical), ("radar_bands", radar)):
        if key not in module.Config.__dataclass_fields__:
            continue
        if values.setdefault(key, len(names)) != len(names):
            raise InputError(f"network.{key} is {values[key]}, but the method names {', '.join(names)}")
    try:
        return module.build(parse(module.Config, values, where="network"))
    except ValueError as error:
        raise InputError(f"network: {error}") from error


def known_networks() -> tuple[str, ...]:
    """Return the names that `network.name` may have: the files in networks/."""
    return tuple(sorted(path.stem for path in NETWORKS.glob("[a-z]*.py") if path.stem != "blocks"))


def build_method(config: Config, metadata: Metadata | None = None) -> Regression | Generative:
    """Return the method, with random weights.

    Args:
        config: of the run.
        metadata: value ranges and mean spectrum of a saved run, which will not be trained, so that its
            losses are left out; None: the sensors' ranges, mean unknown.
    """
    optical, radar = (metadata.optical, metadata.radar) if metadata else _ranges(config.method)
    losses = {} if metadata else build_losses(config)
    torch.manual_seed(config.train.seed)  # the libraries' layers draw their weights from the global state
    network = build_network(config)
    match config.method:
        case GenerativeConfig() as options:
            return Generative(
                network,
                path=build_path(options.path, options.prediction),
                optical=optical,
                radar=radar,
                losses=losses,
                scale=options.scale,
                sampling=Sampling(options.steps, options.eta, options.solver),
                importance=options.importance,
                residual=options.residual,
            )
        case RegressionConfig() as options:
            return Regression(
                network,
                optical=optical,
                radar=radar,
                losses={name: (weight, term) for name, (weight, term) in losses.items() if term},
                residual=options.residual,
                radar_optional=options.radar_optional,
                caution=options.caution,
                mean_spectrum=metadata.mean_spectrum if metadata else None,
            )


def build_path(
    options: PathConfig, prediction: Literal["noise", "image", "velocity"]
) -> RectifiedFlow | VariancePreserving:
    """Return the way from the image to the noise.

    Raises:
        InputError: if the prediction or a number does not fit it.
    """
    try:
        if options.name == "rectified_flow":
            return RectifiedFlow(prediction=prediction)
        betas = beta_schedule(
            options.schedule,
            options.num_steps,
            linear_start=options.linear_start,
            linear_end=options.linear_end,
        )
        return VariancePreserving(betas, prediction=prediction)
    except ValueError as error:
        raise InputError(f"method.path: {error}") from error


def build_losses(config: Config) -> dict[str, tuple[float, Loss | None]]:
    """Return weight and function of each loss term whose weight is not 0; `denoise` has no function.

    Raises:
        InputError: if `denoise` is asked of a regression, or the perceptual loss without weights.
    """
    losses: dict[str, tuple[float, Loss | None]] = {}
    for name, weight in config.losses.items():
        if not weight:
            continue
        if name == DENOISE and not isinstance(config.method, GenerativeConfig):
            raise InputError("losses.denoise is for generative methods, set it to 0 for a regression")
        losses[name] = (weight, None if name == DENOISE else _loss(name, config))
    return losses


def _loss(name: str, config: Config) -> Loss:
    if name != PERCEPTUAL:
        return LOSSES[name]
    if not config.perceptual_weights:
        raise InputError(
            "losses.perceptual needs the weights of VGG19, name a file or URL in `perceptual_weights`, "
            "or set the loss to 0 (--set losses.perceptual=0)"
        )
    return PerceptualLoss(load_vgg19(config.perceptual_weights))


def _ranges(method: MethodConfig) -> tuple[ValueRange, ValueRange]:
    known = SLICE if set(method.optical) <= set(SLICE.bands) else SENTINEL2
    try:
        return known.select(method.optical), SENTINEL1.select(method.radar)
    except ValueError as error:
        raise InputError(f"method: {error}") from error


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


def start_method(config: Config) -> Regression | Generative:
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
        mean_spectrum: mean per band of the clear images of the training places, a baseline; None for slices,
            whose baseline is bicubic.
    """

    stream: TrainingStream
    val: Dataset[Batch] | None
    mean_spectrum: tuple[float, ...] | None


def build_training_data(config: Config) -> TrainingData:
    """Return the training samples and the validation patches that `config.data` names.

    Raises:
        InputError: if a source cannot be read, or training and validation share a place.
    """
    data, run = config.data, config.train
    sources = [(read_source(source, config), source) for source in data.train]
    try:
        stream = TrainingStream(
            [(patches, source.weight, _change(source, config)) for patches, source in sources],
            length=run.num_steps * run.batch * run.accumulate * run.num_devices,
            tile=data.tile,
            augment=data.augment,
            seed=run.seed,
            hold_out=data.hold_out,
        )
    except ValueError as error:
        raise InputError(f"data: {error}") from error
    val = [_judged(source, config) for source in data.val]
    _check_apart(stream.places, {group for patches in val for group in patches.groups})
    if any(isinstance(source, SlicesSource) for source in data.train):
        return TrainingData(stream, join(val) if val else None, None)
    real = [patches for patches, source in sources if isinstance(source, Sen12MsCrSource)]
    kept = [
        Selected(patches, without=data.hold_out) for patches in real or [patches for patches, _ in sources]
    ]
    return TrainingData(stream, join(val) if val else None, mean_spectrum(join(kept)))


def _change(source: Source, config: Config) -> Change:
    """Return what makes the training samples of a source."""
    augment = config.data.augment
    if isinstance(source, SlicesSource):
        return partial(change_low_resolution, augment=augment.low_resolution)
    is_clear = not isinstance(source, Sen12MsCrSource)
    return partial(change_clouds, augment=augment, bands=config.method.optical, is_clear=is_clear)


def _check_apart(training: set[str], validation: set[str]) -> None:
    shared = sorted(training & validation)
    if shared:
        more = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
        raise InputError(
            f"training and validation share {', '.join(shared[:NAMED])}{more}; add them to data.hold_out, or"
            " let the sources exclude them"
        )


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
        case SlicesSource():
            return _read_slices(source, config.method)


def _read_slices(source: SlicesSource, method: MethodConfig) -> Slices:
    if not isinstance(method, GenerativeConfig):
        raise InputError(
            f"data: slices are for a method that enlarges, found {method.name}; use generative, with a scale"
        )
    if method.optical != SLICE.bands or method.radar:
        names = ", ".join((*method.optical, *method.radar))
        raise InputError(f"data: slices have one band, {SLICE.bands[0]}, the method names {names}; change it")
    return Slices(source, scale=method.scale)


def _judged(source: Source, config: Config) -> Patches:
    """Return the dataset, clear scenes under simulated clouds: validation needs a task."""
    patches = read_source(source, config)
    if isinstance(source, Sen12MsCrSource | SlicesSource):
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
    hints: Hints | None = None,
) -> None:
    """Write a published checkpoint as a run folder.

    Args:
        format: a key of `published.FORMATS`.
        checkpoint: .pth, .pt or .safetensors.
        run: the folder to write.
        optical: names of the optical bands; empty: all thirteen, or B04, B03, B02 where there are three;
            gray for slices.
        radar: names of the radar bands; empty: VV, VH, or VV where there is one.
        hints: what the checkpoint does not say.

    Raises:
        InputError: if the checkpoint is not of that format, or names or hints do not fit it.
    """
    found = read_checkpoint(checkpoint, format, hints)
    named = {key: names for key, names in (("optical", optical), ("radar", radar)) if names}
    values = {"network": found.network, "method": {**found.method, **named}, "data": {"train": ()}}
    config = parse(Config, values, where=str(checkpoint))
    method = build_method(config)
    method.network.load_state_dict(found.weights)
    card = (
        f"# {run.name}\n\nImported from `{checkpoint.name}` (layout `{format}`), a published checkpoint. "
        "pellucid does not know what it was trained on and has measured nothing; "
        f"`pellucid evaluate {run.name} --data ...` does.\n"
    )
    save_run(run, config=config, method=method, card=card)
