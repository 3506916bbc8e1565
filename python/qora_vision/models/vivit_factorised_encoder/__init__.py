"""vivit_factorised_encoder: its network, and how it is read from checkpoints."""
