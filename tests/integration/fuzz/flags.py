"""Cases of every command, with hostile values for its flags and arguments."""

from __future__ import annotations

from hypothesis import strategies as st

from .harness import ENDLESS, FIFO, FOLDER, LOOP, NOWHERE, Case, Content
from .scalars import LONG, texts

NETS = b"""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        if not isinstance(width, int) or not 0 < width < 99:
            raise ValueError("no width: " + repr(width))
        self.a = nn.Linear(3, width)
        self.b = nn.Linear(width, width)
        self.c = nn.Linear(width, 2)

    def forward(self, x):
        return self.c(torch.sigmoid(self.b(self.a(x))))


def net(width=6):
    return Net(width)


def several(first, /, *others, width, **further):
    return Net()


class Picky(type):
    @property
    def __signature__(self):
        raise RuntimeError("no signature")


class Unsigned(metaclass=Picky):
    pass


made = Net()
number = 3


def returns_none():
    pass


def recurses():
    return recurses()


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


class Wrong(BaseException):
    pass


def raises(kind="ValueError", text="no stage"):
    errors = {"Unprintable": Unprintable, "Wrong": Wrong, "SyntaxError": SyntaxError}
    raise (errors.get(kind) or getattr(__builtins__, kind, ValueError))(text)


def raises_much():
    raise ValueError("much " * 100_000)


def raises_lines():
    raise ValueError("\\n\\x1b[31m\\u2028a\\nb\\ud800")
"""

# Sources of the user's own files that go wrong while they are imported.
BROKEN = (
    b"",
    b"def net(:",
    b"\0",
    b"\xff\xfe",
    b"x = 1\n    y = 2",
    b"(" * 300,
    b"net = " + b"-" * 100_000 + b"1",
    b"net = " + b"[" * 150 + b"]" * 150,
    b"# coding: nowhere\n",
    b"net = " + b"9" * LONG,
    b"import no_such_module",
    b"from torch import no_such_name",
    b"import " + b"a" * LONG,
    b"raise ValueError('a\\nb\\x1b[31m' * 999)",
    b"raise SystemExit",
    b"raise SystemExit(0)",
    b"raise SystemExit('a\\nb')",
    b"raise GeneratorExit('no')",
    b"class Wrong(BaseException): pass\nraise Wrong('no')",
    b"raise BaseExceptionGroup('no', [GeneratorExit()])",
    b"class Wrong(Exception):\n    def __str__(self): raise self\nraise Wrong",
    b"class Wrong(Exception):\n    def __str__(self): return 3\nraise Wrong",
    b"raise SyntaxError(5)",
    b"raise SyntaxError",
    b"raise SyntaxError('no', (None, None, None, None))",
    b"raise ModuleNotFoundError",
    b"raise ModuleNotFoundError(name=3)",
    b"raise StopIteration",
    b"raise MemoryError",
    b"raise RecursionError",
    b"def f(): f()\nf()",
    b"def __getattr__(name): raise ValueError(name)",
    b"def __getattr__(name): raise GeneratorExit(name)",
    b"import sys; sys.path.clear()",
    b"import sys; sys.modules.pop(__name__)",
    b"import sys; sys.modules[__name__] = None",
    b"class Odd:\n    def __getattr__(self, name): raise ValueError(name)\nnet = odd = Odd()",
    b"class Odd:\n    def __call__(self): pass\n    __module__ = None\nodd = Odd()",
    b"net = type\nother = object",
    b"net = [].append",
    b"import functools\nnet = functools.partial(print)",
    b"net = lambda **a: None",
    b"def net(*, a): pass",
    b"__all__ = 3\n__dict__ = 4",
)

_CALLABLES = (
    "builtins:dict", "builtins:int", "builtins:type", "builtins:object", "builtins:ValueError",
    "builtins:print", "builtins:len", "builtins:None", "math:pi", "math:sqrt", "json:loads",
    "collections:OrderedDict", "collections.abc:Mapping", "os.path:join", "os:sep", "sys:modules",
    "torch.nn:Identity", "torch.nn:Linear", "torch.nn:Module", "torch.nn:Parameter", "torch:ones",
    "torch:float32", "operator:attrgetter", "no.such:net", "no_such:net", "os.path.x:y", ".:net",
    "..nets:net", ".nets:net", "nets.:net", "nets..x:net", "nets:net", "nets:number", "nets:made",
    "__main__:x", "__future__:annotations", "encodings.idna:x", "resnet81", "resnet",
)  # fmt: skip


