from dataclasses import replace

import pytest
from loss_batches import flat, loss_batch, noisy

from pellucid.losses.l1 import l1


def test_l1_is_the_mean_absolute_error() -> None:
    assert l1(flat(0.3), loss_batch(target=flat(0.5))).item() == pytest.approx(0.2)


def test_a_loss_needs_a_target() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="image 0 has no target"):
        l1(restored, replace(made, target=None))
