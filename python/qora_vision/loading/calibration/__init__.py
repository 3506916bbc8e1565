"""Calibrated quantisation: the inputs of a layer on a few clips decide how its weights are rounded."""

from qora_vision.loading.calibration.calibrated import calibrate

__all__ = ["calibrate"]
