"""Sweeps for prunecore: cells of a grid as tasks of Ray, one table, one picture, and a command."""
