"""Texts and values that nobody expects: of other types, too long, unprintable, in disguise."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

LONG = 5_000
VERY_LONG = 100_000

_ODD = (
    "", " ", "\t", "\0", "a\0b", "\n", "a\nb", "\r", "\x1b[31mred", "\x85", "\u2028", "\ufeff",
    "\ud800", "\udcff", "a\udc80b", "\u202eabc", "a\u200bb", "\U0001f4a5", "\xe4", "\u3000",
    "\ufb01", "\uff4e\uff45\uff54", "n\u0435t", "\u017f", "\u2126", "\u1d62nt", "\uff33uper",
    "e\u0301", "\xaa", "\u0661", "\uff11\uff12", "\xb2",
    ".", "..", "/", "//", "../x", "a/../../x", "a\\..\\x", "~", "~root/x", "C:\\x", "CON", "nul.py",
    "a" * 255, "a" * 256, "\xe4" * 200, "a" * LONG, "a" * VERY_LONG, "a/" * 3_000, "/a" * 3_000,
    "-", "--", "-1", "--help", "--version", "--no-such", "-x", "@x", "$HOME", "`id`", "%s", "{0}",
    "{name}", "$name", "%(mode)s",
    "0", "-0", "+1", "1.", ".5", "1e3", "1e400", "1e-400", "1e-300", "nan", "inf", "-inf", "NaN",
    "0x10", "0o17", "0b11", "010", "08", "1_000", "1,000", "1,2,3", "3,,3", ",", " 3", "3 ",
    "9" * 30, "9" * LONG, "9" * VERY_LONG, "-" + "9" * LONG, "0." + "9" * LONG, "1e" + "9" * LONG,
    "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", f"{2**64}",
    "190:20:30", "1:2", "-190:20:30.5", "1" + ":59" * 500, "2001-01-01", "2001-13-45",
    "2001-12-14t21:59:43.10-05:00", "12:30", "true", "True", "TRUE", "yes", "off", "y", "null",
    "None", "~", "!!int ''", "!!int x", "!!float ''", "!!float .", "!!bool x", "!!bool ''",
    "!!null x", "!!timestamp x", "!!timestamp ''", "!!binary x", "!!binary 'A'", "!!set [a]",
    "!!omap [a]", "!!pairs {a: b}", "!!str [a]", "!!seq x", "!!map x", "!!merge x", "!x y", "! x",
    "!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!<tag:yaml.org,2002:int> ''",
    "&a [*a]", "&a {k: *a}", "*a", "&a", "{<<: *a}", "{<<: {a: 1}}", "{<<: x}", "<<", "=", "?", "-",
    ": ", "a: b", "a: b: c", "{a: 1, a: 2}", "[1, [2]]", "[[1]]", "{[1]: 2}", "{{a: 1}: 2}", "? a",
    "[", "]", "{", "}", "'", '"', '"\\x"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\ud800"', "|", ">",
    "%", "%YAML 9.9", f"%YAML 1.{'9' * LONG}\n---\na", "---", "...", "--- a\n--- b", "#", "a #b",
    "[" * 400, "[" * LONG, "[" * 900 + "]" * 900, "{a: " * LONG, "- " * LONG, "? " * LONG,
    "[red]", "[/red]", "[/]", ":smile:", "<b>",
    "super", "print", "int", "len", "self", "class", "none", "match", "_", "__", "__init__",
    "__name__", "__file__", "__debug__", "__getattr__", "__class__", "torch", "nn", "Tensor", "F",
    "math", "operator", "model", "weights", "arguments", "load_file", "Net", "net",
    "l1_norm", "L1-NORM", "random", "params", "PARAMS", "training", "a", "b", "c", "a.b", ".a",
)  # fmt: skip


def bombs() -> st.SearchStrategy[str]:
    """YAML whose aliases unfold to far more than stands there."""

    def bomb(depth: int, width: int, mapping: bool) -> str:
        item = "*a{}" if not mapping else "k{}: *a{}"
        rows = ["&a0 [1, 2, 3]" if not mapping else "&a0 {x: 1}"]
        for number in range(1, depth):
            items = (
                item.format(number - 1) if not mapping else item.format(k, number - 1)
                for k in range(width)
            )
            brackets = "{}" if mapping else "[]"
            rows.append(f"&a{number} {brackets[0]}{', '.join(items)}{brackets[1]}")
        return f"[{', '.join(rows)}]"

    return st.builds(bomb, st.integers(2, 40), st.integers(1, 12), st.booleans())


ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \t\n\0\x1b\xe4\u202e\ud800"


def texts() -> st.SearchStrategy[str]:
    """Hostile text, as it may stand in a flag, a configuration or a file's key."""
    return st.one_of(
        st.sampled_from(_ODD),
        st.sampled_from(_ODD),
        st.text(max_size=20),
        st.text(ALPHABET, max_size=40),
        st.builds("{}{}".format, st.sampled_from(_ODD), st.sampled_from(_ODD)),
        st.integers().map(str),
        st.floats().map(str),
        bombs(),
    )


def values() -> st.SearchStrategy[Any]:
    """Values of every type that JSON has, most of them wrong where they are put."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**30]),
        st.floats(),
        st.sampled_from(_ODD).filter(lambda text: len(text) < VERY_LONG),
        st.text(max_size=10),
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )
