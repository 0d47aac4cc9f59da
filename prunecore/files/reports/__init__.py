"""Reports of pruned and inspected networks, and what belongs into one."""
