"""videomae: its network, and the names of its tensors in checkpoints."""
