"""Making the next items of an iterator in a thread, while the caller works on the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Full, Queue
from threading import Event, Thread, current_thread
from typing import Generic, TypeVar

T = TypeVar("T")

# Seconds after which a thread that waits looks whether it shall stop.
_PATIENCE = 0.1
# Seconds to wait for a thread that shall stop: one that waits for a pipe or a server may never come back.
_FAREWELL = 1.0


def read_ahead(make: Callable[[Callable[[], bool]], Iterator[T]], count: int = 2) -> Iterator[T]:
    """Return the items of an iterator, which runs in a thread of its own.

    Parameters
    ----------
    make
        Returns the iterator, which is used, and closed, by the thread alone. It is called at once, with a
        function that says whether the items are no longer wanted: the iterator may then end.
    count
        How many items may wait to be taken.

    Raises
    ------
    Whatever `make` raises, at the call; whatever the iterator raises, after the items before it.
    """
    stopped = Event()
    return _read(make(stopped.is_set), stopped, count)


def _read(items: Iterator[T], stopped: Event, count: int) -> Iterator[T]:
    reader = _Reader(items, stopped, count)
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

    def __init__(self, items: Iterator[T], stopped: Event, count: int) -> None:
        self._source = items
        self._queue: Queue[T | _Failure | _End] = Queue(count)
        self._stopped = stopped
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
        """Let the thread end, and wait for it a moment."""
        self._stopped.set()
        # An abandoned iterator may be collected, and so closed, in any thread.
        if self._thread is not current_thread():
            self._thread.join(_FAREWELL)

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
