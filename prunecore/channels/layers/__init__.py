"""What plugins tell of layers beside their channels: products, units, maps, functions over the kept."""
