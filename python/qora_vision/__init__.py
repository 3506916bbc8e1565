"""Video understanding on ordinary CPUs.

>>> import qora_vision
>>> clf = qora_vision.load("camera-motion")  # doctest: +SKIP
>>> for label, score in clf.classify("clip.mp4"):  # doctest: +SKIP
...     print(f"{score:6.1%}  {label}")
"""

from qora_vision.engine.ops import Compute, available_isas, cpu_info, set_num_threads
from qora_vision.errors import (
    CheckpointError,
    DownloadError,
    IsaError,
    ModelFileError,
    QoraVisionError,
    QoraVisionWarning,
    TaskError,
    VideoError,
)
from qora_vision.loading.bundled import BundledClip, BundledModel, demo_clip, list_bundled, read_info
from qora_vision.loading.hub import CachedModel, ModelCache
from qora_vision.loading.options import ValueRange, Weights
from qora_vision.tasks.annotate import ANNOTATION_FORMATS, annotate
from qora_vision.tasks.classify import VideoClassifier
from qora_vision.tasks.compare import ClipComparison, Comparison, class_order, compare
from qora_vision.tasks.convert import convert
from qora_vision.tasks.embed import Encoder
from qora_vision.tasks.export import format_tracks, make_track, write_tracks
from qora_vision.tasks.frames import SamplingRule
from qora_vision.tasks.load import list_models, load
from qora_vision.tasks.prediction import Prediction, Window
from qora_vision.tasks.segments import join_windows
from qora_vision.tasks.stream import stream
from qora_vision.timeline.formats import FORMATS as TIMELINE_FORMATS
from qora_vision.timeline.segment import Segment
from qora_vision.timeline.track import Track
from qora_vision.video.decoders.survey import DecoderReport, list_decoders
from qora_vision.weights.format import ModelHeader as ModelInfo

__version__: str

__all__ = [
    "ANNOTATION_FORMATS",
    "TIMELINE_FORMATS",
    "BundledClip",
    "BundledModel",
    "CachedModel",
    "CheckpointError",
    "ClipComparison",
    "Comparison",
    "Compute",
    "DecoderReport",
    "DownloadError",
    "Encoder",
    "IsaError",
    "ModelCache",
    "ModelFileError",
    "ModelInfo",
    "Prediction",
    "QoraVisionError",
    "QoraVisionWarning",
    "SamplingRule",
    "Segment",
    "TaskError",
    "Track",
    "ValueRange",
    "VideoClassifier",
    "VideoError",
    "Weights",
    "Window",
    "__version__",
    "annotate",
    "available_isas",
    "class_order",
    "compare",
    "convert",
    "cpu_info",
    "demo_clip",
    "format_tracks",
    "join_windows",
    "list_bundled",
    "list_decoders",
    "list_models",
    "load",
    "make_track",
    "read_info",
    "set_num_threads",
    "stream",
    "write_tracks",
]


def __getattr__(name: str) -> str:
    """Look up `__version__` on first use: reading package metadata is slow."""
    if name != "__version__":
        raise AttributeError(f"module 'qora_vision' has no attribute {name!r}")
    from importlib.metadata import version

    return version("qora-vision")
