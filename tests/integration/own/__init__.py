"""Networks that people write: in their style, types and docstrings left out as they do."""
