"""Making the next items of an iterator in a thread, while the caller works on the last one."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

# Seconds after which a thread that waits looks whether it shall stop.
_PATIENCE = 0.1


def read_ahead(items: Iterator[T], count: int = 2) -> Iterator[T]:
    """Yield the items of an iterator, which runs in a thread of its own.

    Parameters
    ----------
    items
        Is used, and closed, by the thread alone.
    count
        How many items may wait to be taken.

    Raises
    ------
    Whatever the iterator raises, after the items before it.
    """
    reader = _Reader(items, count)
    try:
        yield from reader.items()
    finally:
        reader.stop()


class _Failure:
    """What the iterator raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _End:
    """There are no more items."""


class _Reader(Generic[T]):
    """A thread that takes items from an iterator, and the queue that it puts them into."""

    def __init__(self, items: Iterator[T], count: int) -> None:
        self._source = items
        self._queue: Queue[T | _Failure | _End] = Queue(count)
        self._stopped = Event()
        self._thread = Thread(target=self._read, name="qora-vision reader", daemon=True)
        self._thread.start()

    def items(self) -> Iterator[T]:
        """Yield what the thread has made."""
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item

    def stop(self) -> None:
        """Let the thread end, and wait for it."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except Empty:
                self._thread.join(_PATIENCE)

    def _read(self) -> None:
        last: _Failure | _End = _End()
        try:
            for item in self._source:
                if not self._put(item):
                    break
        except BaseException as error:  # raised again where the items are wanted
            last = _Failure(error)
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        self._put(last)

    def _put(self, item: T | _Failure | _End) -> bool:
        """Hand an item over; False if nobody wants it any more."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
            except Full:
                continue
            return True
        return False
