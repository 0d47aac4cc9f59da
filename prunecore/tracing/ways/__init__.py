"""The ways that one forward goes, and the graph that holds several."""
