"""The same work on one item after another, on a few at once, each with its share of the processor's cores.

Two tiles with one core each take three quarters of the time of one after the other with two: most layers are
too small to be shared well.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_lanes(
    work: Callable[[Item], Result],
    items: Iterator[Item],
    lanes: int,
    too_much: type[Exception] | tuple[type[Exception], ...] = (),
) -> Generator[Result]:
    """Yield what `work` returns of each item, in the order of the items; up to `lanes` run at once.

    Work that fails with an error of `too_much` beside others is done again alone, as is all that follows.
    """
    threads = torch.get_num_threads()
    share = max(threads // lanes, 1)
    running = deque[tuple[Item, Future[Result], int]]()
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(share,))

    def start_more() -> None:
        for item in islice(items, lanes - len(running)):
            running.append((item, pool.submit(work, item), lanes))

    try:
        start_more()
        while running:
            item, future, beside = running.popleft()
            try:
                result = future.result()
            except too_much:
                if beside == 1:
                    raise
                lanes = 1
                wait([other for _, other, _ in running])
                result = pool.submit(work, item).result()
            start_more()
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
