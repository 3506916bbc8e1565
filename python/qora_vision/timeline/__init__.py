"""Stretches of time in videos, and the files that they are written to; knows no model and no video."""
