"""Ways to a level: in one step or in several, by one criterion or by the best of some."""
