"""vivit_factorised_attention: its network, and the names of its tensors in checkpoints."""
