"""Config -> what a generative method needs besides its network: its spaces, text encoder and prior."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pellucid.build import pretrained
from pellucid.build.pretrained import is_pretrained
from pellucid.build.run import AUTOENCODERS, PRIOR, TEXT, Metadata, check_tokenizer, part_of, read_run
from pellucid.build.weights_file import match
from pellucid.data.ranges import PICTURE, ValueRange
from pellucid.data.run_folder import find_run
from pellucid.data.schema import parse
from pellucid.data.tokenizer import Tokenizer, read_tokenizer
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.generative import GenerativeConfig
from pellucid.methods.space import Latents, Pixels, Texts
from pellucid.networks import _color_prior, autoencoder, text_encoder
from pellucid.networks._color_prior import ColorPrior


@dataclass(frozen=True)
class Spaces:
    """The spaces in which the network works: pixels, or the latents of an autoencoder."""

    optical: Pixels | Latents
    sar: Pixels | Latents


@dataclass(frozen=True)
class Parts:
    """The other networks of a saved run: entries as in `Metadata`, and all its weights."""

    autoencoders: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    text: Mapping[str, Any] | None = None
    tokenizer: Tokenizer | None = None
    prior: Mapping[str, Any] | None = None


def read_parts(folder: Path, state: Mapping[str, Tensor], metadata: Metadata) -> Parts:
    """Return the parts of the run in a folder, of which `read_run` gave weights and metadata."""
    tokenizer = None if metadata.tokenizer is None else check_tokenizer(folder, metadata)
    return Parts(metadata.autoencoders, state, metadata.text, tokenizer, metadata.prior)


def read_spaces(
    options: GenerativeConfig, optical: ValueRange, radar: ValueRange, parts: Parts | None = None
) -> Spaces:
    """Return the spaces that the config names; an autoencoder that `parts` lack is read from its own run."""
    parts, named = parts or Parts(), options.space
    first = _space("optical", named.optical, optical, parts)
    shared = first.coder if isinstance(first, Latents) and named.sar == named.optical else None
    spaces = Spaces(first, _space("sar", named.sar, radar, parts, shared))
    if radar.bands and spaces.sar.factor != spaces.optical.factor:
        raise InputError(
            f"the images become {spaces.optical.factor} times smaller, the radar {spaces.sar.factor} times; "
            "name autoencoders that reduce alike in method.space.optical and method.space.sar"
        )
    return spaces


def read_texts(options: GenerativeConfig, parts: Parts | None = None) -> Texts | None:
    """Return the text encoder that the config names, with its tokenizer; None if it names none.

    It is read from its own run if `parts` lack it.
    """
    if not options.text:
        return None
    try:
        if parts is not None and parts.text is not None and parts.tokenizer is not None:
            return Texts(_text_encoder(parts.text, part_of(parts.state, TEXT)), parts.tokenizer)
        return _texts_of(options.text)
    except InputError as error:
        raise InputError(f"method.text: {error}") from error


def read_prior(options: GenerativeConfig, parts: Parts | None = None) -> ColorPrior | None:
    """Return what predicts the broad colours; None if the config names nothing.

    It is read from the run that is named if `parts` lack it.
    """
    if not options.prior:
        return None
    if parts is not None and parts.prior is not None:
        return _prior(parts.prior, part_of(parts.state, PRIOR))
    _, state, metadata = read_run(find_run(options.prior))
    if metadata.prior is None:
        raise InputError(
            f"method.prior: {options.prior} predicts no broad colours; name a run that does, as sar_color"
        )
    return _prior(metadata.prior, part_of(state, PRIOR))


def _prior(entry: Mapping[str, Any], state: Mapping[str, Tensor]) -> ColorPrior:
    values = {key: value for key, value in entry.items() if key != "name"}
    found: ColorPrior = _load(_color_prior, parse(_color_prior.Config, values, where="prior"), state)
    return found


def _texts_of(source: str) -> Texts:
    """Return the text encoder of a run, or of a folder of transformers, with its tokenizer."""
    if is_pretrained(Path(source)):
        found, weights = pretrained.read_text_encoder(Path(source))
        return Texts(_text_encoder(asdict(found), weights), read_tokenizer(Path(source), length=found.length))
    folder = find_run(source)
    config, state, metadata = read_run(folder)
    entry = metadata.text or config.network
    if metadata.text:
        state = part_of(state, TEXT)
    elif entry.get("name") != "text_encoder":
        raise InputError(f"{source} is for the method {config.method.name}, no text encoder; name one")
    return Texts(_text_encoder(entry, state), check_tokenizer(folder, metadata))


def _text_encoder(entry: Mapping[str, Any], state: Mapping[str, Tensor]) -> text_encoder.TextEncoder:
    """Return the text encoder, without the image encoder of its training."""
    values = {key: value for key, value in entry.items() if key != "name"}
    config = replace(parse(text_encoder.Config, values, where="network"), bands=0)
    weights = {name: value for name, value in state.items() if name.startswith("text.")}
    return _load(text_encoder, config, weights)


def _space(
    kind: str, run: str, images: ValueRange, parts: Parts, coder: Autoencoding | None = None
) -> Pixels | Latents:
    """Return the space of images; `coder` is an autoencoder that is there already."""
    if not run:
        return Pixels(len(images.bands))
    try:
        if coder is None and kind in parts.autoencoders:
            weights = part_of(parts.state, f"{AUTOENCODERS}{kind}.")
            coder = _saved(parts.autoencoders[kind], weights, kind, images)
        elif coder is None:
            coder = read_autoencoder(run)
    except InputError as error:
        raise InputError(f"method.space.{kind}: {error}") from error
    found = coder.optical if coder.optical.bands else coder.radar
    if kind == "sar" and found == PICTURE and len(images.bands) == 1:
        return Latents(coder, copies=len(PICTURE.bands))
    if found != images:
        raise InputError(
            f"method.space.{kind}: the autoencoder {run} is for {_describe(found)}, the method's images are "
            f"{_describe(images)}; name an autoencoder that was trained on such"
        )
    return Latents(coder)


def read_autoencoder(run: str) -> Autoencoding:
    """Return an autoencoder to encode and decode with.

    Args:
        run: folder, or name of a model that ships: of an autoencoder, or of what works in the latents of one,
            whose own for optical images is taken; or a folder of diffusers, of pictures in colour.
    """
    if is_pretrained(Path(run)):
        found, weights = pretrained.read_autoencoder(Path(run))
        return _build(asdict(found), weights, Metadata(PICTURE, PICTURE.select(()), None))
    config, state, metadata = read_run(find_run(run))
    if entry := metadata.autoencoders.get("optical"):
        return _saved(entry, part_of(state, f"{AUTOENCODERS}optical."), "optical", metadata.optical)
    if not isinstance(config.method, AutoencodingConfig):
        raise InputError(f"{run} is a {config.method.name} model, a space needs an autoencoder; name another")
    return _build(config.network, state, metadata)


def _saved(entry: dict[str, Any], state: dict[str, Tensor], kind: str, images: ValueRange) -> Autoencoding:
    if entry["bands"] == len(PICTURE.bands) != len(images.bands):  # pictures, as which the radar is seen
        kind, images = "optical", PICTURE
    both = images.select(()), images
    optical, radar = both if kind == "sar" else reversed(both)
    return _build(entry, state, Metadata(optical, radar, None))


def _build(entry: dict[str, Any], state: dict[str, Tensor], metadata: Metadata) -> Autoencoding:
    bands = len(metadata.optical.bands or metadata.radar.bands)
    values = {"bands": bands, **{key: value for key, value in entry.items() if key != "name"}}
    if values["bands"] != bands:
        raise InputError(f"it is for {values['bands']} bands, its images have {bands}; name another")
    network = _load(autoencoder, parse(autoencoder.Config, values, where="network"), state)
    return Autoencoding(
        network, AutoencodingConfig(), optical=metadata.optical, radar=metadata.radar, losses={}
    )


def _load(module: Any, config: Any, state: Mapping[str, Tensor]) -> Any:
    """Return the network of a config with these weights; `module` is its file in networks/."""
    try:
        network = module.build(config)
    except ValueError as error:
        raise InputError(f"its config is wrong ({error}), save the run again") from error
    network.load_state_dict(match(state, network, "its weights", way_out="save the run again"))
    return network


def _describe(images: ValueRange) -> str:
    return f"{', '.join(images.bands)} from {images.low} to {images.high} {images.unit}"
