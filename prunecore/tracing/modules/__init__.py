"""Modules as a trace meets them: what is read off them, their hooks, what they return."""
