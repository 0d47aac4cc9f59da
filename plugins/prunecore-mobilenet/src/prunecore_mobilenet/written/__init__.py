"""The classes as they are written: a class's text here is its text in a written file."""
