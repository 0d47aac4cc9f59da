"""Forwards as statements: from a trace to the lines that a person would write, and their names."""
