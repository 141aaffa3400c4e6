"""Generation: the network takes noise away, guided by the degraded image, along a path of the method."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch, Condition
from pellucid.data.ranges import ValueRange
from pellucid.errors import InputError
from pellucid.generative.guidance import guided
from pellucid.generative.noise import Noise, keyed_noise
from pellucid.generative.path import Path
from pellucid.generative.sampler import sample
from pellucid.generative.times import TrainingTimes
from pellucid.methods.method import Method

# The term that compares what the network returns with what it is meant to return; all others see images.
DENOISE = "denoise"


@dataclass(frozen=True)
class Sampling:
    """How an image is sampled.

    Attributes:
        steps: of the sampler; may be fewer than the path has.
        eta: fresh noise per step: 0 is deterministic, 1 the reverse process that was trained.
        solver: "heun" calls the network twice per step, and needs eta 0.
        guidance: how many times as far the condition is followed; other than 1, each step takes a second
            call of the network, without the condition.
    """

    steps: int = 50
    eta: float = 0.0
    solver: Literal["euler", "heun"] = "euler"
    guidance: float = 1.0

    @property
    def num_calls(self) -> int:
        """Calls of the network per image, at most."""
        return self.steps * (2 if self.solver == "heun" else 1) * (1 if self.guidance == 1 else 2)


class Generative:
    """The method of SR3: images, or what they lack, and noise, joined by a path.

    Args:
        network: `net(x_t, c_noise, condition) -> (B, C, H, W)`, with a `stride`.
        path: from the image to the noise.
        optical: bands and value range of the images.
        radar: polarisations and value range of the backscatter; without bands where there is none.
        losses: weight and function of each term; a function takes (estimated image, batch). The weight of
            `denoise`, the mean square error of the network's own output, has no function.
        scale: how many times larger the result is than the degraded image.
        sampling: how images are sampled.
        importance: share of the training times that are drawn where the loss is largest.
        residual: 0 to generate whole images in [-1, 1]; otherwise what the enlarged input lacks is generated
            (SRDiff, arXiv:2104.14951), multiplied by this, which should bring its spread near 0.5.
    """

    is_random = True
    takes_text = False
    radar_optional = True
    mean_spectrum: tuple[float, ...] | None = None

    def __init__(
        self,
        network: nn.Module,
        *,
        path: Path,
        optical: ValueRange,
        radar: ValueRange,
        losses: Mapping[str, tuple[float, Callable[[Tensor, Batch], Tensor] | None]],
        scale: int = 1,
        sampling: Sampling | None = None,
        importance: float = 0.0,
        residual: float = 0.0,
    ) -> None:
        self.network = network
        self.stride: int = network.stride  # type: ignore[assignment]
        self.path = path
        self.optical, self.radar = optical, radar
        self.losses = losses
        self.scale = scale
        self.sampling = sampling or Sampling()
        self.times = TrainingTimes(importance)
        self.residual = residual
        self._limit = residual or 1.0  # largest absolute value of x0
        self._is_noise = getattr(path, "prediction", None) == "noise"

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return each term times its weight, and their sum as `total`; all but `denoise` judge x0_hat.

        Raises:
            ValueError: if the batch has no target.
        """
        if batch.target is None:
            raise ValueError(f"{batch.key[0]} has no target, a loss compares with one")
        base = batch.enlarged()
        x0 = (batch.target - base) * self.residual if self.residual else batch.target * 2 - 1
        times, weights = self.times.draw(len(batch), generator)
        noise = torch.randn(x0.shape, device=x0.device, dtype=x0.dtype, generator=generator)
        x_t, wanted = self.path.sample(x0, noise, times)
        output = self.network(x_t, self.path.noise_level(times), _condition(base)).float()
        x0_hat, _ = self.path.split(x_t, output, times)
        # Near t = 1 a small error in the noise is a huge one in the image: there, only its sign would count.
        x0_hat = x0_hat.clamp(-self._limit, self._limit) if self._is_noise else x0_hat
        return self._weigh(self._image(x0_hat, base), output - wanted, batch, times, weights)

    @torch.no_grad()
    def restore(self, batch: Batch, noise: Noise | None = None) -> Tensor:
        """Return sampled images, (B, C, H, W) float32 in [0, 1]; sides must divide by `stride`.

        Without `noise`, that of each image follows from its key.
        """
        height, width = batch.valid.shape[-2:]
        bands, device = len(self.optical.bands), batch.degraded.device
        source = noise or keyed_noise(batch.key, height, width)
        base = batch.enlarged()
        condition = _condition(base)

        def draw(step: int) -> Tensor:
            return source(step, bands).to(device)

        def denoise(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return self.network(x_t, self.path.noise_level(t), condition).float()

        images = sample(
            guided(denoise, condition, self.sampling.guidance),
            self.path,
            draw(0),
            self.path.times(self.sampling.steps).to(device),
            eta=self.sampling.eta,
            draw=draw if self.sampling.eta else None,
            clip=self._limit,
            solver=self.sampling.solver,
        )
        return self._image(images, base).clamp(0, 1)

    def _image(self, x0: Tensor, base: Tensor) -> Tensor:
        """Return the image of which x0 is the model's form."""
        return base + x0 / self.residual if self.residual else (x0 + 1) / 2

    def _weigh(
        self, image: Tensor, error: Tensor, batch: Batch, times: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the whole batch, or, for times drawn by importance, their weighted means."""
        if not self.times.share or not torch.is_grad_enabled():
            return self._terms(image, error, batch)
        each = [self._terms(image[i : i + 1], error[i : i + 1], _pick(batch, i)) for i in range(len(batch))]
        self.times.learn(times, torch.stack([terms["total"] for terms in each]))
        return {
            name: torch.stack(
                [weight * terms[name] for weight, terms in zip(weights, each, strict=True)]
            ).mean()
            for name in each[0]
        }

    def _terms(self, image: Tensor, error: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for name, (weight, term) in self.losses.items():
            terms[name] = weight * (error.square().mean() if term is None else term(image, batch))
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def with_sampling(
    method: Method, *, steps: int | None = None, eta: float | None = None, guidance: float | None = None
) -> Method:
    """Return the method, or, where there are changes, a copy that samples so.

    Raises:
        InputError: if the method takes no steps, or its path not so many, or Heun's solver is to have noise.
    """
    given = {"steps": steps, "eta": eta, "guidance": guidance}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return method
    if getattr(method, "sampling", None) is None:
        options = " and ".join(f"--{name}" for name in changes)
        raise InputError(f"this model takes no steps; leave out {options} or choose another --model")
    changed: Any = copy.copy(method)
    changed.sampling = replace(changed.sampling, **changes)
    if changed.sampling.eta and changed.sampling.solver == "heun":
        raise InputError(
            f"eta is {changed.sampling.eta:g}, but this model is sampled by Heun's method, which needs 0; "
            "leave out --eta"
        )
    try:
        changed.path.times(changed.sampling.steps)
    except ValueError as error:
        raise InputError(f"--steps: {error}") from error
    return changed


def _condition(base: Tensor) -> Condition:
    return Condition(degraded=base * 2 - 1)


def _pick(batch: Batch, index: int) -> Batch:
    images = {name: image[index : index + 1] for name, image in batch.images().items()}
    prompt = batch.prompt and batch.prompt[index : index + 1]
    return replace(batch, key=batch.key[index : index + 1], prompt=prompt, **images)
