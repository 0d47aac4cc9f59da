"""Channels: the ids of a tensor's places, what is bound and coupled, and what is kept."""
