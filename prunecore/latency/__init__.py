"""Latency: how long a network takes on a machine, and what a table of layers says of it."""
