"""CLIP's text encoder: texts as tokens that a generative network attends to.

Radford et al. 2021, arXiv:2103.00020, by transformers' layers. Training brings the features of a text near
those of its images, by a small convolutional network that is not needed afterwards.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

# Channels of the image encoder per level, in multiples of its width; each level halves the sides.
IMAGE_MULTIPLIERS = (1, 2, 4, 8)
IMAGE_GROUPS = 8
# Similarities of features are divided by the temperature: its initial value, and its lowest.
# arXiv:2103.00020, section 2.5
TEMPERATURE, MIN_TEMPERATURE = 0.07, 0.01


@dataclass(frozen=True)
class Config:
    """Size of the network; the defaults are those of the published SAR colorization, without images.

    Attributes:
        vocab_size: ids that the tokenizer may use.
        width: D, of a token.
        num_layers: of the transformer.
        num_heads: of each attention; must divide `width`.
        length: L, tokens per text.
        end_id: of the token that ends a text; a text's features are read there.
        activation: "gelu" for texts of Stable Diffusion 2.
        bands: C, of the images that training compares texts with; 0 for none.
        image_width: channels of the image encoder after its first level.
        dropout: share of the attentions that are dropped in training.
        features: number of features by which texts and images are compared.
    """

    vocab_size: int = 1000
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    length: int = 77
    end_id: int = 3
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    bands: int = 0
    image_width: int = 32
    features: int = 256
    dropout: float = 0.0


class TextEncoder(nn.Module):
    """The whole network; without bands, the text encoder alone, and `image` is None."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        _check(config)
        self.config = config
        sizes = CLIPTextConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=config.length,
            hidden_act=config.activation,
            attention_dropout=config.dropout,
            bos_token_id=None,
            pad_token_id=None,
            eos_token_id=config.end_id,
        )
        self.text = CLIPTextModel(sizes)
        self.image: nn.Module | None = None
        if config.bands:
            self.image = _image_encoder(config.bands, config.image_width, config.features)
            self.project = nn.Linear(config.width, config.features, bias=False)
            self.log_temperature = nn.Parameter(torch.tensor(math.log(TEMPERATURE)))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the tokens, (B, L, D), of ids, (B, L) int64; each attends to earlier ones, padding too."""
        return self.text(input_ids=ids).last_hidden_state

    def text_features(self, ids: Tensor) -> Tensor:
        """Return the features of texts at their first end, or last token, (B, features), not normalised."""
        is_end = ids == self.config.end_id
        at = torch.where(is_end.any(1), is_end.int().argmax(1), ids.shape[1] - 1)
        tokens = self(ids)
        return self.project(tokens[torch.arange(len(ids), device=ids.device), at])

    def image_features(self, image: Tensor) -> Tensor:
        """Return the features of images, (B, C, H, W) in [0, 1], as (B, features), not normalised."""
        if self.image is None:
            raise ValueError("this text encoder has no image encoder, its bands are 0")
        return self.image(2 * image - 1)

    @property
    def temperature(self) -> Tensor:
        """The divisor of similarities, ()."""
        return self.log_temperature.clamp(min=math.log(MIN_TEMPERATURE)).exp()


def _image_encoder(bands: int, width: int, features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise([bands, *(width * multiplier for multiplier in IMAGE_MULTIPLIERS)]):
        for channels, stride in ((before, 2), (after, 1)):
            conv = nn.Conv2d(channels, after, 3, stride=stride, padding=1)
            layers += [conv, nn.GroupNorm(IMAGE_GROUPS, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(after, features))


def _check(config: Config) -> None:
    if config.width % config.num_heads:
        raise ValueError(f"num_heads is {config.num_heads}, must divide width = {config.width}")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {config.dropout}, must be a share from 0 to below 1")
    if not 0 <= config.end_id < config.vocab_size:
        raise ValueError(f"end_id is {config.end_id}, must be one of the {config.vocab_size} of vocab_size")
    if config.bands and config.image_width % IMAGE_GROUPS:
        raise ValueError(f"image_width is {config.image_width}, must divide by {IMAGE_GROUPS}")


def build(config: Config) -> TextEncoder:
    """Return the network, with random weights."""
    return TextEncoder(config)
