"""Config -> objects; the only file that sees every layer."""

import importlib
import pkgutil
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from pellucid import networks
from pellucid.build.parts import Parts, Spaces, read_parts, read_prior, read_spaces, read_texts
from pellucid.build.run import TIMES, Metadata, part_of, read_run
from pellucid.build.starting import load_weights
from pellucid.build.weights_file import load_lpips, load_vgg19, match
from pellucid.config import Config, MethodConfig
from pellucid.data.digests import digest_weights_file
from pellucid.data.ranges import PICTURE, SENTINEL1, SENTINEL2, SLICE, ValueRange
from pellucid.data.run_folder import WEIGHTS, find_run
from pellucid.data.schema import parse
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import InputError, nearest
from pellucid.losses._shelf import Loss, Needs, build_term
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.contrastive import Contrastive, ContrastiveConfig
from pellucid.methods.generative import DENOISE, Generative, GenerativeConfig
from pellucid.methods.ground import Ground, GroundConfig
from pellucid.methods.inference import choose_device
from pellucid.methods.method import Method
from pellucid.methods.regression import Regression, RegressionConfig
from pellucid.methods.space import Latents, Texts
from pellucid.methods.tones import Tones
from pellucid.networks import text_encoder
from pellucid.networks.autoencoder import Autoencoder
from pellucid.networks.ground import GroundNet
from pellucid.networks.text_encoder import TextEncoder

Losses: TypeAlias = dict[str, tuple[float, Loss | None]]

NETWORK = "text_encoder"
PERCEPTUAL = "perceptual"
# A variable of the environment in a config, which is not set.
UNSET = re.compile(r"\$\{(\w+)\}")


