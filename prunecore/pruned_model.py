"""A smaller network: built, written, told of, and saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunecore.errors import check_kind
from prunecore.files.shards import SHARD_SIZE, shard_size_of, split
from prunecore.files.storage import save_set
from prunecore.planning.plan import Plan
from prunecore.writing.source_file import reading_shards


@dataclass(frozen=True)
class PrunedModel:
    """A smaller network.

    Attributes:
        model: built from the written source, with its weights.
        source: the text of the written file.
        weights: its state dict, with the original's keys.
        report: what was asked, what came of it, and the proof; contract keys, schema 1.
        plan: which channels stay, and what that comes to.
    """

    model: nn.Module
    source: str
    weights: dict[str, Tensor]
    report: dict[str, Any]
    plan: Plan

    def save(
        self, path: str | Path, force: bool = False, shard_size: int | str = SHARD_SIZE
    ) -> tuple[Path, Path, Path]:
        """Write the three files that belong together; all or none appear.

        Args:
            path: of the .py file; the weights and the report lie beside it.
            force: whether to replace a set that is there.
            shard_size: bytes, or such as `500MB`: larger weights are written in several files,
                shards, with an index.

        Returns:
            The paths of the .py, .safetensors and .json file; of shards that of their index.
        """
        check_kind("The path", path, (str, Path), "Give that of a .py file, such as 'net_50.py'.")
        parts = split(self.weights, shard_size_of(shard_size))
        source = self.source if len(parts) == 1 else reading_shards(self.source)
        return save_set(Path(path), source, parts, self.report, force)

    def __repr__(self) -> str:
        verified = self.report["verified"]
        proof = (
            f"exact to {verified['max_relative_difference']:.0e}" if verified else "not verified"
        )
        return f"PrunedModel({self.report['model']}, {self.report['mode']}, {self.plan}, {proof})"
