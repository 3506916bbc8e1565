"""Other people's checkpoints to our tensors: for each architecture a name map and a config reader."""