def models() -> st.SearchStrategy[str]:
    """What stands for MODEL."""
    own = [
        "net", "several", "Unsigned", "made", "number", "returns_none", "recurses", "raises",
        "raises_much", "raises_lines", "Net", "nest", "",
    ]  # fmt: skip
    return st.one_of(
        st.just("nets.py:net"),
        st.just("nets.py:net"),
        st.sampled_from([f"nets.py:{name}" for name in own]),
        st.sampled_from(_CALLABLES),
        st.sampled_from(["broken.py:net", "broken.py:odd", "none.py:net", "folder.py:net"]),
        st.sampled_from(["loop.py:net", "fifo.py:net", "endless.py:net", "./nets.py:net"]),
        st.builds("nets.py:{}".format, texts()),
        st.builds("{}:net".format, texts()),
        st.builds("{}.py:net".format, texts()),
        texts(),
    )


def files(broken: bytes, said: str) -> dict[str, Content]:
    """What lies in the folder of a case: the network, and what is spoken of."""
    every: dict[str, Content] = {
        "nets.py": NETS,
        "broken.py": broken,
        "folder.py": FOLDER,
        "fifo.py": FIFO,
        "loop.py": LOOP,
        "endless.py": ENDLESS,
        "run.yaml": b"model: {name: 'nets.py:net', input_shape: [3]}\npruner: {pruning_perc: 50}",
        "run.ini": b"[pruner]\npruning_perc = 40",
        "folder.yaml": FOLDER,
        "fifo.yaml": FIFO,
        "fifo.ini": FIFO,
        "endless.yml": ENDLESS,
        "loop.ini": LOOP,
        "nowhere.yaml": NOWHERE,
        "bytes.ini": b"\xff\xfe\0",
        "large.yaml": b"a: " + b"x" * 3_000_000,
        "empty.pt": b"",
        "text.safetensors": b"hello",
        "folder.pt": FOLDER,
        "fifo.pt": FIFO,
        "endless.safetensors": ENDLESS,
        "loop.pth": LOOP,
        "net_50.json": FOLDER,
        "fifo.json": FIFO,
        "loop.json": LOOP,
        "place": b"",
        "link": NOWHERE,
        "ring": LOOP,
    }
    return {name: content for name, content in every.items() if name in said or name == "nets.py"}


