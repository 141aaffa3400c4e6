import pytest
import torch

from pellucid.datasets.synthetic import Config, SyntheticScenes
from pellucid.simulate.landscape import make_scene


def test_a_dataset_of_scenes_gives_the_same_item_every_time() -> None:
    data = SyntheticScenes(Config(num_scenes=3, size=32, seed=5))
    assert len(data) == len(data.keys) == len(set(data.groups)) == 3
    item, again = data[1], data[1]
    assert item.key == (data.keys[1],)
    assert torch.equal(item.degraded, again.degraded)
    assert torch.equal(item.degraded, make_scene(32, 6).optical[None])
    assert item.sar is not None
    assert item.sar.min() >= 0
    assert item.sar.max() <= 1
    assert item.valid.all()
    with pytest.raises(IndexError):
        data[3]
