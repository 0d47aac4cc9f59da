"""Which channels go to reach a level."""
