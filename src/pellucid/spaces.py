"""Config -> spaces: the pixels, or the autoencoders' latents, that a generative method works on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pellucid.config import AutoencodingConfig, GenerativeConfig, parse
from pellucid.data.ranges import ValueRange
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.space import Latents, Pixels
from pellucid.networks import autoencoder
from pellucid.run import Metadata, find_run, part_of, read_run


@dataclass(frozen=True)
class Spaces:
    """The forms in which a network sees optical images and radar."""

    optical: Pixels | Latents
    sar: Pixels | Latents


@dataclass(frozen=True)
class Parts:
    """What a saved run holds of its autoencoders.

    Attributes:
        autoencoders: the config's `network` entry of each, by what it encodes.
        state: all weights of the run.
    """

    autoencoders: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


def read_spaces(
    options: GenerativeConfig, optical: ValueRange, radar: ValueRange, parts: Parts | None = None
) -> Spaces:
    """Return the spaces that the config names.

    Args:
        options: of the method.
        optical: bands and value range of the images.
        radar: polarisations and value range of the backscatter.
        parts: of a saved run; an autoencoder that it lacks is read from the run that the config names.

    Raises:
        InputError: if an autoencoder is missing or of something else, or they do not fit together.
    """
    parts, named = parts or Parts(), options.space
    spaces = Spaces(
        optical=_space("optical", named.optical, optical, parts),
        sar=_space("sar", named.sar, radar, parts),
    )
    if options.residual and named.optical:
        raise InputError(
            f"method.residual is {options.residual:g}, which is for pixels; "
            "set it to 0, or leave method.space.optical out"
        )
    if radar.bands and spaces.sar.factor != spaces.optical.factor:
        raise InputError(
            f"the images become {spaces.optical.factor} times smaller, the radar {spaces.sar.factor} times; "
            "name autoencoders that reduce alike in method.space.optical and method.space.sar"
        )
    return spaces


def _space(kind: str, run: str, images: ValueRange, parts: Parts) -> Pixels | Latents:
    if not run:
        return Pixels(len(images.bands))
    try:
        if kind in parts.autoencoders:
            coder = _saved(parts.autoencoders[kind], part_of(parts.state, kind), kind, images)
        else:
            coder = read_autoencoder(run)
    except InputError as error:
        raise InputError(f"method.space.{kind}: {error}") from error
    found = coder.optical if coder.optical.bands else coder.radar
    if found != images:
        raise InputError(
            f"method.space.{kind}: the autoencoder {run} is for {_describe(found)}, the method's images are "
            f"{_describe(images)}; name an autoencoder that was trained on such"
        )
    return Latents(coder)


def read_autoencoder(run: str) -> Autoencoding:
    """Return the autoencoder of a run folder, or of a model that ships, to encode and decode with.

    Raises:
        InputError: if there is no such run, or it is none of an autoencoder.
    """
    config, state, metadata = read_run(find_run(run))
    if not isinstance(config.method, AutoencodingConfig):
        raise InputError(f"{run} is a {config.method.name} model, a space needs an autoencoder; name another")
    return _build(config.network, state, metadata)


def _saved(entry: dict[str, Any], state: dict[str, Tensor], kind: str, images: ValueRange) -> Autoencoding:
    both = images.select(()), images
    optical, radar = both if kind == "sar" else reversed(both)
    return _build(entry, state, Metadata(optical, radar, None))


def _build(entry: dict[str, Any], state: dict[str, Tensor], metadata: Metadata) -> Autoencoding:
    bands = len(metadata.optical.bands or metadata.radar.bands)
    values = {"bands": bands, **{key: value for key, value in entry.items() if key != "name"}}
    try:
        network = autoencoder.build(parse(autoencoder.Config, values, where="network"))
        network.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"its weights do not fit its config ({reason}), save the run again") from error
    return Autoencoding(network, optical=metadata.optical, radar=metadata.radar, losses={})


def _describe(images: ValueRange) -> str:
    return f"{', '.join(images.bands)} from {images.low} to {images.high} {images.unit}"
