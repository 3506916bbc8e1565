"""Quantising with the help of a few clips: what comes into a layer decides how its weights are rounded."""

from qora_vision.loading.calibration.calibrated import calibrate

__all__ = ["calibrate"]
