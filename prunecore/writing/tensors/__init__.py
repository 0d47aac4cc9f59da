"""Tensors of written classes: what they start with, constants, and which are frozen."""
