import pytest
import torch

from pellucid.data.ranges import SENTINEL2
from pellucid.methods.ground_loss import lack_bands
from pellucid.methods.seen_bands import SETS


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_so_large_a_share_of_images_has_the_bands_of_other_products(share: float) -> None:
    target = torch.rand(300, 13, 2, 2)
    found = lack_bands(target, SENTINEL2.bands, share, torch.Generator().manual_seed(0))
    kept = found.isfinite()
    assert torch.equal(found[kept], target[kept])
    seen = kept[..., 0, 0]
    sets = {tuple(SENTINEL2.bands[i] for i in each.nonzero()[:, 0]) for each in seen}
    assert sets == {0.0: {SETS[0]}, 0.5: set(SETS), 1.0: set(SETS[1:])}[share]
    lacks = (~seen).any(1).float().mean()
    assert abs(lacks - share) < 0.1
