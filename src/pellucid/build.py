"""Config -> objects; the only file that sees every layer."""

import importlib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.utils.data import Dataset

from pellucid.bookkeeping import TrainReport
from pellucid.config import (
    AutoencodingConfig,
    Config,
    ContrastiveConfig,
    GenerativeConfig,
    MethodConfig,
    PathConfig,
    RegressionConfig,
    parse,
)
from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE, ValueRange
from pellucid.epochs import in_steps
from pellucid.errors import InputError
from pellucid.generative.path import RectifiedFlow, VariancePreserving, beta_schedule
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.contrastive import Contrastive
from pellucid.methods.generative import DENOISE, Generative, Learning
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression
from pellucid.methods.sampling import Sampling
from pellucid.methods.space import Latents
from pellucid.methods.texts import Texts
from pellucid.networks.autoencoder import Autoencoder
from pellucid.published import read_checkpoint
from pellucid.published_formats import Hints
from pellucid.run import WEIGHTS, Metadata, find_run, part_of, read_run, save_run, shipped_runs
from pellucid.sources import build_training_data, keep_encoded
from pellucid.spaces import Parts, Spaces, read_parts, read_spaces, read_texts
from pellucid.starting import load_weights, prepare_network
from pellucid.terms import Loss, build_losses
from pellucid.text_training import build_contrastive
from pellucid.trainer import choose_device, train

AnyMethod: TypeAlias = Regression | Generative | Autoencoding | Contrastive
NETWORKS = Path(__file__).parent / "networks"
# Training samples by which the latents of an autoencoder are measured.
NUM_MEASURED = 128


def build_network(config: Config, spaces: Spaces | None = None, texts: Texts | None = None) -> nn.Module:
    """Return the network that `config.network` names, with random weights.

    Args:
        config: of the run.
        spaces: of a generative method; None reads those that the config names.
        texts: that the network is told; None: none.

    Raises:
        InputError: if there is no such network, or a key or size does not fit it.
    """
    values = dict(config.network)
    name = values.pop("name", None)
    if name not in known_networks():
        raise InputError(f"network.name is {name!r}, known networks are {', '.join(known_networks())}")
    module = importlib.import_module(f"pellucid.networks.{name}")
    for key, (count, reason) in _channels(config.method, spaces, texts).items():
        if key not in module.Config.__dataclass_fields__:
            continue
        if values.setdefault(key, count) != count:
            raise InputError(f"network.{key} is {values[key]}, but {reason}")
    try:
        return module.build(parse(module.Config, values, where="network"))
    except ValueError as error:
        raise InputError(f"network: {error}") from error


def _channels(method: MethodConfig, spaces: Spaces | None, texts: Texts | None) -> dict[str, tuple[int, str]]:
    """Return how many channels the network has, by the keys of its config, and why."""

    def named(names: tuple[str, ...]) -> tuple[int, str]:
        return len(names), f"the method names {', '.join(names) or 'none'}"

    optical, radar = named(method.optical), named(method.radar)
    counts = {"bands": named(method.optical or method.radar), "optical_bands": optical, "radar_bands": radar}
    if not isinstance(method, GenerativeConfig):
        return counts
    spaces = spaces or read_spaces(method, *_ranges(method))
    optical, radar = (
        (space.channels, f"the autoencoder has {space.channels}") if isinstance(space, Latents) else count
        for space, count in ((spaces.optical, optical), (spaces.sar, radar))
    )
    counts |= {"bands": optical, "latent_channels": optical, "sar_channels": radar}
    if texts is None:
        return {**counts, "text_channels": (0, "method.text names no text encoder")}
    width = texts.width, f"the tokens of the text encoder have {texts.width}"
    return {**counts, "text_channels": width, "context_dim": width}


def known_networks() -> tuple[str, ...]:
    """Return the names that `network.name` may have: the files in networks/."""
    return tuple(sorted(path.stem for path in NETWORKS.glob("[a-z]*.py") if path.stem != "blocks"))


