"""Writing: the smaller network as Python source, and its weights."""
