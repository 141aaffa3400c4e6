import pytest
from loss_batches import flat, loss_batch

from pellucid.losses.l2 import l2


def test_l2_is_the_mean_squared_error() -> None:
    assert l2(flat(0.3), loss_batch(target=flat(0.5))).item() == pytest.approx(0.04)
