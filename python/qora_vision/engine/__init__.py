"""Typed calls into the kernels: `ops` and `Engine`, and quantised tensors.

This room knows no model and no file. It may import `_core` and `errors`, and no other room.
"""