def build_method(config: Config, metadata: Metadata | None = None, parts: Parts | None = None) -> AnyMethod:
    """Return the method, with random weights but for those of its autoencoders and text encoder.

    Args:
        config: of the run.
        metadata: value ranges and mean spectrum of a saved run, which will not be trained, so that its
            losses are left out; None: the sensors' ranges, mean unknown.
        parts: autoencoders and text encoder of a saved run; else they are read from the runs that the config
            names.

    Raises:
        InputError: if the config's parts do not fit together, or an autoencoder or text encoder is missing.
    """
    optical, radar = (metadata.optical, metadata.radar) if metadata else _ranges(config.method)
    if isinstance(config.method, ContrastiveConfig):
        return build_contrastive(config, optical, parts.tokenizer if parts else None)
    losses = {} if metadata else build_losses(config)
    match config.method:
        case GenerativeConfig() as options:
            return _build_generative(config, options, (optical, radar), losses, parts)
        case RegressionConfig() as options:
            return Regression(
                _draw_network(config),
                optical=optical,
                radar=radar,
                losses=_terms(losses),
                residual=options.residual,
                radar_optional=options.radar_optional,
                caution=options.caution,
                mean_spectrum=metadata.mean_spectrum if metadata else None,
            )
        case AutoencodingConfig() as options:
            return Autoencoding(
                _as_autoencoder(_draw_network(config), config),
                optical=optical,
                radar=radar,
                losses=_terms(losses),
                kl_weight=options.kl_weight,
                sample=options.sample,
                smooth=options.smooth,
            )


def _build_generative(
    config: Config,
    options: GenerativeConfig,
    ranges: tuple[ValueRange, ValueRange],
    losses: dict[str, tuple[float, Loss | None]],
    parts: Parts | None,
) -> Generative:
    """Return a generative method; `ranges` are of the images and of the radar."""
    optical, radar = ranges
    spaces, texts = read_spaces(options, optical, radar, parts), read_texts(options, parts)
    return Generative(
        _draw_network(config, spaces, texts),
        path=build_path(options.path, options.prediction),
        optical=optical,
        radar=radar,
        losses=losses,
        scale=options.scale,
        sampling=_sampling(options),
        learning=_learning(options, config),
        space=spaces.optical,
        sar_space=spaces.sar,
        radar_optional=options.radar_optional,
        start_noise=options.start_noise if options.start == "degraded" else None,
        residual=options.residual,
        texts=texts,
    )


def _draw_network(config: Config, spaces: Spaces | None = None, texts: Texts | None = None) -> nn.Module:
    """Return the network with the random weights of the run's seed."""
    torch.manual_seed(config.train.seed)  # the libraries' layers draw their weights from the global state
    return build_network(config, spaces, texts)


def _sampling(options: GenerativeConfig) -> Sampling:
    if options.start == "degraded" and (options.path.name != "rectified_flow" or options.eta):
        raise InputError(
            f"method.start is degraded, which needs the path rectified_flow and eta 0, found "
            f"{options.path.name} and {options.eta:g}; change them, or start from noise"
        )
    return Sampling(options.steps, options.eta, options.solver, options.guidance, options.strength)


def _learning(options: GenerativeConfig, config: Config) -> Learning:
    if options.importance and options.times != "even":
        raise InputError(f"method.importance is {options.importance:g}, which needs even times; set it to 0")
    others = [name for name, weight in config.losses.items() if weight and name != DENOISE]
    if config.data.num_cached and others:
        raise InputError(
            f"data.num_cached is {config.data.num_cached}, but encoded samples have no images for the loss "
            f"{', '.join(others)}; train with losses.denoise alone, or set num_cached to 0"
        )
    return Learning(
        importance=options.importance,
        times=options.times,
        drop_condition=options.drop_condition,
        dropped=options.dropped,
        cloud_weight=options.cloud_weight,
    )


def _terms(losses: dict[str, tuple[float, Loss | None]]) -> dict[str, tuple[float, Loss]]:
    """Return the terms that compare images: all that there are but for a generative method."""
    return {name: (weight, term) for name, (weight, term) in losses.items() if term}


def _as_autoencoder(network: nn.Module, config: Config) -> Autoencoder:
    if not isinstance(network, Autoencoder):
        raise InputError(
            f"network.name is {config.network['name']!r}, which does not encode; method autoencoding needs "
            "'autoencoder'"
        )
    return network


