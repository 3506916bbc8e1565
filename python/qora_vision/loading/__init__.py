"""From a model's name to its weights: finding, downloading and reading a model, converting checkpoints.

`resolve.load_network` is the entry point. This room may import `models`, `nn`, `weights`, `video`, `engine`,
`files` and `errors`, and no other room.
"""
