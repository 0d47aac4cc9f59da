"""What a user's own training loop takes from prunecore."""
