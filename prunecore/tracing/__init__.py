"""A module's forward as a torch.fx graph."""
