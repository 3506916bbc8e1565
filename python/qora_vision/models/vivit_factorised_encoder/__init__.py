"""vivit_factorised_encoder: its network, and the names of its tensors in checkpoints."""
