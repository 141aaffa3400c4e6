import math

import pytest
import torch
from loss_batches import flat, loss_batch

from pellucid.losses.log_l2 import log_l2


def test_log_l2_counts_the_bel_that_each_image_lacks_to_40_db() -> None:
    assert log_l2(flat(0.4), loss_batch(target=flat(0.5))).item() == pytest.approx(math.log10(101))
    images = torch.cat([flat(0.4), flat(0.5)])
    assert log_l2(images, loss_batch(target=torch.full_like(images, 0.5))).item() == pytest.approx(
        math.log10(101) / 2
    )
