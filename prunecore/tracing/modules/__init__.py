"""Modules as a trace meets them: what is read off them, their hooks, and what they return untraced."""
