"""Criteria of importance: one score a channel, low goes first."""
