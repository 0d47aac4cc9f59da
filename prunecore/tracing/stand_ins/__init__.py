"""Stand-ins: what a traced forward meets for tensors, numbers and functions of Python and torch."""
