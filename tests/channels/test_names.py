from __future__ import annotations

import pytest

from prunecore.channels.names import is_bias


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc.bias", True),
        ("bias", True),
        ("attention.in_proj_bias", True),
        ("lstm.bias_ih_l0_reverse", True),
        ("bias.weight", False),
        ("unbiased", False),
    ],
)
def test_which_parameters_are_biases(name: str, expected: bool) -> None:
    assert is_bias(name) is expected
