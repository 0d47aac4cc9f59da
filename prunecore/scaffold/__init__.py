"""Projects for new plugins, as `prunecore plugins new` writes them."""
