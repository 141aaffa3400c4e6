"""Whether parts of a network run as one GPU kernel each (`_kernels.py`) or as plain PyTorch."""

from importlib.util import find_spec

import torch
from torch import Tensor

HAS_TRITON = find_spec("triton") is not None
# Least compute capability of a GPU: it has tensor cores for bf16 and tf32.
CAPABILITY = (8, 0)


def is_fused(image: Tensor) -> bool:
    """Whether work on such an image runs as kernels: in inference, on a GPU, where Triton is installed."""
    if torch.is_grad_enabled() or not HAS_TRITON or not image.is_cuda:
        return False
    return image.dtype != torch.float64 and _is_new_enough(image.device.index)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_new_enough(index: int) -> bool:
    return torch.cuda.get_device_capability(index) >= CAPABILITY
