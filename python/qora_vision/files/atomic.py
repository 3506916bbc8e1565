"""Replace a file as a whole: readers see the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing. On success it is renamed to `path`, else removed.

    The content reaches the disk before the rename. A symbolic link is followed, and permissions of an
    existing file are kept. If anything fails, the file at `path` is unchanged.

    Raises
    ------
    OSError
        If the target cannot be written: no permission, no directory, disk full, not a regular file; on
        Windows also when a program (this one included) still has the old file mapped.
    """
    with replace_path(path) as temporary, temporary.open("xb") as file:
        yield file


@contextlib.contextmanager
def replace_path(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield the name of a temporary file beside `path`. The block writes it; then as `replace_file`.

    Parameters
    ----------
    path
        The target.
    suffix
        Of the temporary name, for writers that choose a format by it.

    Raises
    ------
    OSError
        As `replace_file` does; also if the block has written nothing.
    """
    target = Path(os.path.realpath(path))
    # Short enough for every file system, whatever the length of the target's name.
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}{suffix}")
    try:
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "the target is not a regular file", str(path))
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(target)
    except OSError as error:
        _remove(temporary)
        reason = error.strerror or str(error)
        hint = "; on Windows a file that is in use cannot be replaced" if os.name == "nt" else ""
        message = f"cannot save ({reason}); the old file, if there was one, is unchanged{hint}"
        raise OSError(error.errno or errno.EIO, message, str(path)) from error
    except BaseException:
        _remove(temporary)
        raise
    _sync_directory(target.parent)


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _sync_directory(directory: Path) -> None:
    """Make the rename durable where the system supports it; errors of other file systems are ignored."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
