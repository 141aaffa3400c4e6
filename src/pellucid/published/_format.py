"""The description of a published format: our network, its sizes, and where its weights go."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.published._hints import Hints
from pellucid.published._rename import Rule, from_published

Weights: TypeAlias = Mapping[str, Tensor]
Entry: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """How one network's weights are published.

    Attributes:
        network: our module that computes the same.
        sizes: (weights, hints) -> arguments of the network's `Config`. A KeyError names a missing tensor, a
            ValueError gives any other reason.
        prefix: of the keys of the network's weights.
        rules: (sizes) -> where each published tensor goes; None: the published names are ours.
        constants: values of our tensors that checkpoints do not hold.
    """

    network: ModuleType
    sizes: Callable[[Weights, Hints], Entry]
    prefix: str = ""
    rules: Callable[..., Iterable[Rule]] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)

    def convert(self, weights: Weights, hints: Hints) -> tuple[Any, nn.Module, dict[str, Tensor]]:
        """Return the config, the network on the meta device, and its weights, which may yet not fit it.

        A KeyError names a missing tensor; a ValueError says why the sizes do not fit together.
        """
        config = self.network.Config(**self.sizes(weights, hints))
        with torch.device("meta"):
            network: nn.Module = self.network.build(config)
        state = from_published(weights, self.rules(**asdict(config)) if self.rules else ())
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        return config, network, {k: torch.full(shapes[k], v) for k, v in self.constants.items()} | state


@dataclass(frozen=True, kw_only=True)
class Format(Layout):
    """How one system publishes its weights.

    Attributes:
        method: (config's `network` entry, tensors that are not weights of the network, hints) -> config's
            `method` entry. A ValueError gives the reason if there is none.
        computed: last parts of the keys of buffers that our network computes itself.
        unused: prefixes of weights that the published code never uses.
        hints: fields of `Hints` that the format uses.
        parts: autoencoder and text encoder in the same file, by the prefix of their weights in a run.
    """

    method: Callable[[Entry, Weights, Hints], Entry]
    computed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    parts: Mapping[str, Layout] = field(default_factory=dict)


def regression(network: Entry, _rest: Weights, _hints: Hints) -> Entry:
    """Return the `method` entry of a network that restores Sentinel-2 with Sentinel-1."""
    optical, radar = optical_names(network["optical_bands"]), SENTINEL1.bands[: network["radar_bands"]]
    return {"name": "regression", "optical": optical, "radar": radar}


def optical_names(number: int) -> tuple[str, ...]:
    """Return the usual names of so many optical bands; none if there are no usual ones."""
    return {13: SENTINEL2.bands, 3: ("B04", "B03", "B02")}.get(number, ())
