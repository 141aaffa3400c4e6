"""An iterator that another thread runs ahead of whoever takes from it, so that both work at once."""

import threading
from collections.abc import Generator, Iterator
from queue import Full, Queue
from typing import Generic, NamedTuple, TypeVar

import rasterio

# Seconds after which a thread looks whether anybody still wants what it makes.
LOOK = 0.1
Item = TypeVar("Item")


class _Made(NamedTuple, Generic[Item]):
    """What a thread has made: items, and at the end None, or the error that ended it."""

    items: tuple[Item, ...] = ()
    error: BaseException | None = None


def run_ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """Yield the same items in the same order; up to `depth` of them, and one more, are made ahead.

    An error of `items` is raised where its item would have been. When nobody takes from the iterator any
    more, `items` is closed as soon as it has made the one that it is at.
    """
    made, is_over = Queue[_Made[Item]](maxsize=depth), threading.Event()
    thread = threading.Thread(target=_make, args=(items, made, is_over), daemon=True)
    thread.start()
    try:
        while (found := made.get()).items:
            yield from found.items
        if found.error:
            raise found.error
    finally:
        is_over.set()
        while thread.is_alive():
            thread.join(LOOK)


def _make(items: Iterator[Item], made: "Queue[_Made[Item]]", is_over: threading.Event) -> None:
    """Put item after item into the queue, until there is none or nobody wants one."""
    last = _Made[Item]()
    try:
        with rasterio.Env():  # GDAL is set up thread by thread
            for item in items:
                if not _put(_Made((item,)), made, is_over):
                    return
    except BaseException as error:  # raised again where the item was wanted
        last = _Made(error=error)
    finally:
        if close := getattr(items, "close", None):
            close()
        _put(last, made, is_over)


def _put(item: "_Made[Item]", made: "Queue[_Made[Item]]", is_over: threading.Event) -> bool:
    """Put one item into the queue; return whether anybody wants it."""
    while not is_over.is_set():
        try:
            made.put(item, timeout=LOOK)
        except Full:
            continue
        return True
    return False
