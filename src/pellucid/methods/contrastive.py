"""Contrastive learning: a text encoder learns to match texts with the images that they describe.

The training of CLIP (Radford et al. 2021, arXiv:2103.00020) for data whose texts repeat: pairs that share one
are matches of each other, as by Yang et al. 2022, arXiv:2204.03610.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor
from torch.nn.functional import normalize

from pellucid.data.batch import Batch
from pellucid.data.prompts import SCENE_COLUMNS, check_template
from pellucid.data.ranges import PICTURE, ValueRange
from pellucid.data.schema import Strict
from pellucid.data.tokenizer import Tokenizer, check_length, check_size
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.methods.method import Method
from pellucid.networks.text_encoder import TextEncoder

# What an image shows where it has no data: the middle of [0, 1].
NO_DATA = 0.5


class ContrastiveConfig(Strict):
    """The network learns to match texts with the images that they describe; it makes no images."""

    name: Literal["contrastive"] = "contrastive"
    optical: tuple[str, ...] = PICTURE.bands
    """Bands of the images, in the order of the channels."""
    tokenizer: str = ""
    """Of the texts: empty: of the words of the training prompts; "default": of the published vocabulary;
    otherwise a file `tokenizer.json`, a run folder, or a folder of transformers."""
    prompt: str = ""
    """Template of the texts of scenes, which bring none, of {season} and {place}; a clause (up to a
    comma) with what is not known is left out."""
    radar: ClassVar[tuple[str, ...]] = ()

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, value: str) -> str:
        check_template(value, SCENE_COLUMNS, "scene")
        return value


class Contrastive(Method):
    """The method of text encoders, which make features of texts, and no images.

    The loss compares the places of a batch with one another; each process of several has a batch of its own.

    Args:
        network: with an image encoder for as many bands as the images have.
        tokenizer: saved with the weights, which are worth nothing with another.
        optical: bands and value range of the images that texts describe.
    """

    task = "embed"
    takes_text = True
    network: TextEncoder
    tokenizer: Tokenizer

    def __init__(self, network: TextEncoder, tokenizer: Tokenizer, *, optical: ValueRange) -> None:
        check_size(tokenizer, network.config.vocab_size)
        check_length(tokenizer, network.config.length)
        self.network, self.tokenizer = network, tokenizer
        self.optical, self.radar = optical, optical.select(())

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the contrastive loss of texts and images of the batch, as `contrast` and as `total`.

        It cannot fall below the mean logarithm of the number of pairs that share a text.
        """
        loss = self._contrast(*self.features(batch))
        return {"contrast": loss, "total": loss}

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, and `found`: for which share of the images the nearest text is their own.

        Only the different texts of the batch are to choose from; `chance` is the share that naming the most
        frequent one would get right. Both are NaN where all texts are the same.
        """
        images, texts, groups = self.features(batch)
        loss = self._contrast(images, texts, groups)
        most = groups.bincount().max() / len(groups)
        rates = {"found": found(images, texts, groups), "chance": most}
        rates = {name: rate.where(most < 1, torch.nan) for name, rate in rates.items()}
        return {"loss_contrast": loss, "loss_total": loss, **rates}

    def features(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of images and texts, (B, D) each, and the groups of equal texts, (B,)."""
        if batch.target is None or batch.prompt is None:
            lacking = "target" if batch.target is None else "prompt"
            raise ValueError(f"{batch.key[0]} has no {lacking}, texts are learnt from images and prompts")
        ids = self.tokenizer(batch.prompt).to(batch.target.device)
        distinct, groups = group(ids)
        images = self.network.image_features(batch.target.where(batch.valid, NO_DATA))
        return images, self.network.text_features(distinct)[groups], groups

    def restore(
        self,
        batch: Batch,  # noqa: ARG002
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Refuse: a text encoder makes no images."""
        raise InputError("this model is a text encoder, it makes no images; choose another model")

    def _contrast(self, images: Tensor, texts: Tensor, groups: Tensor) -> Tensor:
        return contrastive_loss(images, texts, groups, self.network.temperature)


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, groups: Tensor, temperature: Tensor | float
) -> Tensor:
    """Return the contrastive loss, (): the mean of that of images among texts, and of texts among images.

    Eq. 3 to 5 of Yang et al. 2022, arXiv:2204.03610: CLIP's loss where every pair of the same group is a
    match, and all matches of one image, or text, are to be equally likely. It cannot fall below the mean
    logarithm of the groups' sizes.

    Args:
        image_features: (B, D) of any length.
        text_features: (B, D) of any length.
        groups: (B,) integers, the same where pairs share a text; see `group`.
        temperature: what the cosines of the angles between features are divided by.
    """
    logits = _cosines(image_features, text_features) / temperature  # (image, text)
    matches = (groups[:, None] == groups).float()
    wanted = matches / matches.sum(1, keepdim=True)  # symmetric
    ways = (-(wanted * each.log_softmax(1)).sum(1).mean() for each in (logits, logits.mT))
    return torch.stack(list(ways)).mean()


def _cosines(image_features: Tensor, text_features: Tensor) -> Tensor:
    return normalize(image_features.float(), dim=1) @ normalize(text_features.float(), dim=1).mT


def group(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different texts, (N, L), among (B, L) ids from a tokenizer, and the place of each, (B,)."""
    return ids.unique(dim=0, return_inverse=True)


def found(image_features: Tensor, text_features: Tensor, groups: Tensor) -> Tensor:
    """Return the share of the images whose nearest text is their own, (); see `finds`."""
    return finds(image_features, text_features, groups).float().mean()


def finds(image_features: Tensor, text_features: Tensor, groups: Tensor) -> Tensor:
    """Return whether the text nearest to each image is its own, (B,) bool; see `contrastive_loss`."""
    cosines = _cosines(image_features, text_features)
    return groups[cosines.argmax(1)] == groups
