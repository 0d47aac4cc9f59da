"""What the commands do, from a configuration to files."""
