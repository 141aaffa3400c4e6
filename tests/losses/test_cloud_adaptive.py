from dataclasses import replace

import pytest
from loss_batches import flat, loss_batch, noisy

from pellucid.losses.cloud_adaptive import cloud_adaptive


@pytest.mark.parametrize(
    ("cloud", "expected"),
    # restored 0.3, target 0.5, degraded 0.9: |0.3 - (0.5 cloud + 0.9 (1 - cloud))| + |0.3 - 0.5|
    [(1.0, 0.2 + 0.2), (0.0, 0.6 + 0.2), (0.5, 0.4 + 0.2)],
)
def test_cloud_adaptive_keeps_the_clear_and_restores_the_cloudy(cloud: float, expected: float) -> None:
    made = loss_batch(target=flat(0.5), degraded=flat(0.9), cloud=cloud)
    assert cloud_adaptive(flat(0.3), made).item() == pytest.approx(expected)


def test_cloud_adaptive_needs_a_cloud_map() -> None:
    restored, made = noisy()
    with pytest.raises(ValueError, match="the cloud_adaptive loss needs a cloud map"):
        cloud_adaptive(restored, replace(made, cloud=None))
