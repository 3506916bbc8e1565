"""The architectures: a folder for each, their common base, and the registry that lists them.

A folder holds a config, a network and a checkpoint map. This room may import `nn`, `weights`, `engine` and
`errors`, and no other room.
"""
