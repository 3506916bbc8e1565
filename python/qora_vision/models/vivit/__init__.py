"""vivit: its network, and how it is read from checkpoints."""
