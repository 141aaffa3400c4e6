"""Generation: the network leads from noise, or the degraded image, to the restored one, along a path."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from pellucid.data.batch import Batch, Condition, Encoded
from pellucid.data.cloud_score import cloud_map
from pellucid.data.prompts import SCENE_COLUMNS, check_template, describe_scenes
from pellucid.data.ranges import PICTURE, SLICE, ValueRange
from pellucid.data.resample import all_inside
from pellucid.data.schema import Strict
from pellucid.errors import InputError
from pellucid.generative.guidance import guided
from pellucid.generative.noise import Noise, keyed_noise
from pellucid.generative.path import PathConfig, Prediction, build_path
from pellucid.generative.sampler import sample
from pellucid.generative.times import Spread, TrainingTimes
from pellucid.losses._reduce import target_of
from pellucid.losses.adversarial import discriminator_losses
from pellucid.methods.broad_colors import with_broad_colors
from pellucid.methods.method import Method
from pellucid.methods.sampling import Sampling, check_sampling
from pellucid.methods.space import Latents, Pixels, Space, SpaceConfig, Texts

# Side in pixels of the tiles of a network that only adds to the enlarged input, more or less.
RESIDUAL_TILE = 384
# The term that compares what the network returns with what it should return; all others see images.
DENOISE = "denoise"


class Learning(Strict):
    """What a generative network learns, and how."""

    name: Literal["generative"] = "generative"
    optical: tuple[str, ...] = SLICE.bands
    """Bands of the images, in the order of the channels."""
    radar: tuple[str, ...] = ()
    """Polarisations, in the order of the channels."""
    radar_optional: bool = False
    """Accept scenes without radar; the network then sees 0."""
    scale: int = Field(1, gt=0)
    """How many times larger the result is than the degraded image."""
    space: SpaceConfig = SpaceConfig()
    """What the network works on: pixels, or the latents of autoencoders."""
    text: str = ""
    """The text encoder that makes tokens of prompts: a run folder, a model that ships, or a folder of
    transformers. Of a run that is conditioned on texts itself, its own is meant. Empty: no texts."""
    prompt: str = ""
    """Template of the prompts of images that bring none, of {season}, {place} and {cover}, the words for the
    share of cloudy pixels; a clause (up to a comma) with what is not known is left out."""
    path: PathConfig = PathConfig()
    """The path from data to noise."""
    start: Literal["noise", "degraded"] = "noise"
    """Where sampling begins; "degraded" takes few steps, on a straight path."""
    start_noise: float = Field(0.1, gt=0)
    """Standard deviation of the noise that is added to a degraded start, in the network's space."""
    prediction: Prediction = "noise"
    """What the network returns."""
    residual: float = Field(0.0, ge=0)
    """0: whole images are generated; otherwise what the enlarged input lacks (SRDiff, arXiv:2104.14951),
    multiplied by this, which should bring its spread near 0.5; pixels only."""
    times: Spread = "even"
    """How training times are spread, before the path's shift."""
    importance: float = Field(0.0, ge=0, le=1)
    """Share of the training times drawn where the loss is largest; the rest are drawn evenly."""
    learned_schedule: bool = False
    """Space the sampling steps so that each has an equal share of the loss that training found, as
    `importance`, which it needs, draws the training times. Of all schedules with the same ends, that is the
    one whose loss varies least, which the learned one of arXiv:2107.00630 looks for."""
    drop_condition: float = Field(0.0, ge=0, lt=1)
    """Share of the images that are learnt without their condition, which guidance needs."""
    dropped: Literal["all", "prompt"] = "all"
    """What these images are learnt without, and guidance leads away from: "all" that is known, zeros in its
    place, or the "prompt", the empty text in its place."""
    prior: str = ""
    """What predicts the broad colours of pictures from radar, so that only detail is drawn: a run, or a model
    that ships, whose own is taken. Empty: all is drawn."""
    tone_by_radar: bool = False
    """Shift a picture in colour to the mean colour that training pictures with similar radar have."""
    cloud_weight: float = Field(0.0, ge=0)
    """The loss `denoise` counts each pixel 1 + this * cloud, brought to 1 on average over the image."""