def _is_encodable(text: str) -> bool:
    """True if a variable of the environment can have this value."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _inside(text: str) -> bool:
    """True if a path stays where nothing of the machine is at stake."""
    return ".." not in text and not text.startswith(("/", "~"))


def _paths(*named: str) -> st.SearchStrategy[str]:
    """Paths; those outside of the folder are such that nothing can be written to."""
    return st.one_of(
        st.sampled_from(named),
        st.sampled_from(
            [
                "/dev/null/x",
                "/proc/x/y",
                "/dev/null",
                "ring/x",
                "link/x",
                "place/x",
                "/" + "a" * 256,
            ]
        ),
        texts().filter(_inside),
        st.builds("{}/x".format, texts()).filter(_inside),
    )


_NUMBERS = st.one_of(st.sampled_from(["1", "2", "50", "30"]), texts())
_SHAPES = st.one_of(
    st.sampled_from(
        ["3", "4", "3,4", "0", "1,3", "3,1,1", "99999999999,3", "3," + "9," * 70 + "3"]
    ),
    st.sampled_from(["1000000,3", "100000,100000,3", "1,1,1,1,1,1,1,3", "65536,65536,65536,3"]),
    texts(),
)
_INPUTS = st.one_of(
    st.sampled_from(
        ["float[3]", "x:float[3] 0..1", "y:float[3]", "int64[3]<5", "bool[3] shared", "x=3", "x=["]
    ),
    st.sampled_from(
        ["int64[1]<999999999999999999", "uint8[3]<256", "float[3]1e99..1e999", "[", ":"]
    ),
    st.builds("float[{}]".format, texts()),
    st.builds("float[3] {}".format, texts()),
    st.builds("{}:float[3]".format, texts()),
    texts(),
)
_ARGUMENTS = st.one_of(
    st.sampled_from(
        ["width=6", "width=4", "width=0", "width", "widht=3", "=", "a=b", "kind=Wrong"]
    ),
    st.sampled_from(["kind=Unprintable", "kind=KeyError", "kind=SyntaxError", "kind=SystemExit"]),
    st.builds("width={}".format, texts()),
    st.builds("{}=1".format, texts()),
    st.builds("text={}".format, texts()),
    texts(),
)
_FLAGS = {
    "--level": st.one_of(st.just("50"), _NUMBERS),
    "--mode": st.sampled_from(["random", "l1_norm"]) | texts(),
    "--target": st.sampled_from(["macs", "channels", "bytes", "latency"]) | texts(),
    "--count": st.sampled_from(["1", "2", "3"]) | texts(),
    "--steps": st.sampled_from(["1", "2", "3"]) | texts(),
    "--recover": st.sampled_from(["none", "refit", "data-free"]) | texts(),
    "--drop": st.sampled_from(["training", "a", "b"]) | texts(),
    "--weights": _paths(
        "empty.pt", "text.safetensors", "folder.pt", "fifo.pt", "loop.pth", "endless.safetensors",
        "none.pt",
    ),
    "--input-shape": _SHAPES,
    "--input": _INPUTS,
    "--module": st.sampled_from(["a", "b", ""]) | texts(),
    "--model-arg": _ARGUMENTS,
    "--name": st.sampled_from(["small", "net"]) | texts(),
    "--seed": st.sampled_from(["0", "9223372036854775807"]) | texts(),
    "--output": _paths("out", "out/deep", "place", "link", "ring", "."),
    "--config": _paths(
        "run.yaml", "run.ini", "folder.yaml", "fifo.yaml", "fifo.ini", "endless.yml", "loop.ini",
        "nowhere.yaml", "bytes.ini", "large.yaml",
    ),
    "--block": models(),
    "--calibrate": _paths("place", "nowhere", "fifo.pt", "."),
    "--to": st.sampled_from(["30-params", "1K-macs", "1s", "1us", "200B", "4-channels"]) | texts(),
    "--latency": st.sampled_from(["eager", "fifo.json", "loop.json", "net_50.json"]) | texts(),
    "--members": st.sampled_from(["producers", "norms", "consumers,norms"]) | texts(),
    "--reduce": st.sampled_from(["sum", "max"]) | texts(),
    "--normalize": st.sampled_from(["group", "none"]) | texts(),
    "--scope": st.sampled_from(["global", "group"]) | texts(),
    "--limit": st.sampled_from(["a=keep", "*=50%", "x=1%", "a=1%=2%", "=", "[=keep"]) | texts(),
    "--max-level": st.sampled_from(["60", "0", "1e-9"]) | texts(),
    "--min-channels": st.sampled_from(["1", "4", "99"]) | texts(),
    "--round-to": st.sampled_from(["2", "4", "99"]) | texts(),
    "--picture": _paths("a.svg", "nowhere/a.png", "folder.pt", "a.gif"),
}  # fmt: skip
_SWITCHES = (
    "--remove-blocks",
    "--force",
    "--no-verify",
    "--json",
    "--check",
    "--hlep",
    "--sensitivity",
    "--strict",
)
_OF_COMMAND = {
    "prune": ("--level", "--mode", "--target", "--count", "--steps", "--recover", "--drop",
              "--weights", "--input-shape", "--input", "--module", "--model-arg", "--name",
              "--seed", "--output", "--config", "--to", "--latency", "--members", "--reduce",
              "--normalize", "--scope", "--limit", "--max-level", "--min-channels", "--round-to",
              "--calibrate"),
    "inspect": ("--calibrate", "--picture", "--weights", "--input-shape", "--input",
                "--module", "--model-arg"),
    "latency": ("--latency", "--input-shape", "--input", "--module", "--model-arg", "--output"),
    "verify": ("--weights", "--input-shape", "--input", "--module", "--model-arg", "--seed"),
    "plugins new": ("--block", "--model-arg", "--input-shape", "--output"),
    "plugins": (),
}  # fmt: skip
# What makes each command reach its end, in place of what is drawn
_RIGHT = {
    "prune": ("nets.py:net", "--level", "50", "--input-shape", "3"),
    "inspect": ("nets.py:net", "--input-shape", "3"),
    "latency": ("nets.py:net", "--input-shape", "3", "--output", "board.json"),
    "verify": ("nets.py", "nets.py:net", "--input-shape", "3"),
    "plugins new": ("gate", "--block", "nets:Net", "--input-shape", "3"),
    "plugins": (),
}


@st.composite
def flag_cases(draw: st.DrawFn) -> Case:
    """A command with a few flags, most of them hostile."""
    if not draw(st.integers(0, 39)):
        return Case((draw(texts()), *draw(st.lists(texts(), max_size=1))))
    command = draw(st.sampled_from(["prune", "prune", "prune", *_OF_COMMAND]))
    names = (
        draw(st.lists(st.sampled_from(_OF_COMMAND[command]), max_size=3))
        if command != "plugins"
        else []
    )
    flags = [part for name in names for part in (name, draw(_FLAGS[name]))]
    if draw(st.integers(0, 3)):  # hostile flags beside what is right
        given = [*_RIGHT[command]]
    elif command == "plugins new":
        given = [draw(texts())]
    elif command == "verify":
        given = [draw(_paths("nets.py", "broken.py", "fifo.py")), draw(models())]
    else:
        given = [draw(models())] * (command != "plugins")
        given += [] if draw(st.booleans()) else [*_RIGHT[command][1:]]
    switches = draw(st.lists(st.sampled_from(_SWITCHES), max_size=1))
    blocked = draw(st.none() | st.none() | st.none() | texts().filter(_is_encodable))
    arguments = (*command.split(), *given, *flags, *switches)
    return Case(
        arguments,
        files(draw(st.sampled_from(BROKEN)), " ".join(arguments)),
        {} if blocked is None else {"PRUNECORE_BLOCK": blocked},
    )
