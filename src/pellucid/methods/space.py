"""What a generative network works on: pixels, or the latents of an autoencoder."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pellucid.data.schema import Strict
from pellucid.data.tokenizer import Tokenizer, check_length, check_size
from pellucid.methods.autoencoding import Autoencoding, from_model, to_model
from pellucid.networks.text_encoder import TextEncoder

# Texts whose tokens stay in memory: data sets have few, and every sampling step needs the same.
NUM_KEPT = 256


class SpaceConfig(Strict):
    """The autoencoders in whose latents a network works.

    Each is a run folder, a model that ships, or, of pictures in colour, a folder of diffusers. Of a run that
    works in the latents of one itself, that one is meant.
    """

    optical: str = ""
    """Of the images; empty: the network works on pixels."""
    sar: str = ""
    """Of the radar. An autoencoder of three-band pictures sees one polarisation three times; the name that
    `optical` has too stands for one network."""


class Space(Protocol):
    """The form in which a network sees images, and the way there and back."""

    channels: int  # Z, of an image in that form
    factor: int  # how many times fewer rows and columns it has

    @property
    def limit(self) -> float | None:
        """Return the largest absolute value that an image can have there; None: there is no such bound."""

    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return (B, Z, H / factor, W / factor) float32 of (B, C, H, W) in [0, 1]; no data becomes grey."""

    def decode(self, values: Tensor) -> Tensor:
        """Return the image, (B, C, H, W), not clipped, of (B, Z, H / factor, W / factor)."""


class Pixels:
    """Images as they are, but from -1 to 1."""

    factor = 1
    limit = 1.0

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the image, (B, C, H, W) in [-1, 1]."""
        return to_model(image, valid)

    def decode(self, values: Tensor) -> Tensor:
        """Return the image, (B, C, H, W) in [0, 1] where the values are in [-1, 1]."""
        return from_model(values)


class Latents:
    """What an autoencoder makes of images.

    Args:
        coder: whose network is frozen here; it follows the images to their device.
        copies: how many times each band of an image that is encoded stands: 3 for a grey image, where the
            autoencoder is of pictures in colour. Images that are decoded have all bands.
    """

    limit = None

    def __init__(self, coder: Autoencoding, copies: int = 1) -> None:
        self.coder, self.network, self.copies = coder, coder.network, copies
        self.network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels = self.network.config.latent_channels
        self.factor: int = self.network.factor

    @torch.no_grad()
    def encode(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return latents, (B, Z, H / factor, W / factor), without gradients."""
        self.network.to(image.device)
        return self.coder.encode(image.repeat_interleave(self.copies, dim=1), valid)

    def decode(self, values: Tensor) -> Tensor:
        """Return the image, (B, C, H, W), not clipped, through which gradients flow."""
        self.network.to(values.device)
        return self.coder.decode(values)


class Texts:
    """A frozen text encoder together with the tokenizer that it was trained with.

    Args:
        network: is frozen here; it follows the images to their device.
        tokenizer: of the ids that the network takes.
    """

    def __init__(self, network: TextEncoder, tokenizer: Tokenizer) -> None:
        config = network.config
        check_size(tokenizer, config.vocab_size)
        check_length(tokenizer, config.length)
        self.network, self.tokenizer = network.requires_grad_(False).eval(), tokenizer
        self.width = config.width  # D, of a token
        self._kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()

    def encode(self, prompts: Sequence[str], device: torch.device | str) -> Tensor:
        """Return the tokens of texts, (B, L, D) float32 on `device`, without gradients."""
        device = torch.device(device)
        known = {prompt: self._token(prompt, device) for prompt in dict.fromkeys(prompts)}
        return torch.stack([known[prompt] for prompt in prompts])

    def _token(self, prompt: str, device: torch.device) -> Tensor:
        """Return the tokens of one text, (L, D); each is encoded alone, so that a batch changes nothing."""
        name = prompt, str(device)
        if name not in self._kept:
            # Training cannot use what inference mode leaves; half precision would save nothing here.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                self._kept[name] = self.network.to(device)(self.tokenizer([prompt]).to(device))[0].float()
            while len(self._kept) > NUM_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]
