"""What a network is called with, by example or by shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.errors import InputShapeError, UsageError
from prunecore.files.fingerprint import fingerprint_set
from prunecore.inputs import Inputs, inputs_of, of_examples, of_shape
from prunecore.planning.request import Request
from prunecore.typed_input import TypedInput

from .conftest import randomised

pytestmark = pytest.mark.usefixtures("toys_installed")


class Gated(nn.Module):
    """Reads a second input, by name if one likes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 8)
        self.gate = nn.Linear(2, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, scale: Tensor | None = None, *, by: Tensor) -> Tensor:
        x = torch.relu(self.stem(x)) * torch.sigmoid(self.gate(by))
        return self.head(x if scale is None else x * scale)


class Root(nn.Module):
    """Is defined for positive inputs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 8)
        self.b = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(torch.sqrt(x)))


def test_examples_stand_for_their_shapes() -> None:
    model = randomised(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)))
    by_shape = prunecore.prune(model, level=40, input_shape=(3,))
    by_example = prunecore.prune(model, torch.rand(5, 3), 40)
    assert by_example.source == by_shape.source
    assert by_example.report["inputs"] == {"named": {}, "shapes": [[3]]}
    assert by_example.report["verified"] == by_shape.report["verified"]


def test_a_tuple_and_inputs_by_name(tmp_path: Any) -> None:
    model = randomised(Gated())
    x, by = torch.rand(4, 3).double(), torch.rand(4, 2).double()
    small = prunecore.prune(model, (x,), 40, example_kwargs={"by": by})
    assert small.report["inputs"] == {"named": {"by": [2]}, "shapes": [[3]]}
    assert small.model(x, by=by).shape == (4, 2)
    assert "by: Tensor" in small.source
    small.save(tmp_path / "gated_40.py")
    assert prunecore.verify(tmp_path / "gated_40.py", model).inputs == 8


def test_examples_say_where_the_network_is_defined() -> None:
    model = randomised(Root())
    assert prunecore.prune(model, torch.rand(2, 4), 40).report["verified"]
    with pytest.raises(prunecore.VerificationError, match="not finite"):
        prunecore.prune(model, level=40, input_shape=(4,))


def test_constant_examples_do_not_hide_what_is_wrong() -> None:
    model = nn.Linear(3, 2)
    for example in (torch.zeros(1, 3), torch.ones(2, 3)):
        args, _ = of_examples(example).samples(model)
        assert len(args[0]) == 8
        assert len(args[0].unique()) == 24


def test_half_of_the_samples_are_examples() -> None:
    example = torch.rand(6, 3) + 5
    args, kwargs = of_examples(example).samples(nn.Linear(3, 2))
    assert kwargs == {}
    assert args[0].dtype == torch.float64
    assert torch.equal(args[0][:4], example[:4].double())
    assert float(args[0].min()) >= float(example.min())
    assert float(args[0].max()) <= float(example.max())


def test_whole_numbers_stay_whole_and_within_those_of_the_example() -> None:
    tokens, seen = torch.randint(5, 40, (3, 6)), torch.rand(3, 6) > 0.5
    inputs = of_examples((tokens, torch.rand(3, 6)), {"seen": seen})
    (drawn, numbers), named = inputs.samples(nn.Linear(3, 2))
    assert (drawn.dtype, numbers.dtype) == (torch.int64, torch.float64)
    assert named["seen"].dtype == torch.bool
    assert torch.equal(drawn[:3], tokens)
    assert int(tokens.min()) <= int(drawn.min()) <= int(drawn.max()) <= int(tokens.max())
    assert len(drawn[3:].unique()) > 5
    (tokens_once, _), _ = inputs.example(nn.Linear(3, 2).half())
    assert tokens_once.dtype == torch.int64
    assert [tensor.dtype for tensor in inputs.on_meta(2)[0]] == [torch.int64, torch.float32]


def test_constant_whole_numbers_stay_as_they_are() -> None:
    inputs = of_examples((torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 3)))
    (mask, numbers), _ = inputs.samples(nn.Linear(3, 2))
    assert mask.dtype == torch.int64
    assert bool((mask == 1).all())
    assert len(numbers.unique()) == 24


class Masked(nn.Module):
    """Reads a mask of each input, one for all of them, a number and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 8)
        self.head = nn.Linear(8, 2)

    def forward(
        self,
        x: Tensor,
        seen: Tensor,
        bias: Tensor | None = None,
        scale: float = 1.0,
        centred: bool = False,
    ) -> Tensor:
        x = torch.relu(self.stem(x)) * seen.unsqueeze(-1) * scale
        if bias is not None:
            x = x + bias.unsqueeze(-1)
        if centred:
            x = x - 0.5
        return self.head(x)


