"""What applying a method needs to know of it: its device, its weights, whether samples differ."""

import hashlib
import warnings
from collections.abc import Iterable

import torch
from torch import nn

from pellucid.errors import InputError
from pellucid.methods.method import Method


def check_samples(method: Method, samples: int) -> None:
    """Refuse to draw several samples from a deterministic method."""
    if samples > 1 and not method.is_random:
        if method.sampling is not None:
            raise InputError(
                f"{samples} samples are asked for, but sampling starts from no noise, so all would be "
                "identical; use --temperature 1 or --samples 1"
            )
        raise InputError(
            f"{samples} samples are asked for, but this model is deterministic, so all samples would be "
            "identical; use --samples 1 or choose another --model"
        )


def warn_of_unknown(method: Method, prompts: Iterable[str]) -> None:
    """Warn of words in the prompts that are not in the model's vocabulary."""
    if not method.takes_text or method.tokenizer is None:
        return
    found = dict.fromkeys(word for prompt in prompts for word in method.tokenizer.unknown(prompt))
    if words := [word for word in found if any(map(str.isalnum, word))]:
        warnings.warn(
            f"this model does not know {', '.join(map(repr, words))}; it uses the rest of the prompt",
            stacklevel=3,
        )


def digest_method(method: Method) -> str:
    """Return a digest of all weights on which a method's results depend, those of its helpers too."""
    return " ".join(map(digest_weights, method.networks))


def digest_weights(network: nn.Module) -> str:
    """Return a digest of all weights of a network."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def choose_device(name: str) -> torch.device:
    """Return the device of this name; "auto" is the GPU where there is one, otherwise the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"there is no device {name!r} on this machine, use auto or cpu") from error
    return device
