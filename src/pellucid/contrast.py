"""How well texts and images find each other: the loss that a text encoder learns from."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, groups: Tensor, temperature: Tensor | float
) -> Tensor:
    """Return how badly each image finds its texts among all, and each text its images: their mean, ().

    Eq. 3 to 5 of Yang et al. 2022, arXiv:2204.03610: CLIP's loss where every pair of the same group is a
    match, and all matches of one image, or text, are to be equally likely. It cannot fall below the mean
    logarithm of the groups' sizes.

    Args:
        image_features: (B, D) of any length.
        text_features: (B, D) of any length.
        groups: (B,) integers, the same where pairs share a text; see `group`.
        temperature: what the cosines of the angles between features are divided by.
    """
    cosines = normalize(image_features.float(), dim=1) @ normalize(text_features.float(), dim=1).mT
    logits = cosines / temperature  # (image, text)
    matches = (groups[:, None] == groups).float()
    wanted = matches / matches.sum(1, keepdim=True)  # symmetric
    ways = (-(wanted * each.log_softmax(1)).sum(1).mean() for each in (logits, logits.mT))
    return torch.stack(list(ways)).mean()


def group(texts: Sequence[str]) -> Tensor:
    """Return integers, (B,), that are the same where texts are."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return torch.tensor([numbers[text] for text in texts])