class GenerativeConfig(Sampling, Learning):
    """The network leads from noise, or the degraded image, to the restored one, step by step."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse options that contradict each other."""
        if self.start == "degraded" and (self.path.name != "rectified_flow" or self.eta):
            raise InputError(
                f"method.start is degraded, which needs the path rectified_flow and eta 0, found "
                f"{self.path.name} and {self.eta:g}; change them, or start from noise"
            )
        if self.prior and (self.optical != PICTURE.bands or len(self.radar) != 1):
            raise InputError(
                "method.prior is for pictures in colour (R, G, B) of radar of one polarisation; leave it out"
            )
        if self.residual and self.space.optical:
            raise InputError(
                f"method.residual is {self.residual:g}, which is for pixels; "
                "set it to 0, or leave method.space.optical out"
            )
        if self.start == "degraded" and self.residual:
            raise InputError(
                f"method.residual is {self.residual:g}, but the way from the degraded image leads to whole "
                "ones; set it to 0, or start from noise"
            )
        if self.importance and self.times != "even":
            raise InputError(f"method.importance is {self.importance:g}, which needs even times; set it to 0")
        check_template(self.prompt, SCENE_COLUMNS, "scene")
        if self.learned_schedule:
            self._check_schedule()
        return self

    def _check_schedule(self) -> None:
        if not self.importance:
            raise InputError(
                "method.learned_schedule is true, which learns from the losses that importance follows; set "
                "method.importance to 0.9, or learned_schedule to false"
            )
        if self.path.shift or self.path.time_input == "step":
            key, found = ("shift", self.path.shift) if self.path.shift else ("tells", "step")
            raise InputError(
                f"method.learned_schedule is true, but method.path.{key} is {found}, which fixes the times; "
                "leave one of them out"
            )


