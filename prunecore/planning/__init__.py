"""Planning: which channels go, so that a level is reached."""
