"""Checks for plugin authors: of a block that a plugin owns, and of a plugin as it is installed."""

from prunecore.testing.blocks import check_block
from prunecore.testing.installation import check_plugin

__all__ = ["check_block", "check_plugin"]
