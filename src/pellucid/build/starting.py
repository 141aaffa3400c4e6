"""What training starts from: weights of another model, and which of the network's weights are trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.build.fine_tuning import add_lora, freeze
from pellucid.build.pretrained import is_pretrained, read_autoencoder, read_text_encoder, read_unet
from pellucid.build.run import part_of, read_run
from pellucid.build.weights_file import match
from pellucid.config import TrainConfig
from pellucid.data.run_folder import find_run
from pellucid.errors import InputError
from pellucid.networks.autoencoder import Autoencoder
from pellucid.networks.sr3_unet import Sr3Unet
from pellucid.networks.text_encoder import TextEncoder
from pellucid.networks.text_unet import INPUT, TextUNet, widen_input

State: TypeAlias = dict[str, Tensor]

# How published weights of a network are read, and the keys of its config in which they may differ: parts that
# are new in ours, or do not change the result.
PUBLISHED: dict[type[nn.Module], tuple[Callable[[Path], tuple[Any, State]], tuple[str, ...]]] = {
    TextUNet: (read_unet, ("sar_channels", "dropout", "checkpointing")),
    Autoencoder: (read_autoencoder, ("checkpointing",)),
    TextEncoder: (read_text_encoder, ("bands", "image_width", "features", "dropout")),
}
# Properties that are compared in place of keys whose values can be written in several ways.
MEANINGS = {"num_heads": "heads", "attention_resolutions": "attends"}


def prepare_network(network: nn.Module, options: TrainConfig) -> None:
    """Load the weights that training starts from, and freeze those that it does not change."""
    if options.init_from:
        load_start(network, options.init_from)
    freeze(network, options.freeze)
    if options.lora_rank:
        add_lora(network, options.lora_rank, seed=options.seed)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise InputError(
            "train.freeze names every weight of the network, so that there is nothing to train; leave some "
            "out, or set train.lora_rank"
        )


def load_start(network: nn.Module, source: str) -> None:
    """Load the weights of a run, of a model that ships, or of a folder of diffusers or transformers.

    What the weights lack of ours has no influence at first: input channels of a `text_unet`, the
    cross-attention of a `sr3_unet`. The image encoder of a `text_encoder`, if the weights have none, keeps
    random ones.
    """
    if is_pretrained(Path(source)):
        state = _pretrained(network, Path(source))
    else:
        state = part_of(read_run(find_run(source))[1])
    load_weights(network, _with_attention(network, _widened(network, state)), source)


def _with_attention(network: nn.Module, state: State) -> State:
    """Return the weights with those of the network's cross-attention, of which they have none.

    What it adds is multiplied by 0 at first.
    """
    if not isinstance(network, Sr3Unet):
        return state
    own = network.state_dict()
    new = [key for key in own if key.startswith("condition_encoder.") or ".cross_attn." in key]
    if any(key in state for key in new):
        return state
    outputs = (".cross_attn.out.weight", ".cross_attn.out.bias")
    return {
        **state,
        **{key: torch.zeros_like(own[key]) if key.endswith(outputs) else own[key] for key in new},
    }


def load_weights(network: nn.Module, state: State, source: str | Path) -> None:
    """Load the weights of `source`, which must fit the network."""
    where = f"the weights of {source} do not fit the network of the config"
    way_out = "set its sizes to those of the weights, or name other weights"
    network.load_state_dict(match(state, network, where, way_out=way_out))


def _pretrained(network: nn.Module, folder: Path) -> State:
    """Return weights for the network from a published folder; the network's own where it has none."""
    if type(network) not in PUBLISHED:
        raise InputError(
            f"train.init_from: {folder} is a folder of diffusers or transformers, which only the networks "
            "text_unet, autoencoder and text_encoder can start from; name a run"
        )
    read, free = PUBLISHED[type(network)]
    config, state = read(folder)
    _check_sizes(network, config, folder, free)
    return {**network.state_dict(), **state} if isinstance(network, TextEncoder) else state


def _check_sizes(network: Any, found: Any, folder: Path, free: tuple[str, ...]) -> None:
    for key, value in vars(found).items():
        if key not in free and _meaning(network.config, key) != _meaning(found, key):
            ours = f"network.{key} is {getattr(network.config, key)!r}"
            raise InputError(f"{ours}, but the weights in {folder} have {value!r}; set it so")


def _meaning(config: Any, key: str) -> Any:
    """Return the value of a key in a form that is the same however it was written."""
    return getattr(config, MEANINGS.get(key, key), getattr(config, key))


def _widened(network: nn.Module, state: State) -> State:
    """Return the weights with zeros for input channels that the network has and they lack."""
    if not isinstance(network, TextUNet) or INPUT not in state:
        return state
    channels = network.config.sar_channels + network.config.latent_channels
    return widen_input(state, channels) if state[INPUT].shape[1] < channels else state
