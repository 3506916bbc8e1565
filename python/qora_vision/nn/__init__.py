"""Layers of neural networks: each lists its tensors, packs them for an `Engine`, and runs on it."""
