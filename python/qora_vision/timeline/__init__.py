"""Segments of a video (start, end, label, scores), and the formats of files that they are written in.

This room knows neither videos nor models. It may import `errors`, and no other room.
"""
