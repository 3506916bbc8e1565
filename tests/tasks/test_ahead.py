"""Reading ahead in a thread: it ends with the iterator that it feeds, and never holds up the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from qora_vision.tasks.ahead import read_ahead


def test_a_thread_that_waits_for_a_source_holds_up_nobody() -> None:
    come = threading.Event()

    def waiting(stopped: Callable[[], bool]) -> Iterator[int]:
        yield 0
        come.wait(60)

    items = read_ahead(waiting)
    assert next(items) == 0
    threads = [each for each in threading.enumerate() if each.name == "qora-vision reader"]
    started = time.monotonic()
    items.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 30
    come.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_the_iterator_learns_that_it_may_end() -> None:
    ended = threading.Event()

    def endless(stopped: Callable[[], bool]) -> Iterator[int]:
        yield 0
        while not stopped():
            time.sleep(0.01)
        ended.set()

    items = read_ahead(endless)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert ended.is_set()
