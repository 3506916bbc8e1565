"""Weights on disk: the `.qora-vision` file, readers for published checkpoints, and name maps.

This room knows no model: a model describes its checkpoints in a `maps.CheckpointMap`. It may import `engine`,
`files` and `errors`, and no other room.
"""
