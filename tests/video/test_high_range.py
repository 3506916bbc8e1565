"""Hybrid log-gamma (ITU-R BT.2100) brought to BT.709, against its formulas in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qora_vision.errors import VideoError
from qora_vision.video import VideoReader
from qora_vision.video.decoders.pyav import av

# FFmpeg's numbers of HLG (arib-std-b67), of BT.2020's primaries and its matrix, and of the limited range.
HLG, BT2020, BT2020_MATRIX, LIMITED = 18, 9, 9, 1
LUMA = np.array([0.2627, 0.6780, 0.0593])  # BT.2100, table 5
# From linear BT.2020 to linear BT.709: ITU-R BT.2407, section 2.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
PEAK, WHITE, GAMMA = 1000.0, 203.0, 1.2  # cd/m^2: BT.2100 table 5; ITU-R BT.2408; BT.2100 note 5f


def codes_of(rgb: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n, 3) non-linear R'G'B' to 10-bit Y'CbCr of the limited range: BT.2100, tables 6 and 9."""
    luma = rgb @ LUMA
    blue, red = (rgb[:, 2] - luma) / 1.8814, (rgb[:, 0] - luma) / 1.4746
    return np.rint(4 * np.stack([219 * luma + 16, 224 * blue + 128, 224 * red + 128], 1)).astype(int)


def shown(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a display of BT.709's colours shows in 0..255, its white at HLG's reference white."""
    luma, blue, red = (codes / 4 - [16, 128, 128]).T / np.array([[219], [224], [224]])
    signal = np.empty((len(codes), 3))
    signal[:, 0], signal[:, 2] = luma + 1.4746 * red, luma + 1.8814 * blue
    signal[:, 1] = (luma - signal[:, [0, 2]] @ LUMA[[0, 2]]) / LUMA[1]
    signal = signal.clip(0, 1)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light = PEAK * (scene @ LUMA)[:, None] ** (GAMMA - 1) * scene
    return 255 * ((light @ TO_BT709.T) / WHITE).clip(0, 1) ** (1 / 2.4)  # BT.1886


def write(path: Path, codes: NDArray[np.int64]) -> None:
    """A frame of one colour for each row of codes, without loss."""
    try:
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=25, options={"qp": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
            context = stream.codec_context
            context.thread_count = 1
            context.color_trc, context.color_primaries = HLG, BT2020
            context.colorspace, context.color_range = BT2020_MATRIX, LIMITED
            for row in codes:
                frame = av.VideoFrame(64, 48, "yuv420p10le")
                for plane, code in zip(frame.planes, row, strict=True):
                    plane.update(np.full(plane.buffer_size // 2, code, np.uint16).tobytes())
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    except (ValueError, LookupError) as error:
        pytest.skip(f"this build of PyAV cannot write 10-bit H.264: {error}")


def test_hybrid_log_gamma(tmp_path: Path) -> None:
    """Greys up to white and past it, and mild colours."""
    greys = np.linspace(0, 1, 21)[:, None].repeat(3, 1)
    colours = 0.4 + 0.08 * np.random.default_rng(5).random((40, 3))
    codes = codes_of(np.concatenate([greys, colours]))
    write(tmp_path / "hlg.mkv", codes)
    if int(av.__version__.partition(".")[0]) < 18:
        with pytest.raises(VideoError, match=r"high dynamic range \(HLG\)"):
            VideoReader(tmp_path / "hlg.mkv").read([0])
        return
    with VideoReader(tmp_path / "hlg.mkv") as reader:
        got = np.array([frame[24, 32] for frame in reader], float)
    expected = shown(codes)
    # Half a level for rounding, half for FFmpeg's table of colours. FFmpeg draws colours towards grey, to
    # keep those that BT.709 lacks apart: the mild ones here by less than a tenth of their distance from it.
    allowed = 1 + 0.1 * np.ptp(expected, axis=1, keepdims=True)
    assert (np.abs(got - expected) <= allowed).all()
