from dataclasses import replace

import pytest
import torch

from pellucid.data.batch import Batch


def item(key: str, *, radar: bool = True) -> Batch:
    return Batch(
        degraded=torch.full((1, 3, 4, 4), float(len(key))),
        valid=torch.ones(1, 1, 4, 4, dtype=torch.bool),
        key=(key,),
        sar=torch.zeros(1, 2, 4, 4) if radar else None,
    )


def test_items_are_joined_in_their_order() -> None:
    batch = Batch.cat([item("a"), item("bb")])
    assert len(batch) == 2
    assert batch.key == ("a", "bb")
    assert batch.degraded[:, 0, 0, 0].tolist() == [1.0, 2.0]
    assert batch.target is None


def test_a_field_that_only_some_items_have_is_refused() -> None:
    with pytest.raises(ValueError, match="sar is given for some items"):
        Batch.cat([item("a"), item("b", radar=False)])


def test_images_are_named_without_the_missing_ones() -> None:
    assert set(item("a", radar=False).images()) == {"degraded", "valid"}


def test_prompts_are_joined_like_keys_and_must_be_given_for_all_or_none() -> None:
    a, b = (replace(item(text), prompt=(text,)) for text in ("lake", "forest"))
    assert Batch.cat([a, b]).prompt == ("lake", "forest")
    assert Batch.cat([a, b]).to("cpu").prompt == ("lake", "forest")
    with pytest.raises(ValueError, match="prompt is given for some items"):
        Batch.cat([a, item("b")])


def test_the_corner_of_a_batch_has_as_many_rows_of_the_result_from_a_smaller_input() -> None:
    batch = Batch(
        degraded=torch.arange(16.0).view(1, 1, 4, 4), valid=torch.ones(1, 1, 8, 8).bool(), key=("a",)
    ).corner(4)
    torch.testing.assert_close(batch.degraded, torch.tensor([[[[0.0, 1.0], [4.0, 5.0]]]]))
    assert batch.valid.shape == (1, 1, 4, 4)
