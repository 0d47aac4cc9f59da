"""YOLO of ultralytics, for prunecore: from its configuration, and back into its trainer."""

from __future__ import annotations

from prunecore_yolo.ultralytics_models import graft

__all__ = ["graft"]
