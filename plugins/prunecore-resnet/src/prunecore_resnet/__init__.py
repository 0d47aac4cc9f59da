"""Residual blocks, for prunecore."""
