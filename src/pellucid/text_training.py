"""Config -> the method of a text encoder, with the tokenizer for the texts of its training data."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from pellucid.config import Config, ContrastiveConfig, parse
from pellucid.data.augment import Selected
from pellucid.data.default_vocabulary import default_tokenizer
from pellucid.data.ranges import ValueRange
from pellucid.data.sar_optical import SarOptical
from pellucid.data.tokenizer import Tokenizer, learn_tokenizer, read_tokenizer
from pellucid.errors import InputError
from pellucid.methods.contrastive import Contrastive
from pellucid.networks import text_encoder
from pellucid.networks.text_encoder import TextEncoder
from pellucid.sources import read_source

NETWORK = "text_encoder"
# What `method.tokenizer` names beside files and folders.
DEFAULT = "default"


def build_contrastive(config: Config, optical: ValueRange, tokenizer: Tokenizer | None = None) -> Contrastive:
    """Return the method of a text encoder, with random weights.

    Args:
        config: of the run.
        optical: bands and value range of the images.
        tokenizer: of a saved run; None: the one that the config names.

    Raises:
        InputError: if the config's parts do not fit together, or its tokenizer cannot be read.
    """
    if named := [name for name, weight in config.losses.items() if weight]:
        raise InputError(
            f"losses.{named[0]} compares images, of which a text encoder makes none; leave it out"
        )
    tokenizer = tokenizer or choose_tokenizer(config)
    network = build_text_encoder(config, tokenizer)
    return Contrastive(network, tokenizer, optical=optical)


def choose_tokenizer(config: Config) -> Tokenizer:
    """Return the tokenizer that the config of a contrastive method names, of the network's length.

    Raises:
        InputError: if it cannot be read, or the network's vocabulary or length is too small for the prompts.
    """
    options, sizes = _options(config), _sizes(config)
    if options.tokenizer == DEFAULT:
        return default_tokenizer(length=sizes.length)
    if options.tokenizer:
        return read_tokenizer(Path(options.tokenizer), length=sizes.length)
    return learn_tokenizer(training_prompts(config), size=sizes.vocab_size, length=sizes.length)


def training_prompts(config: Config) -> list[str]:
    """Return the text of every training sample.

    Raises:
        InputError: if a source has none, or cannot be read.
    """
    prompts: list[str] = []
    for source in config.data.train:
        pairs = cast("SarOptical", read_source(source, config))
        prompts += (pairs.prompts[at] for at in Selected(pairs, without=config.data.hold_out).indices)
    return prompts


def build_text_encoder(config: Config, tokenizer: Tokenizer) -> TextEncoder:
    """Return the network of a contrastive method, with random weights; it reads a text where that ends.

    Raises:
        InputError: if a size does not fit the method or the tokenizer.
    """
    bands, end_id = len(_options(config).optical), tokenizer.end_id
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
        return text_encoder.build(replace(_sizes(config), bands=bands, end_id=end_id))
    except ValueError as error:
        raise InputError(f"network: {error}") from error


def _options(config: Config) -> ContrastiveConfig:
    if not isinstance(config.method, ContrastiveConfig):
        raise TypeError(f"the method is {config.method.name}, only contrastive learns texts")
    return config.method


def _sizes(config: Config) -> text_encoder.Config:
    values: dict[str, Any] = dict(config.network)
    if (name := values.pop("name", None)) != NETWORK:
        raise InputError(
            f"network.name is {name!r}, which reads no texts; method contrastive needs {NETWORK!r}"
        )
    return parse(text_encoder.Config, values, where="network")
