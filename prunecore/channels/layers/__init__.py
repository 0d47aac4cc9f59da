"""What plugins tell of layers beside their channels: products, units, what is scored and kept."""
