"""Training a part of a network: frozen weights, and low-rank additions to them (LoRA).

Hu et al. 2022, arXiv:2106.09685, with peft's layers.
"""

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import InputError

# Prefix of a pattern of weights that are trained in spite of an earlier pattern.
EXCEPT = "!"
# peft's names of the additions and of the layer to whose output they are added.
ADAPTER, BASE = "default", "base_layer"


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the weights whose names match the patterns.

    Args:
        network: weights that match no pattern stay as they are.
        patterns: `*` matches any part of a name; a pattern after `!` unfreezes its weights, and of several
            that match, the last counts.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.removeprefix(EXCEPT)) for name in names):
            raise InputError(
                f"train.freeze: no weight of the network is called {pattern!r}; "
                f"{_some(pattern.removeprefix(EXCEPT), names)}"
            )
    for name, weight in network.named_parameters():
        fitting = [each for each in patterns if fnmatchcase(name, each.removeprefix(EXCEPT))]
        if fitting:
            weight.requires_grad_(fitting[-1].startswith(EXCEPT))


def add_lora(network: nn.Module, rank: int, *, seed: int) -> None:
    """Add a product of two matrices, of `rank` from 1, to every linear layer that `freeze` has frozen.

    The first factors follow from `seed`; the second ones are initially 0.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(
            f"train.lora_rank is {rank}, which needs peft; install it (pip install 'pellucid[lora]'), or set "
            "it to 0"
        ) from error
    layers = [name for name, module in network.named_modules() if _takes_lora(module)]
    if not layers:
        raise InputError(
            f"train.lora_rank is {rank}, but no linear layer of the network is frozen; set train.freeze, for "
            "all weights to ['*'], or train.lora_rank to 0"
        )
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    options = LoraConfig(r=rank, lora_alpha=rank, target_modules="|".join(map(re.escape, layers)))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)  # peft draws from the global state
        inject_adapter_in_model(options, network)
    for weight in trained:  # which peft has frozen
        weight.requires_grad_(True)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the `state_dict` of the network with its low-rank additions, if any, merged into the weights."""
    layers: dict[str, Any] = {name: module for name, module in network.named_modules() if _has_lora(module)}
    state = {}
    for name, value in network.state_dict().items():
        layer = next((each for each in layers if name.startswith(f"{each}.")), None)
        if layer is None:
            state[name] = value
        elif name.startswith(f"{layer}.{BASE}."):
            state[f"{layer}.{name.removeprefix(f'{layer}.{BASE}.')}"] = value
    for name, module in layers.items():
        weight = state[f"{name}.weight"]
        state[f"{name}.weight"] = weight + module.get_delta_weight(ADAPTER).detach().to(weight)
    return state


def _takes_lora(module: nn.Module) -> bool:
    """Return whether it is a frozen linear layer; those inside torch's attention are never called."""
    return type(module) is nn.Linear and not module.weight.requires_grad


def _has_lora(module: nn.Module) -> bool:
    return hasattr(module, BASE) and hasattr(module, "get_delta_weight")


def _some(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"the first is {known[0]!r}, the last {known[-1]!r}"