def build_path(
    options: PathConfig, prediction: Literal["noise", "image", "velocity"]
) -> RectifiedFlow | VariancePreserving:
    """Return the way from the image to the noise.

    Raises:
        InputError: if the prediction or a number does not fit it.
    """
    try:
        if options.name == "rectified_flow":
            for key, usual in (("tells", "level"), ("spacing", "even")):
                if (found := getattr(options, key)) != usual:
                    raise ValueError(f"{key} is {found}, which is for variance_preserving; leave it out")
            return RectifiedFlow(prediction=prediction, shift=options.shift)
        if options.shift:
            raise ValueError(f"shift is {options.shift}, which is for rectified_flow; leave it out")
        betas = beta_schedule(
            options.schedule,
            options.num_steps,
            linear_start=options.linear_start,
            linear_end=options.linear_end,
        )
        return VariancePreserving(betas, prediction=prediction, tells=options.tells, spacing=options.spacing)
    except ValueError as error:
        raise InputError(f"method.path: {error}") from error


def _ranges(method: MethodConfig) -> tuple[ValueRange, ValueRange]:
    if isinstance(method, AutoencodingConfig) and bool(method.optical) == bool(method.radar):
        found = "both" if method.optical else "neither"
        raise InputError(f"method: an autoencoder is of optical bands or of radar, found {found}; name one")
    known = next((each for each in (SLICE, PICTURE) if set(method.optical) <= set(each.bands)), SENTINEL2)
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
    folder = find_run(run_or_name)
    config, state, metadata = read_run(folder)
    method = build_method(config, metadata, read_parts(folder, state, metadata))
    load_weights(method.network, part_of(state), run_or_name)
    method.mean_spectrum, method.mean_colors = metadata.mean_spectrum, metadata.mean_colors
    method.network.to(choose_device(device)).eval()
    return method


def start_method(config: Config, resumed: Path | None = None) -> AnyMethod:
    """Return the method that training starts with: random weights, or those of `train.init_from`.

    Args:
        config: of the run.
        resumed: folder of the run that goes on; the autoencoders and texts that it has saved
            stay what they are.

    Raises:
        InputError: if those weights, or what is frozen, do not fit the network of the config.
    """
    parts = None
    if resumed is not None and (resumed / WEIGHTS).is_file():
        _, state, metadata = read_run(resumed)
        parts = read_parts(resumed, state, metadata)
    method = build_method(config, parts=parts)
    prepare_network(method.network, config.train)
    return method


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
    config = in_steps(config)
    method = start_method(config, folder if resume else None)
    data = build_training_data(config)
    method.mean_spectrum, method.mean_colors = data.mean_spectrum, data.mean_colors
    samples: Dataset[Batch] = data.stream
    if config.data.num_cached and not dry_run:
        samples = keep_encoded(config, method, data.stream)

    def save(*, card: str, metrics: dict[str, Any]) -> None:
        if isinstance(method, Autoencoding):
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
        dry_run=dry_run,
        command=command,
    )


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
            gray for slices; none where an autoencoder has two bands or `radar` is given for it.
        radar: names of the radar bands; empty: VV, VH, or VV where there is one.
        hints: what the checkpoint does not say.

    Raises:
        InputError: if the checkpoint is not of that format, or names or hints do not fit it.
    """
    found = read_checkpoint(checkpoint, format, hints)
    named = {key: names for key, names in (("optical", optical), ("radar", radar)) if names}
    method_values = {**found.method, **named}
    if found.method["name"] == "autoencoding" and named:
        method_values = {"name": "autoencoding", **named}  # of one kind of images, which is not to be guessed
    values = {"network": found.network, "method": method_values, "data": {"train": ()}}
    config = parse(Config, values, where=str(checkpoint))
    method = build_method(config, parts=found.parts)
    method.network.load_state_dict(found.weights)
    card = (
        f"# {run.name}\n\nImported from `{checkpoint.name}` (layout `{format}`), a published checkpoint. "
        "pellucid does not know what it was trained on and has measured nothing; "
        f"`pellucid evaluate {run.name} --data ...` does.\n"
    )
    save_run(run, config=config, method=method, card=card)
