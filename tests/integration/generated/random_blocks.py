"""Blocks that networks are drawn of: they put other blocks together, a network in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .random_layers import Chosen


class Residual(Chosen):
    FORMS = ("operator", "in place", "method", "function", "scaled")

    def __init__(self, form: str, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__(form)
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.shortcut is None else self.shortcut(x)
        out = self.body(x)
        if self.form == "in place":
            out = out * 1.0
            out += identity
            return F.relu(out)
        if self.form == "method":
            return out.add(identity).relu()
        if self.form == "function":
            return torch.relu(torch.add(input=out, other=identity))
        if self.form == "scaled":
            return torch.sub(identity, out, alpha=0.5).mul_(0.7)
        return F.relu(identity + out, inplace=True)


class Concatenated(Chosen):
    FORMS = ("cat", "dense", "reversed", "nested", "keywords")

    def __init__(self, form: str, branches: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        outs = [branch(x) for branch in self.branches]
        if self.form == "dense":
            outs = [x, *outs]
        if self.form == "reversed":
            outs = outs[::-1]
        if self.form == "nested":
            return torch.cat([torch.cat(outs, 1), x, torch.concat((F.relu(x), outs[0]), 1)], 1)
        return torch.cat(tensors=outs, dim=1) if self.form == "keywords" else torch.cat(outs, 1)


class Growing(Chosen):
    """Every layer reads what all before it have made."""

    FORMS = ("list", "cat")

    def __init__(self, form: str, layers: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "cat":
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class Looped(Chosen):
    """Layers in a list, the last one perhaps the first again."""

    FORMS = ("plain", "residual", "enumerated", "again")

    def __init__(self, form: str, layers: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if self.form == "residual" or (self.form == "enumerated" and number > 0):
                x = x + layer(x)
            else:
                x = layer(x)
        return self.layers[0](x) if self.form == "again" else x


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Stacked(Chosen):
    FORMS = ("sum", "unbind", "max", "weighted", "index")

    def __init__(self, form: str, branches: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.branches = nn.ModuleDict({f"branch{i}": b for i, b in enumerate(branches)})

    def forward(self, x: Tensor) -> Tensor:
        stack = torch.stack([branch(x) for branch in self.branches.values()], dim=1)
        if self.form == "unbind":
            parts = stack.unbind(1)
            return parts[0] * parts[-1]
        if self.form == "weighted":
            weights = stack.flatten(3).mean(-1).softmax(dim=1)
            return torch.einsum("nkc,nkcs->ncs", weights, stack.flatten(3)).unflatten(
                2, x.shape[2:]
            )
        if self.form == "index":
            return stack[:, 0] + stack[:, -1].sigmoid()
        return stack.sum(dim=1) if self.form == "sum" else stack.max(dim=1).values


class Resized(Chosen):
    """A body on smaller maps, made large again beside what came in."""

    FORMS = ("scale", "size", "stride", "cat")

    def __init__(self, form: str, rank: int, body: nn.Module) -> None:
        super().__init__(form)
        self.body = body
        self.pool = getattr(F, f"max_pool{rank}d")
        self.mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "stride":
            return F.interpolate(input=self.body(x[..., ::2]), size=x.size()[2:])
        y = self.body(self.pool(x, 2))
        if self.form == "scale":
            return F.interpolate(y, scale_factor=2)
        if self.form == "size":
            return F.interpolate(y, size=x.shape[2:], mode=self.mode, align_corners=False)
        return torch.cat([x, F.interpolate(y, size=x.shape[2:])], dim=1)


class Pair(nn.Module):
    """Gives two tensors, by name, to what takes both."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        left = self.left(x)
        return {"left": left, "right": self.right(left)}


class Paired(nn.Module):
    """Puts together what a pair gives."""

    def __init__(self, pair: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.pair, self.last = pair, last

    def forward(self, x: Tensor) -> Tensor:
        both = self.pair(x)
        return self.last(torch.cat([both["right"], both["left"]], 1))


class Applied(nn.Module):
    """Scales the channels by a condition, if it is given one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(
        self, x: Tensor, condition: Tensor | None = None, scale: float = 1.0, *, flip: bool = False
    ) -> Tensor:
        rows = x.flatten(2)
        if condition is not None:
            rows = rows * (condition[..., None] * scale)
        if flip:
            rows = torch.flip(rows, dims=[-1])
        return (rows + self.bias.unsqueeze(-1)).view(x.shape)


class Conditioned(Chosen):
    """Calls modules with some of their arguments, by place and by name."""

    FORMS = ("name", "place", "default", "flag")

    def __init__(self, form: str, width: int) -> None:
        super().__init__(form)
        self.embed = nn.Linear(width, width)
        self.first, self.second = Applied(width), Applied(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x.flatten(2).amax(2))
        if self.form == "name":
            return self.second(self.first(x, scale=0.5, condition=y), condition=y)
        if self.form == "place":
            return self.second(x=self.first(x, y, 2.0), condition=y)
        if self.form == "flag":
            return self.second(self.first(x, y, flip=True), flip=True)
        return self.second(self.first(x), y)


class Head(Chosen):
    FORMS = ("mean", "flatten", "map", "view", "maximum", "layers")

    def __init__(self, form: str, rank: int, width: int) -> None:
        super().__init__(form)
        self.maps = list(range(2, 2 + rank))
        self.pool = getattr(F, f"adaptive_avg_pool{rank}d")
        if form == "map":
            self.layer: nn.Module = getattr(nn, f"Conv{rank}d")(width, 2, 1)
        elif form == "layers":
            hidden = [nn.Linear(width * 2**rank, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.1)]
            self.layer = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(6, 3))
        else:
            places = 1 if form in ("mean", "maximum") else 2**rank
            self.layer = nn.Linear(width * places, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "map":
            return self.layer(x)
        if self.form == "mean":
            return self.layer(x.mean(dim=self.maps))
        if self.form == "maximum":
            return self.layer(input=torch.amax(x, dim=self.maps))
        x = self.pool(x, 2)
        if self.form == "layers":
            return self.layer(x).log_softmax(-1)
        if self.form == "flatten":
            return self.layer(x.flatten(1))
        return self.layer(x.contiguous().view(x.size(0), -1))


class Outputs(NamedTuple):
    first: Tensor
    aux: Tensor | None


class Network(Chosen):
    """Blocks in a row, with further inputs that join them and one or several outputs."""

    FORMS = ("tensor", "tuple", "named tuple", "list", "dict", "nested", "auxiliary")

    def __init__(
        self,
        form: str,
        joins: Sequence[nn.Module],
        blocks: Sequence[nn.Module],
        heads: Sequence[nn.Module],
    ) -> None:
        super().__init__(form)
        self.joins = nn.ModuleList(joins)
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        x = self.joins[0](x)
        for join, other in zip(self.joins[1:], others, strict=True):
            x = x + join(other)
        x = self.blocks(x)
        if self.form == "tensor":
            return self.heads[0](x)
        if self.form == "named tuple":
            return Outputs(self.heads[0](x), aux=self.heads[1](x))
        if self.form == "list":
            return [head(x) for head in self.heads]
        if self.form == "dict":
            return {f"head{number}": head(x) for number, head in enumerate(self.heads)}
        if self.form == "nested":
            outputs = [head(x) for head in self.heads]
            return {"heads": outputs, "more": (outputs[0].sum(), {"twice": 2 * outputs[1]})}
        if self.form == "auxiliary":
            first = self.heads[0](x)
            return (first, self.heads[1](x)) if self.training else first
        return tuple(head(x) for head in self.heads)
