"""Every model of torchvision that takes images or videos, pruned by half, as docs/models.md shows.

    python benchmarks/models.py [NAME ...] [--write]

Each model is pruned in a process of its own, with the input shape that it was made for, and its
written set is then used in another process, which has neither prunecore nor torchvision. With
`--write` the page is written; else the table is printed. The exit code is 1 where a model does not
hold.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/models.md"
ELSEWHERE = Path(__file__).with_name("elsewhere.py")
LEVEL = 50
FRAMES = {  # of videos
    **dict.fromkeys(("r3d_18", "mc3_18", "r2plus1d_18"), 8),
    **dict.fromkeys(("s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"), 16),
}


def pruned(name: str, folder: Path) -> dict[str, Any]:
    """Prune one model, use its files elsewhere, and tell what came of it."""
    import warnings

    from prunecore.files.models import load_model
    from prunecore.inputs import of_shape
    from prunecore.planning.request import Request
    from prunecore.traced_model import TracedModel

    warnings.simplefilter("ignore")
    loaded = load_model(name, {}, seed=0)
    shape = loaded.input_shape
    if name in FRAMES:
        shape = (shape[0], FRAMES[name], *shape[2:])
    start = time.perf_counter()
    traced = TracedModel(loaded.model, of_shape(shape))
    followed = time.perf_counter()
    small = traced.carry_out(Request(LEVEL, name=name, origin=loaded.origin))
    end = time.perf_counter()
    small.save(folder / f"{name}_{LEVEL}.py")
    report = small.report
    return {
        "name": name,
        "before": report["before"],
        "after": report["after"],
        "difference": report["verified"]["max_relative_difference"],
        "left_whole": len(report["left_whole"]),
        "lines": len(small.source.splitlines()),
        "analysis": followed - start,
        "seconds": end - start,
    }


def row(name: str) -> dict[str, Any]:
    """One model's row, from processes of its own; `error` says what does not hold."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        one = [sys.executable, __file__, "--one", name, folder]
        done = subprocess.run(one, capture_output=True, text=True, env=environment)
        if done.returncode:
            said = " ".join(done.stderr.strip().splitlines()[-2:])
            return {"name": name, "error": re.sub(r"\S*/site-packages/", "", said)}
        found: dict[str, Any] = json.loads(done.stdout)
        file = Path(folder, f"{name}_{LEVEL}.py")
        elsewhere = [sys.executable, str(ELSEWHERE), str(file)]
        done = subprocess.run(elsewhere, capture_output=True, text=True, env=environment)
        if done.returncode:
            return {"name": name, "error": f"elsewhere: {done.stderr.strip().splitlines()[-1]}"}
    return found


def every_name() -> dict[str, list[str]]:
    """The names of torchvision's models, by what they do."""
    from torchvision import models

    modules = {
        "Classification": models,
        "Segmentation": models.segmentation,
        "Video classification": models.video,
    }
    return {title: models.list_models(module=module) for title, module in modules.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = [
        "| model | parameters, M | MACs, G | difference | lines | analysis, s | all, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in rows:
        if "error" in found:
            lines.append(f"| {found['name']} | {found['error']} | | | | | |")
            continue
        params, macs = (
            f"{found['before'][what] / unit:.2f} → {found['after'][what] / unit:.2f}"
            for what, unit in (("params", 1e6), ("macs", 1e9))
        )
        lines.append(
            f"| {found['name']} | {params} | {macs} | {found['difference']:.0e} | "
            f"{found['lines']} | {found['analysis']:.2f} | {found['seconds']:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Prune the models that are named, or all, and print or write the table."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(pruned(arguments[1], Path(arguments[2]))))
        return 0
    named = [argument for argument in arguments if argument != "--write"]
    kinds = {"Named": named} if named else every_name()
    failed = 0
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for title, names in kinds.items():
            rows = []
            for found in pool.map(row, names):
                print(json.dumps(found), file=sys.stderr, flush=True)
                rows.append(found)
            held = sum("error" not in found for found in rows)
            failed += len(rows) - held
            parts.append(f"## {title}\n\n{held} of {len(rows)} hold.\n\n{table(rows)}\n")
    text = "\n".join(parts)
    if "--write" in arguments:
        head = PAGE.read_text(encoding="utf-8").partition("## ")[0]
        PAGE.write_text(f"{head}{text}", encoding="utf-8")
    else:
        print(text)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
