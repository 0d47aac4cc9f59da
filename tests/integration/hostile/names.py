"""Names that Python, a terminal or a table would take for something else than a name."""

from __future__ import annotations

CANARY = "prunecore_canary"  # a builtin that notes each of its calls
RUNS = f"{CANARY}()"

KEYWORDS = ("if", "None", "class", "lambda", "match", "case", "type", "_")
UNDERSCORES = (
    "__class__",
    "__init__",
    "__dict__",
    "__call__",
    "__getattr__",
    "__own__",
    "__private",
    "_Net__mangled",
)
OF_MODULES = (  # attributes of every module, or of some of torch's
    "forward",
    "training",
    "parameters",
    "state_dict",
    "T_destination",
    "_modules",
    "_parameters",
    "dump_patches",
    "add_module",
    "register_buffer",
    "half",
    "keys",
    "append",
    "weight",
    "dtype",
)
OF_FILES = (  # names that a written file gives a meaning of its own, or that Python gives one
    "torch",
    "nn",
    "F",
    "Tensor",
    "self",
    "super",
    "len",
    "list",
    "float",
    "tuple",
    "zip",
    "enumerate",
    "getattr",
    "operator",
    "math",
    "OrderedDict",
    "Any",
    "NamedTuple",
    "interleaved",
    "net",
    "Net",
    "weights",
    "layers",
    "tied",
)
QUOTED = (
    "'",
    '"',
    '"""',
    "'''",
    "a\"b'c",
    "\\",
    '\\"',
    "a\\",
    f'"]; {RUNS} #',
    f'"); {RUNS}; ("',
    f'", {RUNS}, "',
    f"'+str({RUNS})+'",
    f'""" + str({RUNS}) + """',
    f"{{{RUNS}}}",
    f"{{{RUNS}}}0",
    f"a = {RUNS}",
    f"a.{RUNS}",
    RUNS,
)
CONTROLS = (
    f"\n{RUNS}\n",
    f"a\n    {RUNS}",
    f"a\r{RUNS}",
    f"# \r\n{RUNS}",
    "\t",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\b\b\b",
    "\x0c",
    f"a\x85{RUNS}",
    f"a\u2028{RUNS}",
)
LETTERS = (
    "\ud800",
    "a\udfffb",
    "\u202egnp",
    "\u2066a\u2069",
    "a\u200bb",
    "a\u200db",
    "\ufeffa",
    "\u00a0",
    "\u00ad",
    "🔥",
    "👩\u200d🔬",
    "é",
    "e\u0301",
    "\u212b",  # the ångström sign, which Python folds into a letter
    "\ufb01",  # a ligature, which Python folds into `fi`
    "\u017felf",  # a long s: `self`
    "\uff4e\uff4e",  # `nn` in letters of full width
    "\U0001d42d\U0001d428\U0001d42b\U0001d41c\U0001d421",  # `torch` in bold
    "ª",
    "µ",
    "日本",
)
NUMBERS = ("0", "1", "7", "01", "-1", "1e3", "0x1", "1_0", "٣", "²", "block٣", "10" * 20)
MARKUP = (
    "[bold]",
    "[/]",
    "[link=a]b",
    ":fire:",
    "%s",
    "{",
    "{}",
    "{0}",
    "$block",
    "${block}",
    "#",
    "# fmt: off",
    "a b",
    "a-b",
    "a=b",
    "*",
    "a,b",
    " ",
)
DOTTED = ("", ".", "a.b", "..")
LONG = ("a" * 10_000, "a " * 5_000, '"' * 10_000)

NAMES = (
    *KEYWORDS,
    *UNDERSCORES,
    *OF_MODULES,
    *OF_FILES,
    *QUOTED,
    *CONTROLS,
    *LETTERS,
    *NUMBERS,
    *MARKUP,
    *DOTTED,
    *LONG,
)

# One or two of each kind, for the places that differ little from others.
FEW = (
    "if",
    "match",
    "__own__",
    "__private",
    "forward",
    "training",
    "torch",
    "super",
    "list",
    f'"]; {RUNS} #',
    f"{{{RUNS}}}0",
    f"\n{RUNS}\n",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "\ud800",
    "\u202egnp",
    "\ufb01",
    "\u017felf",
    "01",
    "٣",
    "[/]",
    "a b",
    "a.b",
    "a" * 10_000,
)


def described(name: str) -> str:
    """A name as a test's own: short, and of letters that every terminal has."""
    return ascii(name)[1:-1][:24] or "empty"
