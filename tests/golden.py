"""The published modules' weights and outputs, for the tests that compare with them."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# The goldens' own: one thread and two agree to 4e-6.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def state_dict(folder: Path, name: str) -> dict[str, Tensor]:
    """Return the published module's state dict, with the weights that its goldens were made with.

    Buffers hold zeros: our networks compute their own.
    """
    shapes = json.loads((folder / "state_dicts.json").read_text())[name]
    return {
        key: weight(key, shape) if _is_weight(key, dtype) else torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, (shape, dtype) in shapes.items()
    }


def weight(key: str, shape: list[int]) -> Tensor:
    """Return the weight that follows from its key, by the rule in the goldens' README."""
    values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) >= 2:
        values /= np.sqrt(np.prod(shape[1:]))
    elif key.endswith(("weight", "scale")):
        values = 1 + 0.1 * values
    else:
        values *= 0.1
    values *= 0.1 if "fac_warp.3.0" in key else 1
    values *= 0.5 if ".LFF" in key else 1
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def arrays(folder: Path, name: str) -> dict[str, Tensor]:
    """Return inputs, inner stages and outputs by name."""
    with np.load(folder / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def _is_weight(key: str, dtype: str) -> bool:
    return dtype.startswith("float") and not key.endswith("attn_mask")
