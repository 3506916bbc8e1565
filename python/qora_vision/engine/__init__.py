"""How ops run: quantised tensors and typed calls into the native kernels."""
