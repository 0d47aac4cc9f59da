"""Training by Lightning: the module, what it is trained for, and the loop."""
