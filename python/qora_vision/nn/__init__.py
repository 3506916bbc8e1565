"""Layers of neural networks: each lists its tensors, packs them for an `Engine`, and runs on it.

This room holds the layers that several models share. A layer that one model needs stays in `models/<name>/`.
It may import `engine` and `errors`, and no other room.
"""
