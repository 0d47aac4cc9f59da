"""Accuracy back without training: weights refitted, statistics estimated anew."""
