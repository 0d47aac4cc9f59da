"""Passes over a traced graph before it is written."""
