"""Plugins: found, loaded, checked, and the core's own."""
