"""Segments and their file formats: subtitles, tables, edit lists, annotation files.

A segment is a stretch of a video with a start, an end, a label and scores.

This room knows neither videos nor models. It may import `errors`, and no other room.
"""
