from pathlib import Path

import numpy as np
import pytest
import torch
from products import SIDE, write_product, zip_product
from scenes import ground, write

from pellucid.data.product_clouds import ProductClouds
from pellucid.errors import InputError

HALF = SIDE // 2


@pytest.mark.parametrize("is_zipped", [False, True])
def test_shadow_and_cirrus_come_from_the_classes_and_doubt_from_the_probability(
    tmp_path: Path, is_zipped: bool
) -> None:
    classes, probability = np.full((HALF, HALF), 4, np.uint8), np.zeros((HALF, HALF), np.uint8)
    classes[10:20], classes[20:30], classes[30:40] = 3, 10, 11  # shadow, cirrus, snow
    probability[40:50] = 60
    product = write_product(tmp_path, classes=classes, probability=probability)
    with ProductClouds(zip_product(product) if is_zipped else product) as clouds:
        cloud = clouds.read()[0]
        assert clouds.grid.width == SIDE
    assert (cloud[20:60] == 1).all()
    assert (cloud[62:78] == 0).all()
    torch.testing.assert_close(cloud[82:98], torch.full((16, SIDE), 0.6))


def test_either_alone_will_do(tmp_path: Path) -> None:
    probability = np.full((HALF, HALF), 25, np.uint8)
    with ProductClouds(write_product(tmp_path, probability=probability)) as clouds:
        torch.testing.assert_close(clouds.read(), torch.full((1, SIDE, SIDE), 0.25))


def test_what_has_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a scene classification nor a cloud probability"):
        ProductClouds(write_product(tmp_path, level="L1C"))
    with pytest.raises(InputError, match="is no product"):
        ProductClouds(write(tmp_path / "s2.tif", ground()))
