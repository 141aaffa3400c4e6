"""What texts are to a generative network: tokens, of a text encoder that is not trained with it."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.data.tokenizer import Tokenizer, check_length, check_size
from pellucid.networks.text_encoder import TextEncoder

# Texts whose tokens stay in memory: data sets have few, and every sampling step needs the same.
NUM_KEPT = 256


class Texts:
    """A frozen text encoder together with the tokenizer that it was trained with.

    Args:
        network: is frozen here; it follows the images to their device.
        tokenizer: whose ids the network knows.

    Attributes:
        width: D, of a token.

    Raises:
        InputError: if the tokenizer has ids, or texts of a length, that the network does not know.
    """

    def __init__(self, network: TextEncoder, tokenizer: Tokenizer) -> None:
        config = network.config
        check_size(tokenizer, config.vocab_size)
        check_length(tokenizer, config.length)
        self.network, self.tokenizer = network.requires_grad_(False).eval(), tokenizer
        self.width = config.width
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
