"""User code runs, and leaves the user's objects as they were."""