@pytest.mark.parametrize(
    ("args", "named", "inputs"),
    [
        ((), {}, {"shapes": [[5, 3], "bool[5]"], "named": {}}),
        (
            (torch.rand(5),),
            {"centred": True},
            {
                "shapes": [[5, 3], "bool[5]", "float[5] shared"],
                "named": {"centred": {"value": True}},
            },
        ),
        (
            (None, 2),
            {},
            {"shapes": [[5, 3], "bool[5]", {"value": None}, {"value": 2}], "named": {}},
        ),
    ],
)
def test_masks_numbers_and_flags(args: Any, named: Any, inputs: Any, tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = randomised(Masked())
    small = prunecore.prune(
        model, (torch.rand(4, 5, 3), torch.rand(4, 5) > 0.5, *args), 40, example_kwargs=named
    )
    assert small.report["verified"]["inputs"] == 8
    assert small.report["inputs"] == inputs
    assert ("scale: float = 1.0" in small.source) is (args[1:] == (2,))
    small.save(tmp_path / "masked_40.py")
    assert prunecore.verify(tmp_path / "masked_40.py", model).inputs == 8


def test_all_of_them_by_name() -> None:
    inputs = of_examples(None, {"seen": torch.rand(2, 5) > 0.5, "x": torch.rand(2, 5, 3)})
    assert prunecore.prune(
        randomised(Masked()),
        example_kwargs={"x": torch.rand(2, 5, 3), "seen": torch.rand(2, 5) > 0.5},
        level=40,
    ).report["verified"]
    assert list(inputs.samples(nn.Linear(3, 2))[1]) == ["seen", "x"]


def test_values_without_end_are_not_drawn_between() -> None:
    hidden = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
    (drawn,), _ = of_examples(hidden).samples(nn.Linear(2, 2))
    assert torch.equal(drawn, hidden.double().repeat(4, 1))


def test_the_batch_is_that_of_the_first_tensor() -> None:
    with pytest.raises(UsageError, match=r"^The first tensor, float\[3\] shared, has no batch"):
        Inputs((TypedInput((3,), is_shared=True), TypedInput((3,))))


def test_one_image_is_one_tensor_with_fractions() -> None:
    assert of_shape((3, 4, 4)).image == (3, 4, 4)
    assert of_shape([(3,), (3,)]).image is None
    assert of_examples(torch.ones(2, 3, dtype=torch.int64)).image is None
    assert of_examples((torch.rand(2, 3), 2.0)).image is None


def test_a_batch_that_comes_second() -> None:
    inputs = of_examples((torch.rand(3, 4), torch.rand(2, 3, 5)))
    assert Inputs.from_dict(inputs.as_dict()).tensors == inputs.tensors
    assert [x.shape for x in inputs.on_meta(6)[0]] == [(6, 4), (2, 6, 5)]
    x, state = inputs.samples(nn.Linear(4, 2))[0]
    assert x.shape[0] == state.shape[1]


def test_shapes_go_to_json_and_back() -> None:
    inputs = of_examples((torch.rand(1, 3, 4),), {"by": torch.rand(1, 2)})
    assert Inputs.from_dict(inputs.as_dict()).shapes == inputs.shapes == ((3, 4), (2,))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"x": torch.rand(1, 3)}, "example_inputs is a dict, not a tensor or a tuple of tensors."),
        (3, "example_inputs is an int, not a tensor or a tuple of tensors."),
        ((), "There are no example inputs."),
        (([torch.rand(1, 3), object()],), "Example input 0[1] is an object, not a tensor."),
        (([[], {}],), "There are no example inputs."),
        ((torch.rand(1, 3), {2}), "Example input 1 is a set, not a tensor."),
        (torch.zeros(1, 3, dtype=torch.complex64), "Example input 0 is of torch.complex64, which"),
        (torch.tensor(1.0), "Example input 0 has the shape ()"),
        (torch.zeros(0, 3), "Example input 0 has the shape (0, 3)"),
    ],
)
def test_what_is_no_example(given: Any, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        of_examples(given)
    assert str(caught.value).startswith(what)
    assert len(str(caught.value).splitlines()) == 2


def test_inputs_by_name_are_asked_for_as_such() -> None:
    with pytest.raises(UsageError, match="Give inputs that have names as example_kwargs"):
        of_examples({"x": torch.rand(1, 3)})  # type: ignore[arg-type]


def test_one_of_the_two_is_given() -> None:
    with pytest.raises(UsageError, match="What is the network called with"):
        inputs_of(None, None, None)
    with pytest.raises(UsageError, match="Give one of the two"):
        inputs_of(torch.rand(1, 3), None, (3,))
    assert inputs_of(None, None, (3,)).shapes == of_shape((3,)).shapes


def test_an_example_that_the_network_cannot_take() -> None:
    with pytest.raises(InputShapeError, match="cannot take a tensor of shape"):
        prunecore.prune(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)), torch.rand(1, 4), 50)


@pytest.mark.parametrize("shape", [(10**30,), (2,) * 16, (2**16, 2**15), [(3,), (10**30, 3)]])
def test_an_input_that_there_is_no_room_for(shape: Any) -> None:
    with pytest.raises(InputShapeError, match=r"^An input of the shape \(.*\) is too large"):
        of_shape(shape)


def test_a_name_that_the_forward_does_not_have() -> None:
    examples = {"x": torch.rand(2, 5, 3), "seem": torch.rand(2, 5) > 0.5}
    with pytest.raises(UsageError, match=r"Unknown input of Masked\.forward 'seem'\. Did you mean"):
        prunecore.prune(Masked(), example_kwargs=examples, level=40)


def test_inputs_change_the_fingerprint() -> None:
    request = Request(50, "random")
    marks = {
        fingerprint_set("", inputs, (), request)
        for inputs in (
            of_shape((3,)),
            of_examples(torch.ones(2, 3)),
            of_examples(torch.rand(2, 3)),
            Inputs((TypedInput((3,), torch.int64, 0, 5),)),
            Inputs((TypedInput((3,), torch.int64, 0, 6),)),
            Inputs((TypedInput((3,)),), {"scale": 2.0}),
            Inputs((TypedInput((3,)),), {"scale": 3.0}),
        )
    }
    assert len(marks) == 7
