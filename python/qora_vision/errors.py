"""Exceptions of the package: each is also a `ValueError` and says what was wrong, expected and to be done."""


class QoraVisionError(Exception):
    """Base class of every error that the package raises on purpose."""


class VideoError(QoraVisionError, ValueError):
    """A video, image or frame array that cannot be used."""


class CheckpointError(QoraVisionError, ValueError):
    """A checkpoint whose configuration or weights are wrong, incomplete or refused."""


class ModelFileError(QoraVisionError, ValueError):
    """A `.qora-vision` file that is damaged, unsupported or not such a file at all."""


class IsaError(QoraVisionError, ValueError):
    """An instruction set that is unknown, or that this CPU lacks."""
