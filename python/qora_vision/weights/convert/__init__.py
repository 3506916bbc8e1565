"""Other people's checkpoints to our tensors: for each architecture a module with a name map and a config reader."""
