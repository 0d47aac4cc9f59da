"""Importance: one score a channel."""
