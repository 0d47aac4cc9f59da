"""Written sets that were changed, with their sources and weights, and tables of latencies."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import strategies as st

from prunecore.cli.main import main

from .flags import BROKEN, NETS
from .harness import ENDLESS, FIFO, FOLDER, LOOP, NOWHERE, Case, Content
from .scalars import texts, values
from .weights import safetensors_files

TABLE = "board.json"
LEVELS = ("--level", "40", "--level", "60")
JOB = ("nets.py:net", "--input-shape", "3", "--mode", "random")


@functools.cache
def _right() -> dict[str, bytes]:
    """Two sets and a table of latencies, as they are written."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("nets.py").write_bytes(NETS)
            table = ["latency", *JOB[:3], "--output", TABLE]
            for job in (["prune", *JOB, *LEVELS], table):
                result = CliRunner().invoke(main, job)
                assert result.exit_code == 0, result.output
            return {file.name: file.read_bytes() for file in Path().iterdir() if file.is_file()}
        finally:
            os.chdir(before)


@st.composite
def _changed(draw: st.DrawFn, value: Any) -> Any:
    """A value of a report, with something in it put in the place of another."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        kind = draw(st.sampled_from(["in", "in", "in", "gone", "renamed", "more"]))
        if kind == "in":
            return {**value, key: draw(_changed(value[key]))}
        others = {name: item for name, item in value.items() if name != key or kind == "more"}
        name = draw(texts().filter(lambda text: len(text) < 9_999))
        return others if kind == "gone" else {**others, name: value[key]}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(_changed(value[place])), *value[place + 1 :]]
    if isinstance(value, int) and draw(st.booleans()):
        return draw(st.sampled_from([-1, 0, True, False, 2**31, 2**64, 10**400, 0.5, value + 1]))
    hostile = [
        [[True]],
        [[True], None],
        [{}],
        [[]],
        [""],
        ["a"],
        ["b", "b"],
        ["training"],
        "__class__",
    ]
    return draw(values() | st.sampled_from(hostile))


_TEXTS = ["", "[]", "{}", "{", "[" * 99_999, '{"a":' * 99_999, "9" * 9_999, "NaN", '"\\ud800"',
          '{"kept": {}, "left_out": [], "model": "net"}', "\ufeff{}", "\0"]  # fmt: skip


@st.composite
def _reports(draw: st.DrawFn, whole: bytes) -> bytes:
    if not draw(st.integers(0, 7)):
        return draw(st.sampled_from(_TEXTS)).encode()
    if not draw(st.integers(0, 9)):
        start = draw(st.integers(0, len(whole)))
        return (
            whole[:start] + draw(st.binary(max_size=5)) + whole[start + draw(st.integers(0, 5)) :]
        )
    report = draw(_changed(json.loads(whole)))
    if draw(st.booleans()):
        report = draw(_changed(report))
    return json.dumps(report).encode()


_END = "net(weights: str | None = None, **arguments: int)"
_SOURCES = (
    b"def net(): return 3",
    b"def net(): pass",
    b"net = 3",
    b"net = None",
    b"def net(a): pass",
    b"def net(): raise SystemExit('a\\nb')",
    b"def net(): raise GeneratorExit",
    b"def net():\n    class Wrong(BaseException): pass\n    raise Wrong('a' * 9999)",
    b"def net(): return net()",
    b"from torch import nn\ndef net(): return nn.Linear(3, 2)",
    b"from torch import nn\ndef net(): return nn.Linear(3, 2).weight",
    b"from torch import nn\nnet = nn.Linear(3, 2)",
    b"from torch import nn\nnet = nn.Module",
    b"from torch import nn\nnet = nn.Identity",
)
# What is put in the place of the forward's last line, or before its first.
_LINES = (
    "raise SystemExit", "raise GeneratorExit('no')", "raise ValueError('a' * 99999)", "return 3",
    "return None", "return x", "return [x, {'a': x}]", "return x[:0]", "return x.sum()",
    "return x * float('nan')", "return x.to_sparse()", "return x.to('meta')", "return x.half()",
    "return self.forward(x)", "return torch.zeros(10**15)", "del self.a; return x",
    "return x.to(torch.complex64)", "return x.bool()", "return x > 0",
)  # fmt: skip


@st.composite
def _sources(draw: st.DrawFn, whole: bytes) -> bytes:
    kind = draw(st.sampled_from(["other", "broken", "line", "line", "text"]))
    if kind == "other":
        return draw(st.sampled_from(_SOURCES))
    if kind == "broken":
        return draw(st.sampled_from(BROKEN))
    text = whole.decode()
    if kind == "line":
        head, _, tail = text.rpartition("        return ")
        head = head.rpartition("    def forward")[0] if head.endswith(") -> Tensor:\n") else head
        line = draw(st.sampled_from(_LINES))
        return f"{head}        {line}\n{tail.partition(chr(10))[2]}".encode()
    old = draw(
        st.sampled_from(["Linear", "sigmoid", "self.a", "super", "return", "3", "2", "weights"])
    )
    return text.replace(old, draw(texts().filter(lambda text: "\0" not in text)), 1).encode(
        "utf-8", "replace"
    )


@st.composite
def set_cases(draw: st.DrawFn) -> Case:
    """A changed set, checked or taken up again; or a changed table, looked up."""
    files: dict[str, Content] = dict(_right())
    if not draw(st.integers(0, 4)):
        table = {"nets.py": NETS, TABLE: draw(_reports(files[TABLE]))}
        goal = draw(st.sampled_from([("--to", "20us"), ("--target", "latency", "--level", "10")]))
        return Case(("prune", *JOB, "--latency", TABLE, *goal), table)
    parts = draw(
        st.sampled_from([["json"]] * 4 + [["py"], ["safetensors"], ["json", "py"], ["odd"]])
    )
    name = "net_40"
    for part in parts:
        file = f"{name}.{part}"
        if part == "json":
            files[file] = draw(_reports(_right()[file]))
        elif part == "py":
            files[file] = draw(_sources(_right()[file]))
        elif part == "safetensors":
            files[file] = draw(safetensors_files())
        else:
            file = f"{name}.{draw(st.sampled_from(['json', 'py', 'safetensors']))}"
            files[file] = draw(st.sampled_from([FOLDER, FIFO, LOOP, NOWHERE, ENDLESS]))
    if draw(st.integers(0, 2)):
        shape = draw(st.sampled_from([(), ("--input-shape", "3")]))
        return Case(("verify", f"{name}.py", "nets.py:net", *shape), files)
    more = draw(
        st.sampled_from([(), ("--level", "20"), ("--force",), ("--json",), ("--no-verify",)])
    )
    return Case(("prune", *JOB, *LEVELS, *more), files)
