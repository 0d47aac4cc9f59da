from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.channels.state_dicts import put_state


class Renamed(nn.Linear):
    """As classes that read what an older version of them has stored."""

    def _load_from_state_dict(self, state: Any, prefix: str, *others: Any) -> None:
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
        super()._load_from_state_dict(state, prefix, *others)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 3), nn.ModuleDict({"norm": nn.BatchNorm1d(3), "out": Renamed(3, 1)})
    )


def stored() -> Any:
    return net().state_dict()


def test_the_networks_tensors_become_the_given_ones() -> None:
    model, state = net(), stored()
    put_state(model, state)
    held: dict[str, Tensor] = model.state_dict(keep_vars=True)
    assert {n: t.data_ptr() for n, t in held.items()} == {n: t.data_ptr() for n, t in state.items()}
    assert isinstance(held["0.weight"], nn.Parameter)


def test_modules_that_read_otherwise_stored_tensors_are_asked() -> None:
    model, state = net(), stored()
    state["1.out.kernel"] = state.pop("1.out.weight")
    put_state(model, state)
    assert model.state_dict()["1.out.weight"].data_ptr() == state["1.out.kernel"].data_ptr()


def test_the_versions_of_modules_are_handed_on() -> None:
    state = stored()
    del state["1.norm.num_batches_tracked"]
    with pytest.raises(RuntimeError, match=r'^Missing .* "1\.norm\.num_batches_tracked"$'):
        put_state(net(), state)
    state._metadata["1.norm"]["version"] = 1  # which had none of these
    put_state(net(), state)


def test_a_network_that_loads_by_itself_is_asked_to() -> None:
    class Own(nn.Linear):
        def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
            return super().load_state_dict({"weight": state["w"]}, strict, assign)

    model, weight = Own(2, 3, bias=False), torch.ones(3, 2)
    put_state(model, {"w": weight})
    assert model.weight.data_ptr() == weight.data_ptr()


def test_hooks_may_forgive_what_is_missing() -> None:
    model, state = net(), stored()
    del state["0.bias"]
    model.register_load_state_dict_post_hook(lambda _, odd: odd.missing_keys.clear())
    put_state(model, state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("0.bias"), 'Missing key(s) in state_dict: "0.bias"'),
        (
            lambda state: state.update({"2.weight": torch.ones(1), "1.norm.a": torch.ones(1)}),
            'Unexpected key(s) in state_dict: "2.weight", "1.norm.a"',
        ),
        (
            lambda state: state.update({"more": torch.ones(1), "0.weight.a": torch.ones(1)}),
            'Unexpected key(s) in state_dict: "more", "0.weight.a"',
        ),
        (lambda state: state.update({"0.bias": torch.ones(4)}), "size mismatch for 0.bias"),
    ],
)
def test_what_does_not_fit_is_told(change: Callable[[Any], None], said: str) -> None:
    state = stored()
    change(state)
    with pytest.raises(RuntimeError, match=r"key|size") as raised:
        put_state(net(), state)
    assert said in str(raised.value)


class Noting(nn.Linear):
    """Sees what becomes its weight."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "weight":
            self.shape = value.shape


@pytest.mark.parametrize("last", [nn.Identity(), Noting(3, 1), Renamed(3, 1)])
def test_the_networks_tensors_are_as_torch_puts_them(last: nn.Module) -> None:
    """Plain modules are not asked, others are: the results are alike."""
    models = [nn.Sequential(nn.BatchNorm1d(3), copy.deepcopy(last)) for _ in range(2)]
    state: Any = models[0].state_dict()
    for model in models:
        model[0].weight.requires_grad_(False)
        model[0].register_buffer("steps", torch.zeros(2), persistent=False)
    put_state(models[0], state)
    models[1].load_state_dict(state, assign=True)
    ours, theirs = (dict(model.named_parameters()) for model in models)
    assert [(n, x.data_ptr(), x.requires_grad) for n, x in ours.items()] == [
        (n, x.data_ptr(), x.requires_grad) for n, x in theirs.items()
    ]
    assert all(type(x) is nn.Parameter for x in ours.values())
    buffers = [dict(model.named_buffers()) for model in models]
    assert buffers[0].keys() == buffers[1].keys()
    assert buffers[0]["0.running_mean"] is state["0.running_mean"]
    assert getattr(last, "shape", None) == getattr(models[0][1], "shape", None)


def test_a_parameter_of_two_names_stays_one() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    one = nn.Parameter(torch.ones(2, 2))
    put_state(model, {**model.state_dict(), "0.weight": one, "1.weight": one})
    assert model[0].weight is model[1].weight is one


@pytest.mark.parametrize("hook", ["register_load_state_dict_pre_hook", "post"])
def test_hooks_are_called(hook: str) -> None:
    called: list[str] = []
    model = nn.Sequential(nn.Linear(2, 2))
    if hook == "post":
        model[0].register_load_state_dict_post_hook(lambda *_: called.append(hook))
    else:
        model[0].register_load_state_dict_pre_hook(lambda *_: called.append(hook))
    put_state(model, model.state_dict())
    assert called == [hook]
