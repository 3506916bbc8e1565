"""vjepa2: its network, and the names of its tensors in checkpoints."""
