from dataclasses import dataclass

import pytest
import torch
from tiny import TinyData, tiny_config

from pellucid.train.loaders import BatchesOfShare, RunOrder, Share, train_loader, val_loader


@dataclass
class At:
    """A place in a run."""

    global_step: int = 0
    global_rank: int = 0
    world_size: int = 1


OPTIONS = tiny_config(num_steps=3, batch=2, accumulate=2).train


def test_one_process_takes_the_samples_in_order() -> None:
    assert list(RunOrder(At(), OPTIONS)) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_a_resumed_run_goes_on_with_the_next_sample() -> None:
    assert list(RunOrder(At(global_step=2), OPTIONS)) == [[8, 9], [10, 11]]


def test_each_of_two_processes_takes_every_other_sample() -> None:
    parts = [list(RunOrder(At(global_rank=rank, world_size=2), OPTIONS)) for rank in (0, 1)]
    assert parts[0][:2] == [[0, 2], [4, 6]]
    assert parts[1][:2] == [[1, 3], [5, 7]]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("step", [0, 1])
def test_the_processes_together_take_the_samples_of_one_with_a_larger_batch(world: int, step: int) -> None:
    parts = [RunOrder(At(step, rank, world), OPTIONS) for rank in range(world)]
    larger = OPTIONS.model_copy(update={"batch": 2 * world})
    for batches, whole in zip(zip(*parts, strict=True), RunOrder(At(step), larger), strict=True):
        assert sorted(index for batch in batches for index in batch) == whole


def test_shares_of_a_validation_set_cover_it_once() -> None:
    shares = [Share(At(0, rank, 3), 7) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted(index for share in shares for index in share) == list(range(7))


def test_batches_of_a_validation_set_cover_it_once_in_an_order_that_stays() -> None:
    shares = [list(BatchesOfShare(At(0, rank, 2), 11, batch=3)) for rank in range(2)]
    assert [[len(batch) for batch in share] for share in shares] == [[3, 3], [3, 2]]
    numbers = [index for share in shares for batch in share for index in batch]
    assert sorted(numbers) == list(range(11))
    assert numbers != list(range(11))
    whole = BatchesOfShare(At(5), 11, batch=3)
    assert len(whole) == 4
    assert sorted(map(tuple, whole)) == sorted(tuple(batch) for share in shares for batch in share)


def test_loaders_give_batches_to_train_on_and_single_images_to_validate() -> None:
    data = TinyData(12)
    batches = list(train_loader(At(), data, OPTIONS))
    assert [batch.key for batch in batches][:2] == [("image 0", "image 1"), ("image 2", "image 3")]
    torch.testing.assert_close(batches[1].target[1], data[3].target[0])
    assert [batch.key for batch in val_loader(At(), data, OPTIONS)] == [(key,) for key in data.keys]
    joined = list(val_loader(At(), data, OPTIONS, is_joined=True))
    assert [len(batch) for batch in joined] == [2] * 6
