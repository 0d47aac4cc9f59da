"""New plugin projects, for `prunecore plugins new`."""
