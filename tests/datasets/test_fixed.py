import torch
from tests.datasets.test_augment_guides import BANDS, make_guided

from pellucid.data.batch import Batch
from pellucid.datasets import _listing
from pellucid.datasets._fixed import Clouded, Finished, fix


class Guided(_listing.Patches):
    has_older = True
    keys = groups = ("a",)

    def __init__(self, *, is_clear: bool) -> None:
        self.is_clear = is_clear

    def __getitem__(self, index: int) -> Batch:
        return make_guided()


def test_clear_scenes_lie_under_the_same_clouds_each_time_and_pairs_stay() -> None:
    clear, pair = (fix(Guided(is_clear=is_clear), BANDS, 3) for is_clear in (True, False))
    assert isinstance(clear, Clouded)
    assert isinstance(pair, Finished)
    torch.testing.assert_close(clear[0].degraded, clear[0].degraded, equal_nan=True)
    assert not torch.equal(clear[0].degraded.nan_to_num(), make_guided().degraded.nan_to_num())
    torch.testing.assert_close(pair[0].degraded, make_guided().degraded, equal_nan=True)
    older, raw = pair[0].older, make_guided().older
    assert older is not None
    assert raw is not None
    assert not torch.equal(older.nan_to_num(), raw.nan_to_num())
