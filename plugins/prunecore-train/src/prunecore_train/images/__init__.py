"""Labelled images: read by name, parted, and given in batches."""
