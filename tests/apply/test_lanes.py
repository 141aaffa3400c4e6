import threading
from collections.abc import Iterator
from itertools import count

import pytest
import torch

from pellucid.apply.lanes import run_lanes


def test_results_come_in_order_and_two_run_at_once() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(item: int) -> int:
        both.wait()  # passes only where another is at work
        return 10 * item

    assert list(run_lanes(work, iter(range(6)), 2)) == [0, 10, 20, 30, 40, 50]


def test_cores_are_shared_and_given_back() -> None:
    before = torch.get_num_threads()
    shares = list(run_lanes(lambda _: torch.get_num_threads(), iter(range(4)), 2))
    assert shares == 4 * [max(before // 2, 1)]
    assert torch.get_num_threads() == before


def test_work_that_is_too_much_beside_others_is_done_alone() -> None:
    running, alone = [0], list[int]()

    def work(item: int) -> int:
        running[0] += 1
        try:
            if not alone and item:
                alone.append(item)
                raise MemoryError
            assert item < 3 or running[0] == 1
            return item
        finally:
            running[0] -= 1

    assert list(run_lanes(work, iter(range(5)), 2, MemoryError)) == [0, 1, 2, 3, 4]
    with pytest.raises(MemoryError):
        list(run_lanes(_refuse, iter(range(5)), 2, MemoryError))


def test_an_error_is_raised_in_its_place_and_no_more_is_taken() -> None:
    taken = list[int]()

    def items() -> Iterator[int]:
        for i in count():
            taken.append(i)
            yield i

    results = run_lanes(lambda i: 1 // (2 - i), items(), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(taken) <= 5


def _refuse(item: int) -> int:
    raise MemoryError(item)
