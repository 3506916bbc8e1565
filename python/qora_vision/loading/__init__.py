"""From a name to a network that is ready: where a model is found, and how a checkpoint is converted."""
