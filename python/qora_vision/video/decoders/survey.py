"""Which decoders of videos are installed, and what each of these builds decodes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qora_vision.errors import VideoError
from qora_vision.video._opencv import load_opencv, quiet
from qora_vision.video.decoders import DECODERS, decoder_name

# Codec -> decoders of FFmpeg, an encoder to try OpenCV with, and the container for that.
_CODECS = {
    "h264": (("h264",), "libx264", ".mp4"),
    "hevc": (("hevc",), "libx265", ".mp4"),
    "vp8": (("vp8", "libvpx"), "libvpx", ".webm"),
    "vp9": (("vp9", "libvpx-vp9"), "libvpx-vp9", ".webm"),
    "av1": (("libdav1d", "libaom-av1"), "libaom-av1", ".mp4"),
    "mpeg4": (("mpeg4",), "mpeg4", ".mp4"),
    "mpeg2video": (("mpeg2video",), "mpeg2video", ".mpg"),
    "mjpeg": (("mjpeg",), "mjpeg", ".avi"),
    "prores": (("prores",), "prores_ks", ".mov"),
}
_PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}


@dataclass(frozen=True)
class DecoderReport:
    """One decoder of videos.

    Attributes
    ----------
    name
        "pyav" or "opencv".
    version
        Of the package and of FFmpeg's libavcodec in it; empty if it cannot be loaded.
    default
        Whether it is what decodes unless told otherwise.
    codecs
        Those that this build decodes, of the usual ones.
    problem
        Why it cannot be used and what to do; empty if it can.
    """

    name: str
    version: str
    default: bool
    codecs: tuple[str, ...]
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return {**asdict(self), "codecs": list(self.codecs)}


def list_decoders() -> list[DecoderReport]:
    """Load each decoder and find out what it decodes; takes a second."""
    try:
        chosen = decoder_name()
    except VideoError as error:
        chosen = DECODERS[0]
        wrong = str(error)
    else:
        wrong = ""
    reports = []
    for name, ask in (("pyav", _ask_pyav), ("opencv", _ask_opencv)):
        try:
            version, codecs = ask()
            problem = wrong if name == chosen else ""
        except VideoError as error:
            version, codecs, problem = "", (), str(error)
        reports.append(DecoderReport(name, version, name == chosen, codecs, problem))
    return reports


def _ask_pyav() -> tuple[str, tuple[str, ...]]:
    from qora_vision.video.decoders.pyav import av

    numbers = av.library_versions["libavcodec"]
    version = f"PyAV {av.__version__} with libavcodec {'.'.join(map(str, numbers))}"
    known = av.codecs_available
    found = [
        name
        for name, (decoders, _, _) in _CODECS.items()
        if any(_decodes(av, each, known) for each in decoders)
    ]
    return version, tuple(found)


def _decodes(av: Any, name: str, known: set[str]) -> bool:
    if name not in known:
        return False
    try:
        return bool(av.codec.Codec(name, "r").is_decoder)
    except (ValueError, av.error.FFmpegError):
        return False


def _ask_opencv() -> tuple[str, tuple[str, ...]]:
    """Try OpenCV, which cannot be asked, on a picture in each codec."""
    cv2 = load_opencv()
    lines = (line.strip() for line in cv2.getBuildInformation().splitlines())
    library = next(
        (line.partition("YES (")[2].rstrip(")") for line in lines if line.startswith("avcodec:")), ""
    )
    version = f"OpenCV {cv2.__version__}" + (f" with libavcodec {library}" if library else "")
    backends = [
        cv2.videoio_registry.getBackendName(each) for each in cv2.videoio_registry.getStreamBackends()
    ]
    if "FFMPEG" not in backends:
        raise VideoError(
            "this build of OpenCV has no FFmpeg, so it reads and writes few videos: pip install opencv-python"
        )
    found = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        for name, (_, encoder, suffix) in _CODECS.items():
            path = Path(folder) / f"{name}{suffix}"
            if _write_sample(path, encoder, _PIXELS.get(name, "yuv420p")) and _reads(cv2, path):
                found.append(name)
    return version, tuple(found)


def _write_sample(path: Path, encoder: str, pixels: str) -> bool:
    """Write one grey picture; False where PyAV is missing or lacks the encoder."""
    try:
        from qora_vision.video.decoders.pyav import av

        with av.open(str(path), "w") as container:
            # Encoders that tell the terminal what they do, unless asked not to.
            quiet_x265 = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
            os.environ.setdefault("SVT_LOG", "0")
            stream = container.add_stream(encoder, rate=25, options=quiet_x265)
            stream.width, stream.height, stream.pix_fmt = 128, 128, pixels
            stream.codec_context.thread_count = 1
            for _ in range(2):
                container.mux(stream.encode(av.VideoFrame(128, 128, pixels)))
            container.mux(stream.encode(None))
    except (VideoError, ValueError, OSError, LookupError, av.error.FFmpegError):
        return False
    return True


def _reads(cv2: Any, path: Path) -> bool:
    capture = cv2.VideoCapture(str(path))
    try:
        return bool(capture.isOpened() and capture.read()[0])
    except cv2.error:
        return False
    finally:
        capture.release()
