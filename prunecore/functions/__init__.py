"""What each function does to channel ids."""
