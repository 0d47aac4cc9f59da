"""Walking through a network, channel ids in the place of tensors."""
