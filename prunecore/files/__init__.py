"""Files that are read and written: configuration, models, weights, reports, written sets."""
