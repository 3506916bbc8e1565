"""vivit_factorised_attention: its network, and how it is read from checkpoints."""
