"""Exceptions of the package: each says what was wrong, what was expected and what to do.

Each is also a `ValueError`, or an `OSError` where the fault lies outside the program.
"""


class QoraVisionError(Exception):
    """Base class of every error that the package raises on purpose."""


class VideoError(QoraVisionError, ValueError):
    """A video, image or frame array that cannot be used."""


class CheckpointError(QoraVisionError, ValueError):
    """A checkpoint whose configuration or weights are wrong, incomplete or refused."""


class DownloadError(QoraVisionError, OSError):
    """A model that cannot be fetched: unknown, forbidden, out of reach, or damaged on the way."""


class ModelFileError(QoraVisionError, ValueError):
    """A `.qora-vision` file that is damaged, unsupported or not such a file at all."""


class IsaError(QoraVisionError, ValueError):
    """An instruction set that is unknown, or that this CPU lacks."""
