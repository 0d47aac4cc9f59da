"""Networks whose forward is drawn as text, statement by statement, for hypothesis.

What they compute matters less than what they call it: names are given again, stand for one value
together, for values that nothing reads, and for what is changed in place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from .random_moves import steps

SIDE = 2  # of the maps, or the length of the rows
WIDTHS = (4, 6)
NAMES = ("x", "y", "z", "h", "out", "identity", "layer", "item", "add", "y1", "outputs", "unused")

Draw = Callable[[st.SearchStrategy[Any]], Any]
Text = tuple[str, int]  # an expression, and how many channels its value has

_numbers = itertools.count()


class Drawn(nn.Module):
    """A module with these children, and the forward of a text."""

    def __init__(self, children: dict[str, nn.Module], text: str) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        self.text = text

    def extra_repr(self) -> str:
        return self.text


def drawn(children: dict[str, nn.Module], text: str, **known: Any) -> nn.Module:
    """A module of a class of its own, whose text may name what is known."""
    scope = {"torch": torch, "F": F, **known}
    exec(compile(text, f"drawn_{next(_numbers)}.py", "exec"), scope)
    return type("Net", (Drawn,), {"forward": scope["forward"]})(children, text)


class Pair(nn.Module):
    """A layer of one tensor beside another one."""

    def __init__(self, width: int, layer: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.shortcut = layer, shortcut

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        identity = y if self.shortcut is None else self.shortcut(y)
        return torch.tanh(self.layer(x)) + identity


class Writing(nn.Module):
    """Changes what it is given, or every second place of it, and may return another tensor."""

    def __init__(self, form: str, axis: int) -> None:
        super().__init__()
        self.form, self.axis = form, axis

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "all":
            x.add_(0.5)
        elif self.form == "a part":
            part = x[:, 1::2] if self.axis == 1 else x[..., 1::2]
            part.mul_(2.0)
        elif self.form == "a view":
            x.unsqueeze(1).mul_(1.5)
            return x.view_as(x)
        return torch.sigmoid(x) if self.form == "a part" else x


class Drawing:
    """Draws the statements of a forward.

    Args:
        draw: hypothesis's.
        has_rows: whether tensors are rows of vectors, not maps.

    Attributes:
        heads: of branches, with the variables that each side alone has.
    """

    heads: Sequence[tuple[str, dict[str, int], dict[str, int]]] = (
        ("if self.training:", {}, {}),
        ("if not self.training:", {}, {}),
    )

    def __init__(self, draw: Draw, has_rows: bool) -> None:
        self.draw, self.has_rows = draw, has_rows
        self.children: dict[str, nn.Module] = {}
        self.called: dict[int, list[Text]] = {}  # the layers, by what they take
        self.items: list[tuple[str, int]] = []  # the layers of the turns of the loops around
        self.variables: dict[str, int] = {}
        self.lists: dict[str, list[int]] = {}
        self.locked: dict[str, int] = {}  # variables of what is around, which keep their width
        self.turns = 1  # of all loops around
        self.lines: list[str] = []
        self.indent = 4

    @property
    def axis(self) -> int:
        return 2 if self.has_rows else 1

    def among(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def add(self, line: str) -> None:
        self.lines.append(" " * self.indent + line)

    # Expressions

    def variable(self) -> Text:
        return self.among(self.variables.items())

    def layer(self, width: int, out: int) -> nn.Module:
        return nn.Linear(width, out) if self.has_rows else nn.Conv2d(width, out, 1)

    def child(self, stem: str, module: nn.Module) -> str:
        name = f"{stem}{len(self.children)}"
        self.children[name] = module
        return f"self.{name}"

    def through(self, inner: Text) -> Text:
        """What a layer makes of it."""
        text, width = inner
        known = [*self.called.get(width, []), *(one for one in self.items if one[1] == width)]
        if known and self.draw(st.booleans()):
            function, out = self.among(known)
        else:
            out = self.among(WIDTHS)
            function = self.child(self.among(["layer", "conv", "out"]), self.layer(width, out))
            self.called.setdefault(width, []).append((function, out))
        return f"{function}({text})", out

    def fitted(self, inner: Text, width: int) -> str:
        text, own = inner
        if own == width:
            return text
        return f"{self.child('fit', self.layer(own, width))}({text})"

    def expression(self, depth: int = 2) -> Text:
        kinds: list[Callable[[int], Text]] = [lambda _: self.variable()]
        if depth:
            kinds += [
                lambda depth: self.through(self.expression(depth)),
                lambda depth: self.through(self.expression(depth)),
                self.activated,
                self.joined,
                self.joined,
                self.concatenated,
                self.twice,
                self.paired,
                self.moved,
                self.resized,
            ]
            kinds += [self.item] if any(self.lists.values()) else []
            kinds += [self.attended] if self.has_rows else []
        return self.among(kinds)(depth - 1)

    def activated(self, depth: int) -> Text:
        text, width = self.expression(depth)
        form = self.among(["F.relu({})", "torch.sigmoid({})", "{}.tanh()", "({} * 0.5)", "(-{})"])
        return form.format(f"({text})"), width

    def joined(self, depth: int) -> Text:
        text, width = self.expression(depth)
        other = self.fitted(self.expression(depth), width)
        form = self.among(
            ["({} + {})", "({} - {})", "torch.tanh({} * {})", "torch.add({}, {})", "({}).mul({})"]
        )
        return form.format(text, f"torch.sigmoid({other})"), width

    def concatenated(self, depth: int) -> Text:
        parts = [self.expression(depth) for _ in range(self.draw(st.integers(2, 3)))]
        text = ", ".join(text for text, _ in parts)
        return self.through((f"torch.cat([{text}], {self.axis})", sum(w for _, w in parts)))

    def twice(self, _depth: int) -> Text:
        """A call that takes one value twice."""
        name, width = self.variable()
        if self.draw(st.booleans()):
            return self.through((f"torch.cat(({name}, {name}), {self.axis})", 2 * width))
        form = self.among(["torch.mul({0}, torch.sigmoid({0}))", "({0} + {0})", "{0}.maximum({0})"])
        return form.format(name), width

    def attended(self, _depth: int) -> Text:
        name, width = self.variable()
        heads = 1 if width % 2 else 2
        function = self.child("attend", nn.MultiheadAttention(width, heads, batch_first=True))
        if self.draw(st.booleans()):
            return f"{function}({name}, {name}, {name})[0]", width
        other, own = self.variable()
        other = other if own == width else name
        return f"{function}({name}, {other}, {other}, need_weights=False)[0]", width

    def paired(self, depth: int) -> Text:
        first, second = self.expression(depth), self.expression(depth)
        return self.pair(first[1], second[1]).format(first[0], second[0]), first[1]

    def pair(self, width: int, other: int) -> str:
        with_shortcut = other != width or self.draw(st.booleans())
        shortcut = self.layer(other, width) if with_shortcut else None
        return self.child("pair", Pair(width, self.layer(width, width), shortcut)) + "({}, {})"

    def moved(self, depth: int) -> Text:
        """Its channels in other places, fewer or more of them, given to a layer."""
        text, width = self.expression(depth)
        for _ in range(self.draw(st.integers(1, 3))):
            step = self.draw(steps(width, self.axis))
            text = step.text.format(f"({text})") if "{" in step.text else f"({text}){step.text}"
            width = step.width
        return self.through((text, width))

    def resized(self, _depth: int) -> Text:
        """Given the shape of another tensor, which is its own."""
        name, width = self.variable()
        other = self.among(other for other, own in self.variables.items() if own == width)
        form = self.among(["{0}.reshape({1}.shape)", "{0}.view_as({1})", "{0} + {1}.size(-1)"])
        return f"torch.tanh({form.format(name, other)})", width

    def item(self, _depth: int) -> Text:
        name = self.among(name for name, held in self.lists.items() if held)
        place = self.among([0, -1])
        return f"{name}[{place}]", self.lists[name][place]

    # Statements

    def name(self, width: int) -> str:
        """A variable that may hold so many channels."""
        free = [name for name in NAMES if self.locked.get(name, width) == width]
        return self.among([name for name in free if name not in self.lists])

    def assign(self, text: str, width: int) -> None:
        name = self.name(width)
        self.add(f"{name} = {text}")
        self.variables[name] = width

    def statement(self, depth: int) -> None:
        kinds: list[Callable[[], None]] = [
            lambda: self.assign(*self.expression()),
            lambda: self.assign(*self.expression()),
            lambda: self.assign(*self.expression(1)),
            lambda: self.assign(*self.variable()),  # another name for it
            lambda: self.add(self.through(self.expression(1))[0]),
            self.in_place,
            self.viewed,
            self.unpacked,
            self.swapped,
            self.sizes,
            self.listed,
        ]
        if depth:
            kinds += [lambda: self.loop(depth - 1), lambda: self.branch(depth - 1)]
        self.among(kinds)()

    def block(self, depth: int, least: int = 1, most: int = 3) -> None:
        for _ in range(self.draw(st.integers(least, most))):
            self.statement(depth)

    def in_place(self) -> None:
        name, width = self.variable()
        other = f"torch.sigmoid({self.fitted(self.expression(1), width)})"
        form = self.among(
            [
                "{0} += {1}",
                "{0} *= {1}",
                "{0}.add_({1})",
                "{0} = {0}.mul_({1})",
                "{0}.tanh_()",
                "F.relu({0}, inplace=True)",
                "{2} = {0}.sub_({1})",
                "{0} = {0} * 1.0",
            ]
        )
        target = self.name(width)
        if "{2}" in form:
            self.variables[target] = width
        self.add(form.format(name, other, target))

    def viewed(self) -> None:
        """A view or copy of a variable, and one of the two changed."""
        name, width = self.variable()
        step = self.draw(steps(width, self.axis))
        text = step.text.format(name) if "{" in step.text else f"{name}{step.text}"
        form = self.among(["{}", "{}", "{}.contiguous()", "{}.view_as({})", "({}).clone()"])
        target = self.name(step.width)
        self.add(f"{target} = {form.format(text, text)}")
        self.variables[target] = step.width
        for _ in range(self.draw(st.integers(0, 2))):
            self.changed(self.among([name, target]))

    def changed(self, name: str) -> None:
        """A variable changed in place, here or by a child."""
        forms = [
            "{0} *= 0.5",
            "{0}.add_(1.5)",
            "{0}.mul_(torch.sigmoid({0}))",
            "F.relu({0}, inplace=True)",
            "torch.mul({0}, 1.5, out={0})",
        ]
        if self.draw(st.booleans()):
            kind = self.among(["all", "a part", "a view", "relu"])
            child = nn.ReLU(inplace=True) if kind == "relu" else Writing(kind, self.axis)
            writing = self.child("writing", child)
            target, width = self.among(NAMES), self.variables[name]
            may = target not in self.lists and self.locked.get(target, width) == width
            self.add(f"{target} = {writing}({name})" if may else f"{writing}({name})")
            if may:
                self.variables[target] = width
        else:
            self.add(self.among(forms).format(name))

    def unpacked(self) -> None:
        text, width = self.expression(1)
        if width % 2:
            text, width = self.fitted((text, width), 4), 4
        first = self.name(width // 2)
        second = self.name(width // 2)
        form = self.among(
            ["({}).chunk(2, {})", "torch.split({}, {}, {})", "tuple(({}).chunk(2, {}))"]
        )
        given = (text, width // 2, self.axis) if "split" in form else (text, self.axis)
        self.add(f"{first}, {second} = {form.format(*given)}")
        self.variables |= {first: width // 2, second: width // 2}

    def swapped(self) -> None:
        (first, width), (second, other) = self.variable(), self.variable()
        if width == other or not {first, second} & self.locked.keys():
            self.add(f"{first}, {second} = {second}, {first}")
            self.variables |= {first: other, second: width}

    def sizes(self) -> None:
        name, width = self.variable()
        sizes = "b, n, c" if self.has_rows else "b, c, h, w"
        if "h" in self.locked:
            return
        self.variables.pop("h", None)
        self.add(f"{sizes} = {name}.shape")
        if self.draw(st.booleans()):
            other, own = self.among(self.variables.items() or [(name, width)])
            flat = f"{other}.flatten(1, 2)" if self.has_rows else f"{other}.flatten(2)"
            if own == width:
                self.assign(f"{flat}.reshape({sizes})", width)

    def listed(self) -> None:
        """A list begun, added to, or put together."""
        kinds = ["begin", "append", "append"] if self.lists else ["begin"]
        kinds += ["join"] if any(self.lists.values()) else []
        kind = self.among(kinds)
        if kind == "begin":
            name = f"ys{len(self.lists)}"
            held = [self.variable() for _ in range(self.draw(st.integers(0, 2)))]
            self.add(f"{name} = [{', '.join(text for text, _ in held)}]")
            self.lists[name] = [width for _, width in held]
        elif kind == "append":
            name = self.among(self.lists)
            text, width = self.expression(1)
            self.add(f"{name}.append({text})")
            self.lists[name] += [width] * self.turns
        elif self.turns == 1:
            name = self.among(name for name, held in self.lists.items() if held)
            width = sum(self.lists[name])
            text = f"torch.cat({name}, {self.axis})" if len(self.lists[name]) > 1 else f"{name}[0]"
            self.assign(*self.through((text, width)))

    @contextmanager
    def within(self, head: str, turns: int = 1) -> Iterator[None]:
        """What stands under a head."""
        locked, lists = self.locked, set(self.lists)
        self.locked = {**locked, **self.variables}
        self.turns *= turns
        self.add(head)
        self.indent += 4
        lines = len(self.lines)
        yield
        if len(self.lines) == lines:
            self.add("pass")
        self.indent -= 4
        self.turns //= turns
        self.locked = locked
        for name in self.lists.keys() - lists:
            del self.lists[name]

    def loop(self, depth: int) -> None:
        width, count = self.among(WIDTHS), self.draw(st.integers(1, 3))
        kind = self.among(["layers", "layers", "pairs", "zip", "numbers"])
        nesting = "" if self.indent == 4 else str(self.indent // 4)  # hides no item around it
        if kind == "pairs":
            pairs = [
                Pair(width, self.layer(width, width), self.among([None, self.layer(width, width)]))
                for _ in range(count)
            ]
            through = self.child("pairs", nn.ModuleList(pairs))
            block = f"block{nesting}"
            with self.within(f"for {block} in {through}:", count):
                self.block(depth, 0, 1)
                first, second = (self.fitted(self.expression(1), width) for _ in range(2))
                self.assign(f"{block}({first}, {second})", width)
                self.block(depth, 0, 2)
            return
        layers = [self.layer(width, width) for _ in range(count)]
        through, item = self.child("layers", nn.ModuleList(layers)), f"layer{nesting}_"
        head = f"for {item} in {through}:"
        if kind == "zip":
            others = [self.layer(width, width) for _ in range(count)]
            beside = self.child("others", nn.ModuleList(others))
            head = f"for {item}, other{nesting} in zip({through}, {beside}):"
            self.items.append((f"other{nesting}", width))
        if kind == "numbers":
            head, item = f"for i{nesting} in range({count}):", f"{through}[i{nesting}]"
        self.items.append((item, width))
        with self.within(head, count):
            self.block(depth, 0, 2)
            inner = self.fitted(self.expression(1), width)
            self.assign(f"{item}({inner})", width)
            self.block(depth, 0, 2)
        self.items = self.items[: -2 if kind == "zip" else -1]

    def branch(self, depth: int) -> None:
        """One of several ways; names that only one of them gives a value are not read."""
        head, of_branch, of_other = self.among(self.heads)
        before = dict(self.variables)
        lists = {name: list(held) for name, held in self.lists.items()}
        with self.within(head):
            self.variables |= of_branch
            self.block(depth, 1, 2)
        after, self.variables = self.variables, before
        self.lists = lists
        if self.draw(st.booleans()):
            self.variables = before | of_other
            with self.within("else:"):
                self.block(depth, 1, 2)
        self.variables = {
            name: width
            for name, width in self.variables.items()
            if after.get(name) == width and name not in of_other
        }

    def result(self) -> str:
        """What is returned: of the variables that are left, some."""
        texts = []
        for _ in range(self.draw(st.integers(1, 3))):
            inner = self.expression(1)
            texts.append(self.fitted(inner, 2) if self.draw(st.booleans()) else inner[0])
        if len(texts) == 1:
            return texts[0]
        form = self.among(["({})", "[{}]", "dict"])
        if form == "dict":
            return f"dict({', '.join(f'a{i}={text}' for i, text in enumerate(texts))})"
        return form.format(", ".join(texts))


@st.composite
def moves(draw: Draw) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """A network that moves channels about between its layers, takes some and changes some."""
    drawing = Drawing(draw, draw(st.booleans()))
    width = drawing.among([6, 8, 12])
    drawing.children["first"] = drawing.layer(2, width)
    shape = (SIDE, 2) if drawing.has_rows else (2, SIDE, SIDE)
    drawing.add("x = self.first(x)")
    drawing.variables["x"] = width
    for _ in range(draw(st.integers(1, 5))):
        name, width = drawing.variable()
        step = draw(steps(width, drawing.axis))
        text = step.text.format(name) if "{" in step.text else f"{name}{step.text}"
        text = drawing.among(["{}", "{}", "{}", "torch.tanh({})"]).format(text)
        drawing.assign(text, step.width)
        if drawing.among([False, False, True]):
            drawing.changed(drawing.variable()[0])
    returned = []
    for name, width in drawing.variables.items():
        out = drawing.child("last", drawing.layer(width, 2))
        returned.append(f"{out}({name})")
    text = "\n".join(
        ["def forward(self, x):", *drawing.lines, f"    return {' + '.join(returned)}"]
    )
    return drawn(drawing.children, text + "\n"), [shape]


@st.composite
def forwards(draw: Draw) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """A network with a drawn forward, and the shapes of its inputs."""
    drawing = Drawing(draw, draw(st.booleans()))
    inputs = draw(st.sampled_from([("x",), ("x", "y"), ("out", "x")]))
    for name in inputs:
        drawing.variables[name] = drawing.among(WIDTHS)
    shapes = [
        (SIDE, width) if drawing.has_rows else (width, SIDE, SIDE)
        for width in drawing.variables.values()
    ]
    if draw(st.booleans()):
        drawing.assign(*drawing.through(drawing.variable()))
    drawing.block(2, 1, 7)
    returned = drawing.result()
    text = "\n".join(
        [f"def forward(self, {', '.join(inputs)}):", *drawing.lines, f"    return {returned}"]
    )
    return drawn(drawing.children, text + "\n"), shapes
