"""Configurations: trees with hostile values in YAML's and INI's own ways, and plain noise."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from .flags import BROKEN, files
from .harness import Case
from .scalars import ALPHABET, bombs, texts, values

_RIGHT = {
    "model": {
        "name": "nets.py:net",
        "arguments": "{width: 6}",
        "weights": "w.pt",
        "input_shape": "[3]",
        "inputs": "'float[3]'",
        "module": "a",
    },
    "pruner": {
        "project_dir": ".",
        "model_path": "out",
        "subset_name": "odd",
        "net_name": "small",
        "mode": "random",
        "target": "macs",
        "seed": "3",
        "remove_blocks": "true",
        "drop": "training",
        "strict": "true",
        "pruning_perc": "[50]",
        "count": "2",
        "steps": "2",
        "to": "30-params",
        "latency": "eager",
        "members": "[producers]",
        "reduce": "max",
        "normalize": "none",
        "recover": "none",
        "scope": "group",
        "min_channels": "1",
        "max_level": "60",
        "round_to": "2",
        "layers": "{a: keep}",
    },
    "calibration": {
        "images": "pictures",
        "number": "8",
        "size": "[4, 4]",
        "mean": "[0.5]",
        "std": "[0.5]",
        "seed": "1",
    },
}
_NEEDED = {"name", "input_shape", "pruning_perc"}

WHOLE = """\
model:
  name: nets.py:net  # a comment
  arguments: {width: 6}
  input_shape: [3]
dataset: "odd"
pruner:
  model_path: out
  pruning_perc: &levels [30, 50]
  drop: []
  seed: 3
"""
WHOLE_INI = """\
[model]
name = nets.py:net
input_shape = 3
[pruner]
model_path = out ; a comment
pruning_perc = 30,
    50
[other]
x = %(y)s
"""


def _flow(value: object) -> str:
    """A plain value as YAML takes it."""
    return json.dumps(value, ensure_ascii=False)


def _stays(text: str) -> bool:
    """True if a path in it cannot lead out of the folder: the user may ask for that."""
    return ".." not in text and not text.lstrip(" \"'\\-").startswith(("/", "~"))


def scalars() -> st.SearchStrategy[str]:
    """A value's text in YAML: plain, quoted, tagged, anchored, or of another type."""
    plain = texts().filter(_stays)
    tags = st.sampled_from(
        ["!!int", "!!float", "!!bool", "!!null", "!!str", "!!timestamp", "!!binary", "!!seq",
         "!!map", "!!set", "!!omap", "!!python/tuple", "!x", "!", "!!", "!<x>"]
    )  # fmt: skip
    return st.one_of(
        plain,
        plain,
        plain.map(_flow),
        values().map(_flow).filter(_stays),
        st.builds("{} {}".format, tags, plain),
        st.builds("&x {}".format, plain),
        st.just("*x"),
        bombs(),
        st.builds("[{}, {}]".format, plain, plain),
        st.builds("{{{}: {}}}".format, plain, plain),
        st.builds("|\n   {}".format, plain),
    )


@st.composite
def _trees(draw: st.DrawFn, is_ini: bool) -> str:
    """The text of a configuration, most of it right, with hostile values and keys."""
    rows = []
    for section, right in _RIGHT.items():
        rows.append(f"[{section}]" if is_ini else f"{section}:")
        keys = [key for key in right if key in _NEEDED or not draw(st.integers(0, 3))]
        keys += draw(st.lists(st.sampled_from(sorted(right)), max_size=1))  # twice, perhaps
        for key in keys:
            hostile = not draw(st.integers(0, 7 if key in _NEEDED else 1))
            text = draw(scalars()) if hostile else right[key]
            name = key if draw(st.integers(0, 19)) else draw(texts())
            if not is_ini:
                rows.append(f"  {name}: {text}")
            else:
                rows.append(f"{name} = {text}")
        if is_ini and section == "pruner":
            rows += [f"dataset = {draw(scalars())}"] * (not draw(st.integers(0, 4)))
    if not is_ini and not draw(st.integers(0, 4)):
        rows.insert(draw(st.integers(0, len(rows))), f"dataset: {draw(scalars())}")
    if not draw(st.integers(0, 9)):
        rows.insert(draw(st.integers(0, len(rows))), draw(texts()))
    return "\n".join(rows)


@st.composite
def _damaged(draw: st.DrawFn, whole: str) -> str:
    """A right text with a part cut out, doubled, or replaced by noise."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 30)))
    noise = draw(st.text(ALPHABET, max_size=10) | texts().filter(_stays) | scalars())
    return whole[:start] + draw(st.sampled_from(["", whole[start:end] * 2, noise])) + whole[end:]


def _case(name: str, text: str, flags: tuple[str, ...], broken: bytes) -> Case:
    content = text.encode("utf-8", "surrogatepass")
    return Case(("prune", "--config", name, *flags), {**files(broken, text), name: content})


def configuration_cases() -> st.SearchStrategy[Case]:
    """A `prune --config` with a hostile file."""
    yaml = _trees(is_ini=False) | _damaged(WHOLE) | st.text(ALPHABET, max_size=60) | scalars()
    ini = _trees(is_ini=True) | _damaged(WHOLE_INI) | st.text(ALPHABET, max_size=60)
    flags = st.sampled_from(
        [(), (), (), ("--level", "50"), ("--no-verify",), ("--output", "out"), ("--name", "x")]
    )
    broken = st.sampled_from(BROKEN)
    return st.one_of(
        st.builds(_case, st.sampled_from(["c.yaml", "c.yml"]), yaml, flags, broken),
        st.builds(_case, st.sampled_from(["c.yaml"]), yaml, flags, broken),
        st.builds(_case, st.just("c.ini"), ini, flags, broken),
    )
