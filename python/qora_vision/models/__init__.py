"""The architectures: a folder each, what they share, and the registry that lists them."""
