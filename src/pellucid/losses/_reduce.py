"""What the terms share: the target, the difference from it, and the mean over the valid pixels."""

from torch import Tensor

from pellucid.data.batch import Batch


def target_of(batch: Batch) -> Tensor:
    """Return the target, (B, C, H, W); refuse a batch that has none."""
    if batch.target is None:
        raise ValueError(f"{batch.key[0]} has no target, a loss compares with one")
    return batch.target


def difference(restored: Tensor, batch: Batch) -> Tensor:
    """Return restored - target in single precision, 0 where invalid."""
    return (restored.float() - target_of(batch).float()) * batch.valid


def mean_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of (B, C, H, W) over the pixels where (B, 1, H, W) `valid`; 0 if there are none."""
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)


def gaussian_likelihood(squared: Tensor, log_variance: Tensor) -> Tensor:
    """Return the negative logarithm of a Gaussian's density, but for its constant, element by element.

    Args:
        squared: error, squared.
        log_variance: logarithm of the variance that it is said to have.
    """
    return 0.5 * (log_variance + squared * (-log_variance).exp())
