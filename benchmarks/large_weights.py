"""Peak memory of `prunecore prune` on a large weights file, over what its imports take; Linux only.

python benchmarks/large_weights.py [GIGABYTES] [--write]

The file is a hole: it takes no place on the disk, and its weights read as zeros.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import torchvision  # noqa: F401, which a process that only imports has as well
from page import parser_of, show, table

import prunecore  # noqa: F401
from prunecore.cli.main import main as prunecore_command

WIDTH = 8192
ALLOWED = 200e6  # bytes beside the kept weights, and the original ones where they are mapped
FACTORY = f"""
from torch import nn

def net(layers):
    return nn.Sequential(*(nn.Linear({WIDTH}, {WIDTH}) for _ in range(layers)))
"""


class Peaks(threading.Thread):
    """The most bytes of each kind that this process holds, beside those when this was made.

    Attributes:
        most: by kind: `RssAnon` is what it holds of its own, `VmRSS` that and the pages of files
            that are mapped, the weights among them.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._before = self._now()
        self.most = dict.fromkeys(self._before, 0)

    def run(self) -> None:
        """Look again and again."""
        while True:
            for kind, size in self._now().items():
                self.most[kind] = max(self.most[kind], size - self._before[kind])
            time.sleep(0.002)

    @staticmethod
    def _now() -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = (line.split() for line in lines if line.startswith(("RssAnon:", "VmRSS:")))
        return {kind.removesuffix(":"): 1024 * int(size) for kind, size, _ in found}


def write_hole(file: Path, layers: int) -> int:
    """Write a weights file for so many layers; the bytes of its weights."""
    shapes = {"weight": [WIDTH, WIDTH], "bias": [WIDTH]}
    header: dict[str, object] = {}
    end = 0
    for layer in range(layers):
        for key, shape in shapes.items():
            begin, end = end, end + 4 * torch.Size(shape).numel()
            header[f"{layer}.{key}"] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [begin, end],
            }
    text = json.dumps(header).encode()
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(opened.tell() + end)
    return end


def measure(gigabytes: float) -> dict[str, float]:
    """Prune half of the channels of a network of this size: bytes, and seconds."""
    layers = max(2, round(gigabytes * 1e9 / (4 * WIDTH**2)))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        factory, file = Path(folder, "large.py"), Path(folder, "large.safetensors")
        factory.write_text(FACTORY)
        weights = write_hole(file, layers)
        arguments = ["--model-arg", f"layers={layers}", "--input-shape", str(WIDTH)]
        arguments += ["--weights", str(file), "--level", "50", "--mode", "l1-norm"]
        peaks = Peaks()
        peaks.start()
        start = time.perf_counter()
        prunecore_command(
            ["prune", f"{factory}:net", *arguments, "--no-verify", "--output", folder],
            standalone_mode=False,
        )
        seconds = time.perf_counter() - start
        kept = Path(folder, "net_50.safetensors").stat().st_size
    return {
        "weights": weights,
        "kept": kept,
        "own": peaks.most["RssAnon"],
        "with_files": peaks.most["VmRSS"],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Print what was measured as a table, or write it."""
    parser = parser_of(__doc__)
    parser.add_argument("gigabytes", nargs="?", type=float, default=10, metavar="GIGABYTES")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.gigabytes)
    both = found["weights"] + found["kept"]
    rows = [
        [what, f"{found[key] / 1e6:,.0f}", f"{(needed + ALLOWED) / 1e6:,.0f}"]
        for what, key, needed in (
            ("own memory", "own", found["kept"]),
            ("with the mapped weights", "with_files", both),
        )
    ]
    sizes = (f"{found[key] / 1e6:,.0f} MB" for key in ("weights", "kept"))
    below = "{} of weights, {} kept, {:.0f} s by the clock.".format(*sizes, found["seconds"])
    text = table(["MB over the imports", "measured", "allowed"], rows)
    show("large weights", f"{text}\n{below}\n", given.write)


if __name__ == "__main__":
    main()
