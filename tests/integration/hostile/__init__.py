"""Names and constants that would be taken for code, and the places where they can stand."""
