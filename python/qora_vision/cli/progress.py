"""Progress of long work: a bar on stderr if stderr is a terminal, else nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


class Progress:
    """A bar that follows `progress(done, total, what)`; use it in a `with` block and pass it to `load()`.

    The bar is erased when the work is done, so that only results stay on the screen.
    """

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._what = ""
        self._bar: Any = None
        self._hidden = False

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` steps of `what` are done."""
        if not self._shown:
            return
        if self._bar is None or what != self._what:
            self.close()
            self._what = what
            self._bar = tqdm(total=total, desc=what, leave=False, file=sys.stderr, dynamic_ncols=True)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if self._hidden:
            self._bar.refresh()
            self._hidden = False

    def hide(self) -> None:
        """Erase the bar until the next step, so that a result can be printed."""
        if self._bar is not None:
            self._bar.clear()
            self._hidden = True

    def close(self) -> None:
        """Erase the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
