"""A method as one function of tensors, without files, samplers and choices, which ONNX can hold."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch, Condition
from pellucid.data.drawing import RGB
from pellucid.data.ranges import ValueRange
from pellucid.errors import InputError
from pellucid.methods.generative import Generative
from pellucid.methods.ground import Ground
from pellucid.methods.method import Method, result_range
from pellucid.methods.regression import Regression
from pellucid.methods.space import Pixels

# Side of the tiles of a preview in pixels of the input, and the seed of the noise that is kept in it.
PREVIEW_TILE, PREVIEW_SEED = 256, 0


@dataclass(frozen=True)
class Port:
    """A tensor that goes in, (B, C, k * unit * h, k * unit * w) for any h and w of all ports.

    `range` says what 0 and 1 mean in each channel; None: standard normal noise.
    """

    name: str
    channels: int
    unit: int
    range: ValueRange | None


@dataclass(frozen=True)
class Graph:
    """The module that is exported, and what it takes; `any_batch` says whether B may be other than 1."""

    module: nn.Module
    ports: tuple[Port, ...]
    scale: int
    any_batch: bool

    def example(self, size: tuple[int, int, int], seed: int = 0) -> dict[str, Tensor]:
        """Return random inputs by name, of a batch (if it may be any) and h and w units."""
        batch, h, w = size
        batch = batch if self.any_batch else 1
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for port in self.ports:
            shape = (batch, port.channels, port.unit * h, port.unit * w)
            draw = torch.randn if port.range is None else torch.rand
            found[port.name] = draw(shape, generator=generator)
        return found


def graph_of(method: Method) -> Graph:
    """Return the method as one function of tensors.

    Raises:
        InputError: if it is none.
    """
    if isinstance(method, Regression):
        ports = [Port("degraded", len(method.optical.bands), method.stride, method.optical)]
        if method.radar.bands:
            ports.append(Port("sar", len(method.radar.bands), method.stride, method.radar))
        return Graph(RegressionGraph(method), tuple(ports), 1, any_batch=True)
    if isinstance(method, Ground):
        raise InputError(
            "this model solves a regression for every scene as a whole, which ONNX cannot hold, and its "
            "tiles alone would differ; use pellucid remove-clouds, or pellucid.load in Python"
        )
    if not isinstance(method, Generative):
        raise InputError("this model restores no images, so there is nothing to export; choose another")
    _check_one_step(method)
    unit = max(1, method.stride // method.scale)
    bands = len(method.optical.bands)
    return Graph(
        OneStepGraph(method),
        (
            Port("degraded", bands, unit, method.optical),
            Port("noise", bands, unit * method.scale, None),
        ),
        method.scale,
        any_batch=False,  # the U-Net's attention is traced for one
    )


def _check_one_step(method: Generative) -> None:
    """Refuse a generative method that is more than one call of its network on pixels."""
    is_plain = isinstance(method.space, Pixels) and not method.radar.bands and not method.takes_text
    if not is_plain:
        raise InputError(
            "this model works in latents or with a text, in several networks, and ONNX would hold one of "
            "them; use pellucid.load in Python"
        )
    if method.sampling.num_calls != 1 or method.start_noise is not None:
        raise InputError(
            f"this model samples in {method.sampling.num_calls} calls of its network, and ONNX holds one "
            "pass; choose one that is sampled in one step, or use pellucid.load in Python"
        )


class RegressionGraph(nn.Module):
    """Degraded image and radar, NaN where there is none, -> restored image, all that the method does."""

    def __init__(self, method: Regression) -> None:
        super().__init__()
        self.network = method.network
        self.method = copy.copy(method)
        self.method.radar_optional = True  # whether radar is complete cannot be asked in a graph

    def forward(self, degraded: Tensor, sar: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) in [0, 1]."""
        valid = torch.ones_like(degraded[:, :1], dtype=torch.bool)
        return self.method.restore(Batch(degraded=degraded, sar=sar, valid=valid, key=("",)))


class OneStepGraph(nn.Module):
    """Degraded image and noise -> restored image, by the one step of a sampler on pixels.

    Whatever a network predicts, the image is a weighted sum of it and of the noise.
    """

    def __init__(self, method: Generative) -> None:
        super().__init__()
        self.network, self.method = method.network, method
        times = method.sampling.step_times(method.path, move=method.schedule)
        self.sigma = float(method.path.sigma(times[:1]))
        self.alpha = float(method.path.alpha(times[:1]))
        one, zero, t = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), times[:1].float()
        self.of_noised = float(method.path.split(one, zero, t)[0])
        self.of_output = float(method.path.split(zero, one, t)[0])
        self.register_buffer("level", method.path.noise_level(t).float())
        self.limit = method.residual or method.space.limit

    def forward(self, degraded: Tensor, noise: Tensor) -> Tensor:
        """Return (B, C, K * H, K * W) in [0, 1]."""
        key = ("",) * len(degraded)
        valid = torch.ones_like(noise[:, :1], dtype=torch.bool)
        base = Batch(degraded=degraded, valid=valid, key=key).enlarged()
        level: Any = self.level
        condition = Condition(degraded=self.method.space.encode(base))
        output = self.network(noise, level.expand(noise.shape[0]), condition).float()
        x0 = self.of_noised * noise + self.of_output * output
        if self.limit is not None:
            x0 = x0.clamp(-self.limit, self.limit)
        return self.method._image(x0, base).clamp(0, 1)


class PreviewGraph(nn.Module):
    """One input of 8 bit, divided by 255, -> red, green and blue, or grey, from 0 to 255.

    Radar is left out where the model can do without; else it follows the optical bands. Noise is kept inside.
    """

    def __init__(self, graph: Graph, method: Method) -> None:
        super().__init__()
        self.inner = graph.module
        ports = {port.name: port for port in graph.ports}
        self.num_optical = ports["degraded"].channels
        self.has_sar = "sar" in ports and not method.radar_optional
        self.channels = self.num_optical + (ports["sar"].channels if self.has_sar else 0)
        bands = result_range(method).bands
        self.shown = RGB if set(RGB) <= set(bands) else bands[:1]
        self.at = [bands.index(band) for band in self.shown]
        if "noise" in ports:
            side, generator = PREVIEW_TILE * graph.scale, torch.Generator().manual_seed(PREVIEW_SEED)
            shape = (1, ports["noise"].channels, side, side)
            self.register_buffer("noise", torch.randn(shape, generator=generator))
        else:
            self.noise = None

    def forward(self, image: Tensor) -> Tensor:
        """Return (1, 3 or 1, K * 256, K * 256)."""
        degraded, sar = image[:, : self.num_optical], image[:, self.num_optical :]
        second = self.noise if self.noise is not None else sar if self.has_sar else None
        restored = self.inner(degraded) if second is None else self.inner(degraded, second)
        return restored[:, self.at] * 255
