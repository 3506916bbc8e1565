"""Weights on disk: the `.qora-vision` file, and readers for other people's checkpoints."""
