"""How well texts and images find each other: the loss that a text encoder learns from."""

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


def group(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the different texts among these, (N, L), and which of them each is, (B,).

    Args:
        ids: (B, L) as a tokenizer gives them: texts that it does not tell apart are the same.
    """
    return ids.unique(dim=0, return_inverse=True)


def found(image_features: Tensor, text_features: Tensor, groups: Tensor) -> Tensor:
    """Return the share of the images whose nearest text is their own, (); see `finds`."""
    return finds(image_features, text_features, groups).float().mean()


def finds(image_features: Tensor, text_features: Tensor, groups: Tensor) -> Tensor:
    """Return whether the text nearest to each image is its own, (B,) bool.

    Args:
        image_features: (B, D) of any length.
        text_features: (B, D) of any length, equal where the groups are.
        groups: (B,) integers, see `group`.
    """
    cosines = normalize(image_features.float(), dim=1) @ normalize(text_features.float(), dim=1).mT
    return groups[cosines.argmax(1)] == groups