def build_network(config: Config, spaces: Spaces | None = None, texts: Texts | None = None) -> nn.Module:
    """Return the network that `config.network` names, with random weights.

    The spaces of a generative method are read where they are not given; `texts` condition it.
    """
    values = dict(config.network)
    name = values.pop("name", None)
    if name not in known_networks():
        raise InputError(f"network.name is {name!r}{nearest(str(name), [*known_networks()])}")
    module = importlib.import_module(f"pellucid.networks.{name}")
    for key, (count, reason) in _channels(config.method, spaces, texts).items():
        if key in module.Config.__dataclass_fields__ and values.setdefault(key, count) != count:
            raise InputError(f"network.{key} is {values[key]}, but {reason}")
        if key in ("optical_bands", "radar_bands") and values.get(key) == 0:
            kind = key.partition("_")[0]
            raise InputError(f"method.{kind} names no band, and the network {name} needs one; name some")
    options = parse(module.Config, values, where="network")
    try:
        return module.build(options)
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
    names = (module.name for module in pkgutil.iter_modules(networks.__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def build_method(config: Config, metadata: Metadata | None = None, parts: Parts | None = None) -> Method:
    """Return the method, with random weights but for those of its autoencoders and text encoder.

    Args:
        config: of the run.
        metadata: value ranges and means of a saved run, which will not be trained, so that its losses are
            left out; None: the sensors' ranges, means unknown.
        parts: autoencoders and text encoder of a saved run; else they are read from the runs that the config
            names.
    """
    optical, radar = (metadata.optical, metadata.radar) if metadata else _ranges(config.method)
    losses = {} if metadata else build_losses(config)
    method: Method
    match config.method:
        case ContrastiveConfig():
            method = _build_contrastive(config, optical, parts)
        case GenerativeConfig() as options:
            spaces, texts = read_spaces(options, optical, radar, parts), read_texts(options, parts)
            method = Generative(
                _draw_network(config, spaces, texts),
                options,
                optical=optical,
                radar=radar,
                losses=losses,
                space=spaces.optical,
                sar_space=spaces.sar,
                texts=texts,
                prior=read_prior(options, parts),
            )
            if method.times.is_schedule and parts is not None and (state := part_of(parts.state, TIMES)):
                method.times.load_state_dict(
                    match(state, method.times, "its learned schedule", way_out="save the run again")
                )
        case RegressionConfig() as options:
            network = _draw_network(config)
            method = Regression(network, options, optical=optical, radar=radar, losses=_terms(losses))
        case GroundConfig() as options:
            method = _build_ground(config, options, optical, radar)
        case AutoencodingConfig() as options:
            coder = _draw_network(config)
            if not isinstance(coder, Autoencoder):
                raise InputError(
                    f"network.name is {config.network['name']!r}, which does not encode; method autoencoding "
                    "needs 'autoencoder'"
                )
            method = Autoencoding(coder, options, optical=optical, radar=radar, losses=_terms(losses))
    if metadata:
        method.mean_spectrum, method.mean_colors = metadata.mean_spectrum, metadata.mean_colors
        method.tones = Tones(metadata.tones) if metadata.tones else None
    return method


def _build_ground(config: Config, options: GroundConfig, optical: ValueRange, radar: ValueRange) -> Ground:
    if named := [name for name, weight in config.losses.items() if weight]:
        raise InputError(f"losses.{named[0]}: the method ground has losses of its own; leave it out")
    network = _draw_network(config)
    if not isinstance(network, GroundNet):
        raise InputError(
            f"network.name is {config.network['name']!r}, which solves for no ground; method ground needs "
            "'ground'"
        )
    return Ground(network, options, optical=optical, radar=radar)


def _draw_network(config: Config, spaces: Spaces | None = None, texts: Texts | None = None) -> nn.Module:
    """Return the network with the random weights of the run's seed."""
    torch.manual_seed(config.train.seed)  # the libraries' layers draw their weights from the global state
    return build_network(config, spaces, texts)


def _terms(losses: Losses) -> dict[str, tuple[float, Loss]]:
    """Return the terms that compare images: all that there are but for a generative method."""
    return {name: (weight, term) for name, (weight, term) in losses.items() if term}


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
    """
    folder = find_run(run_or_name)
    config, state, metadata = read_run(folder)
    method = build_method(config, metadata, read_parts(folder, state, metadata))
    load_weights(method.network, part_of(state), run_or_name)
    method.origin = folder.resolve().name, digest_weights_file(folder / WEIGHTS)
    method.network.to(choose_device(device)).eval()
    return method


def build_losses(config: Config) -> Losses:
    """Return weight and function of each loss term whose weight is not 0; `denoise` has no function."""
    method = config.method
    needs = Needs(
        bands=len(method.optical or method.radar),
        has_clouds=not isinstance(method, AutoencodingConfig),
        seed=config.train.seed,
        perceptual_weights=config.perceptual_weights,
        load_vgg=load_vgg19,
        lpips_weights=config.lpips_weights,
        load_lpips=load_lpips,
    )
    weights = {name: weight for name, weight in config.losses.items() if weight}
    if PERCEPTUAL in weights and (unset := UNSET.fullmatch(config.perceptual_weights)):
        del weights[PERCEPTUAL]
        warnings.warn(
            f"losses.{PERCEPTUAL} is left out, as the variable {unset[1]} is not set; let it name a file of "
            "VGG19's weights, or set perceptual_weights",
            stacklevel=2,
        )
    if DENOISE in weights and not isinstance(method, GenerativeConfig):
        raise InputError(f"losses.{DENOISE} is for generative methods, set it to 0 for {method.name}")
    terms = {name: None if name == DENOISE else build_term(name, needs) for name in weights}
    return {name: (weight, terms[name]) for name, weight in weights.items()}


def _build_contrastive(config: Config, optical: ValueRange, parts: Parts | None) -> Contrastive:
    if named := [name for name, weight in config.losses.items() if weight]:
        raise InputError(
            f"losses.{named[0]} compares images, of which a text encoder makes none; leave it out"
        )
    if parts is None or parts.tokenizer is None:
        raise ValueError("a text encoder needs the tokenizer of its texts, hand it in with parts")
    return Contrastive(build_text_encoder(config, parts.tokenizer), parts.tokenizer, optical=optical)


def build_text_encoder(config: Config, tokenizer: Tokenizer) -> TextEncoder:
    """Return the network of a contrastive method, with random weights; it reads a text where that ends."""
    bands, end_id = len(text_options(config).optical), tokenizer.end_id
    fixed = {
        "bands": (bands, "number of the method's bands"),
        "end_id": (end_id, "id that ends the tokenizer's texts"),
    }
    for key, (value, meaning) in fixed.items():
        if config.network.get(key, value) != value:
            raise InputError(
                f"network.{key} is {config.network[key]}, but the {meaning} is {value}; leave it out"
            )
    torch.manual_seed(config.train.seed)  # the libraries' layers draw their weights from the global state
    try:
        return text_encoder.build(replace(text_sizes(config), bands=bands, end_id=end_id))
    except ValueError as error:
        raise InputError(f"network: {error}") from error


def text_options(config: Config) -> ContrastiveConfig:
    """Return the options of a contrastive method."""
    if not isinstance(config.method, ContrastiveConfig):
        raise TypeError(f"the method is {config.method.name}, only contrastive learns texts")
    return config.method


def text_sizes(config: Config) -> text_encoder.Config:
    """Return the sizes of the text encoder that the config names."""
    values: dict[str, Any] = dict(config.network)
    if (name := values.pop("name", None)) != NETWORK:
        raise InputError(
            f"network.name is {name!r}, which reads no texts; method contrastive needs {NETWORK!r}"
        )
    return parse(text_encoder.Config, values, where="network")
