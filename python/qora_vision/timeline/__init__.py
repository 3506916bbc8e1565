"""Segments of a video: start, end, label and scores.

Formats of results, such as subtitles, belong here. This room knows neither videos nor models. It may import
`errors`, and no other room.
"""
