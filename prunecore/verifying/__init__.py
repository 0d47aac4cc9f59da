"""Verifying: the written network beside the original with what goes set to zero."""
