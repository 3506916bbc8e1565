"""Published checkpoints against published logits; skipped unless the files, which we cannot ship, are here.

    QORA_TEST_VIDEOMAE=DIR        a checkpoint of LOGITS as downloaded; the directory has its name
    QORA_TEST_TIMESFORMER=DIR     likewise
    QORA_TEST_VJEPA2=DIR          facebook/vjepa2-vitl-fpc16-256-ssv2 as downloaded; needs no clip
    QORA_TEST_SPAGHETTI=FILE      eating_spaghetti.npy of the Hugging Face data set
                                  hf-internal-testing/spaghetti-video: (16, H, W, 3) uint8

Then `python -m pytest tests/models/test_zoo_published.py`. The logits were recorded with transformers, all
mean and std 0.5, whatever the preprocessor_config.json of the checkpoint says.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from model_bounds import cosine
from published import frames_of, setting

import qora_vision

# First logits; from the conversion scripts and tests of transformers, which check them to 1e-4.
LOGITS = {
    "VIDEOMAE": {
        "videomae-base-finetuned-kinetics": (0.3669, -0.0688, -0.2421),
        "videomae-base-short-finetuned-kinetics": (0.6588, 0.0990, -0.2493),
        "videomae-large-finetuned-kinetics": (0.0771, 0.0011, -0.3625),
        "videomae-huge-finetuned-kinetics": (0.2433, 0.1632, -0.4894),
        "videomae-small-finetuned-kinetics": (-0.9291, -0.4061, -0.9307),
        "videomae-small-finetuned-ssv2": (0.2671, -0.4689, -0.8235),
        "videomae-base-finetuned-ssv2": (0.1961, -0.8337, -0.6389),
        "videomae-base-short-finetuned-ssv2": (-0.0537, -0.1539, -0.3266),
    },
    "TIMESFORMER": {
        "timesformer-base-finetuned-k400": (-0.3016, -0.7713, -0.4205),
        "timesformer-base-finetuned-k600": (-0.7267, -0.7466, 3.2404),
        "timesformer-base-finetuned-ssv2": (-0.9059, 0.6433, -3.1457),
    },
}
# Four decimals were published, checked to 1e-4; resizing may differ by one in a few pixels.
TOLERANCE = 5e-4


@pytest.mark.parametrize("family", LOGITS)
def test_logits_are_those_published(family: str) -> None:
    checkpoint = setting(f"QORA_TEST_{family}", f"directory of one of {', '.join(LOGITS[family])}")
    expected = LOGITS[family][checkpoint.resolve().name]
    clf = qora_vision.load(checkpoint, weights="f32", compute="exact")
    half = (0.5, 0.5, 0.5)
    clf.preprocessing = dataclasses.replace(clf.preprocessing, mean=half, std=half)
    clip = frames_of("QORA_TEST_SPAGHETTI", 16)[: clf.num_frames]
    pixels = clf.preprocess(clip, sampling=range(clf.num_frames))
    logits = clf.forward(pixels)[0]
    np.testing.assert_allclose(logits[:3], expected, rtol=0, atol=TOLERANCE)
    fast = qora_vision.load(checkpoint).forward(pixels)[0]
    slow = qora_vision.load(checkpoint, compute="exact").forward(pixels)[0]
    assert cosine(fast, slow) >= 0.9995
    assert np.argmax(fast) == np.argmax(slow) == np.argmax(logits)


def test_vjepa2_on_frames_that_are_almost_black() -> None:
    """From the tests of transformers: every value of every frame is 1."""
    checkpoint = setting("QORA_TEST_VJEPA2", "directory of vjepa2-vitl-fpc16-256-ssv2")
    clf = qora_vision.load(checkpoint, weights="f32", compute="exact")
    pixels = clf.preprocess(np.ones((16, 256, 256, 3), np.uint8), sampling=range(16))
    logits = clf.forward(pixels)[0]
    np.testing.assert_allclose(logits[100:103], (0.8814, -0.1195, -0.6389), rtol=0, atol=1e-2)
