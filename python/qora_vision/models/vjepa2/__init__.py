"""vjepa2: its network, and how it is read from checkpoints."""
