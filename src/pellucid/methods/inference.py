"""Running a method over the tiles of something large: what scenes and stacks of slices share."""

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.generative.noise import JoinedNoise, Noise, NoiseField, TileNoise
from pellucid.methods.method import Method

Precision: TypeAlias = Literal["fp32", "bf16"]

# Default number of tiles that a GPU restores at once; a CPU gains nothing from more than one.
GPU_BATCH = 8


def tiles_at_once(batch: int, device: torch.device) -> int:
    """Return how many tiles to run together where `batch` are asked for; 0 leaves it to the device."""
    return batch or (1 if device.type == "cpu" else GPU_BATCH)


def check_samples(method: Method, samples: int) -> None:
    """Refuse to draw several samples of a deterministic method."""
    if samples > 1 and not method.is_random:
        raise InputError(
            f"{samples} samples are asked for, but this model is deterministic, so all would be identical; "
            "use --samples 1 or choose another --model"
        )


def place_noise(field: NoiseField, places: Sequence[tuple[int, int, int]], height: int, width: int) -> Noise:
    """Return the noise of a batch of tiles, keyed by where they lie, so that neighbours share it.

    Args:
        field: of the whole scene or stack.
        places: sample, first row and first column of each tile, in pixels of the result.
        height: of the tiles, in pixels of the result.
        width: of the tiles.
    """
    return JoinedNoise(
        tuple(TileNoise((field,), (top,), (left,), height, width, sample) for sample, top, left in places)
    )


def run_method(method: Method, batch: Batch, *, precision: Precision, noise: Noise | None = None) -> Tensor:
    """Return (B, C, H, W) float32 in [0, 1] on the batch's device.

    Raises:
        InputError: if the memory does not suffice, or the model gives what is no number.
    """
    device, size = batch.degraded.device, max(batch.valid.shape[-2:])
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            restored = method.restore(batch, noise).float()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{device} has too little memory for {len(batch)} tiles of {size} px, use a smaller --tile"
        ) from error
    if not restored.isfinite().all():
        raise InputError(f"the model gave no number at {batch.key[0]} in {precision}, try --precision fp32")
    return restored


def digest_method(method: Method) -> str:
    """Return a digest of all weights on which a method's results depend, those of its helpers too."""
    text = (method.text_encoder,) if method.text_encoder else ()
    return " ".join(map(digest_weights, (method.network, *method.autoencoders.values(), *text)))


def digest_weights(network: nn.Module) -> str:
    """Return a digest of all weights of a network."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def choose_device(name: str) -> torch.device:
    """Return the device that is meant; "auto" is the GPU where there is one, otherwise the CPU.

    Raises:
        InputError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"there is no device {name!r} on this machine, use auto or cpu") from error
    return device
