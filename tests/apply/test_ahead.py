import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest

from pellucid.apply.ahead import run_ahead


def test_the_items_are_the_same_in_the_same_order() -> None:
    assert list(run_ahead(iter(range(50)), 3)) == list(range(50))
    assert list(run_ahead(iter(()), 1)) == []


def test_the_next_items_are_made_while_one_is_used() -> None:
    is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        yield 1
        is_made.set()

    with closing(run_ahead(items(), 2)) as ahead:
        assert next(ahead) == 0
        assert is_made.wait(10)


def test_no_more_than_depth_and_one_are_made_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for i in count():
            made.append(i)
            yield i

    with closing(run_ahead(items(), 2)) as ahead:
        for i in range(20):
            assert next(ahead) == i
            assert len(made) <= i + 1 + 2 + 1


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 7
        raise KeyboardInterrupt("stop")

    ahead = run_ahead(items(), 4)
    assert next(ahead) == 7
    with pytest.raises(KeyboardInterrupt, match="stop"):
        next(ahead)


def test_what_nobody_wants_any_more_is_closed_in_its_own_thread() -> None:
    closed_in = []

    def items() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed_in.append(threading.current_thread())

    before = threading.active_count()
    with closing(run_ahead(run_ahead(items(), 1), 1)) as ahead:
        assert next(ahead) == 0
    assert threading.active_count() == before
    assert len(closed_in) == 1
    assert closed_in[0] is not threading.current_thread()