class Generative(Method):
    """The method of SR3 and of rectified flow: images, or their latents, and a source, joined by a path.

    Args:
        network: `net(x_t, c_noise, condition) -> (B, Z, h, w)`, with a `stride`.
        config: of the method.
        optical: bands and value range of the images.
        radar: polarisations and value range of the backscatter; without bands where there is none.
        losses: weight and function of each term; a function takes (estimated image, batch). The weight of
            `denoise`, the mean square error of the network's own output, has no function.
        space: what the network makes images in; None: pixels.
        sar_space: what it sees radar in, with the factor of `space`; None: pixels.
        texts: what makes tokens of the prompts; None: the network is not conditioned on texts.
        prior: `prior(sar) -> (B, C, H, W)` predicts broad colours; None: all colours are drawn.
    """

    sampling: Sampling
    times: TrainingTimes

    def __init__(
        self,
        network: nn.Module,
        config: GenerativeConfig,
        *,
        optical: ValueRange,
        radar: ValueRange,
        losses: Mapping[str, tuple[float, Callable[[Tensor, Batch], Tensor] | None]],
        space: Space | None = None,
        sar_space: Space | None = None,
        texts: Texts | None = None,
        prior: nn.Module | None = None,
    ) -> None:
        self.network, self.config, self.losses = network, config, losses
        self.path = build_path(config.path, config.prediction)
        self.optical, self.radar = optical, radar
        self.scale, self.residual = config.scale, config.residual
        self.sampling = Sampling(**{name: getattr(config, name) for name in Sampling.model_fields})
        self.is_random = self.sampling.temperature > 0
        self.times = TrainingTimes(config.importance, config.times, is_schedule=config.learned_schedule)
        self.schedule = self.times.spread_evenly if config.learned_schedule else None
        self.space = space or Pixels(len(optical.bands))
        self.sar_space = sar_space or Pixels(len(radar.bands))
        self.autoencoders = _autoencoders(self.space, self.sar_space)
        self.radar_optional = config.radar_optional or not radar.bands
        self.start_noise = config.start_noise if config.start == "degraded" else None
        if self.residual:  # what it adds is small, and so is what bf16 or another tile changes in it
            self.prefers_bf16, self.any_tile, self.tile = True, True, RESIDUAL_TILE
        self.stride: int = network.stride * self.space.factor  # type: ignore[assignment, operator]
        self._limit = self.residual or self.space.limit  # largest absolute value of x0
        self.texts, self.takes_text = texts, texts is not None
        self.prior = prior and prior.requires_grad_(False).eval()
        if texts is not None:
            self.tokenizer, self.text_encoder = texts.tokenizer, texts.network
        elif config.dropped == "prompt":
            raise InputError(
                "method.dropped is prompt, but no text encoder is named; name one in method.text, or drop all"
            )
        # Such a network takes the guidance scale as an input, in place of a second call.
        own: float | None = getattr(network, "guidance", None)
        self.is_guidance_distilled = own is not None and not config.drop_condition
        if own is not None and self.is_guidance_distilled and self.sampling.guidance == 1:
            self.sampling = self.sampling.model_copy(update={"guidance": own})
        check_sampling(self, "method.")

    def loss(self, batch: Batch | Encoded, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return each term times its weight, and their sum as `total`; all but `denoise` compare images.

        Raises:
            ValueError: if a term compares images and the batch is encoded.
        """
        given = batch if isinstance(batch, Encoded) else self.encode(batch)
        drawn, weights = self.times.draw(len(given), generator)
        times = self.path.move(drawn, self._num_tokens(given.x0))
        noise = torch.randn(given.x0.shape, device=given.x0.device, dtype=given.x0.dtype, generator=generator)
        condition = self._drop(self._with_tokens(given.condition, given), given, generator)
        x_t, wanted = self.path.sample(given.x0, self._source(given.degraded, noise), times)
        output = self.network(x_t, self.path.noise_level(times), condition).float()
        needs_image = any(name != DENOISE for name in self.losses)
        image = self._estimate(x_t, output, times, batch) if needs_image else None
        error = (output - wanted).square() * _weigh_pixels(given, self.config.cloud_weight)
        return self._weigh(image, error, batch, drawn, weights)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoded:
        """Return what the network learns from a batch."""
        target, base = target_of(batch), batch.enlarged()
        whole = not self.residual
        return Encoded(
            x0=self.space.encode(target, batch.valid) if whole else (target - base) * self.residual,
            degraded=self.space.encode(base),
            sar=self._sar(batch),
            cloud=cloud_map(batch, self.optical.bands),
            valid=all_inside(batch.valid, self.space.factor),
            key=batch.key,
            prompt=batch.prompt,
        )

    @torch.no_grad()
    def restore(
        self, batch: Batch, noise: Noise | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Return sampled images, (B, C, H, W) float32 in [0, 1]; sides must divide by `stride`.

        Without `noise`, that of each image follows from its key.
        """
        drawn = noise or keyed_noise(batch.key, *batch.valid.shape[-2:])
        base = batch.enlarged()
        degraded = self.space.encode(base)
        clouds = cloud_map(batch, self.optical.bands)
        condition = self._with_tokens(Condition(degraded=degraded, sar=self._sar(batch), cloud=clouds), batch)
        scale = self.sampling.guidance
        if self.is_guidance_distilled:
            condition, scale = replace(condition, guidance=degraded.new_full((len(batch),), scale)), 1.0

        def draw(step: int) -> Tensor:
            values = drawn(step, self.space.channels, self.space.factor).to(base.device)
            return self.sampling.temperature * values

        def denoise(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return self.network(x_t, self.path.noise_level(t), condition).float()

        times = self.sampling.step_times(self.path, self._num_tokens(degraded), self.schedule)
        x0 = sample(
            guided(denoise, condition, scale, self._null(condition)),
            self.path,
            self._begin(degraded, draw(0), float(times[0])),
            times,
            eta=self.sampling.eta,
            draw=draw if self.sampling.eta else None,
            clip=self._limit,
            solver=self.sampling.solver,
            progress=progress,
        )
        image = self._image(x0, base)
        if self.prior is not None and batch.sar is not None:
            broad = self.prior.to(image.device)(batch.sar.nan_to_num())
            image = with_broad_colors(image, broad, self.sampling.detail)
        return image.clamp(0, 1)

    def _sar(self, batch: Batch) -> Tensor | None:
        """Return the radar as the network sees it: 0, as in `Condition.null`, where there is none."""
        if not self.radar.bands:
            return None
        if not self.radar_optional and (batch.sar is None or not batch.sar.isfinite().all()):
            raise ValueError(f"{batch.key[0]} has pixels without radar, and this model needs it everywhere")
        if batch.sar is None:
            return None
        has_radar = batch.sar.isfinite().all(1, keepdim=True)
        return self.sar_space.encode(batch.sar) * all_inside(has_radar, self.sar_space.factor)

    def _source(self, degraded: Tensor, noise: Tensor) -> Tensor:
        return noise if self.start_noise is None else degraded + self.start_noise * noise

    def _begin(self, degraded: Tensor, noise: Tensor, t: float) -> Tensor:
        """Return where sampling begins, at time t: at the source, or what the path makes of the input."""
        source = self._source(degraded, noise)
        if self.sampling.strength == 1:
            return source
        x0 = torch.zeros_like(degraded) if self.residual else degraded
        x_t, _ = self.path.sample(x0, source, degraded.new_full((len(degraded),), t))
        return x_t

    def _num_tokens(self, x: Tensor) -> int:
        return x.shape[-2] * x.shape[-1] * self.space.factor**2 // self.stride**2

    def _with_tokens(self, condition: Condition, batch: Batch | Encoded) -> Condition:
        """Return the condition with the tokens of the prompts; of images without, by the template."""
        if self.texts is None:
            return condition
        prompts = batch.prompt or describe_scenes(self.config.prompt, batch.key, condition.cloud)
        return replace(condition, tokens=self.texts.encode(prompts, batch.valid.device))

    def _null(self, condition: Condition) -> Condition:
        """Return what guidance leads away from: no condition at all, or that with the empty text."""
        if self.config.dropped == "all" or self.texts is None or condition.tokens is None:
            return condition.null()
        empty = self.texts.encode(("",), condition.tokens.device)
        return replace(condition, tokens=empty.expand_as(condition.tokens))

    def _drop(self, condition: Condition, images: Encoded, generator: torch.Generator | None) -> Condition:
        """Return the condition, in training at times without what is dropped, image by image."""
        share = self.config.drop_condition
        if not share or not self.network.training:
            return condition
        kept = torch.rand(len(images), device=images.x0.device, generator=generator) >= share
        return condition.where(kept, self._null(condition))

    def _estimate(self, x_t: Tensor, output: Tensor, times: Tensor, batch: Batch | Encoded) -> Tensor:
        """Return the image that the network's output means."""
        if isinstance(batch, Encoded):
            raise ValueError(f"{batch.key[0]} is encoded, so only the loss {DENOISE} can be computed of it")
        x0_hat, _ = self.path.split(x_t, output, times)
        # Near t = 1 a small error in the noise is a huge one in the image: there, only its sign would count.
        if self.config.prediction == "noise" and self._limit is not None:
            x0_hat = x0_hat.clamp(-self._limit, self._limit)
        return self._image(x0_hat, batch.enlarged())

    def _image(self, x0: Tensor, base: Tensor) -> Tensor:
        """Return the image of which x0 is the model's form."""
        return base + x0 / self.residual if self.residual else self.space.decode(x0)

    def _weigh(
        self, image: Tensor | None, error: Tensor, batch: Batch | Encoded, times: Tensor, weights: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the whole batch, or, for times drawn by importance, their weighted means."""
        if not self.times.share:
            return self._terms(image, error, batch)
        images = [None] * len(batch) if image is None else image.split(1)
        parts = zip(images, error.split(1), strict=True)
        each = [self._terms(*part, batch.pick(i)) for i, part in enumerate(parts)]
        if torch.is_grad_enabled():  # what validation finds must not change the training
            self.times.learn(times, torch.stack([terms["total"] for terms in each]))
        return {name: (weights * torch.stack([terms[name] for terms in each])).mean() for name in each[0]}

    def _terms(self, image: Tensor | None, error: Tensor, batch: Batch | Encoded) -> dict[str, Tensor]:
        terms = {
            name: weight
            * (error.mean() if term is None else term(cast("Tensor", image), cast("Batch", batch)))
            for name, (weight, term) in self.losses.items()
        }
        if image is not None:
            terms |= discriminator_losses(self.losses, image, cast("Batch", batch))
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def _autoencoders(space: Space, sar_space: Space) -> dict[str, nn.Module]:
    """Return the frozen networks of the spaces by what they encode: "optical" where it is both."""
    spaces = (("sar", sar_space), ("optical", space))
    found = {space.network: name for name, space in spaces if isinstance(space, Latents)}
    return {name: network for network, name in reversed(found.items())}


def _weigh_pixels(given: Encoded, cloud_weight: float) -> Tensor:
    """Return what the error of each pixel counts, (B, 1, h, w), 1 on average over an image; 0 if invalid."""
    weight = given.valid
    if cloud_weight and given.cloud is not None:
        cloud = avg_pool2d(given.cloud, given.cloud.shape[-1] // weight.shape[-1])
        weight = weight * (1 + cloud_weight * cloud)
    return weight / weight.mean((1, 2, 3), keepdim=True).clamp(min=1 / weight[0].numel())
