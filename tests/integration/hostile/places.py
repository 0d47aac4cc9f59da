"""The places where a network can hold a name, and the names that are tried there."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .attributes import (
    assigned_child,
    buffer,
    child,
    constant_buffer,
    derived_dictionary,
    derived_row,
    dictionary,
    differing,
    differing_dictionary,
    differing_kind,
    grandchild,
    in_row,
    listed,
    looped,
    looped_dictionary,
    number,
    outer,
    parameter,
    parameters,
    returned_dictionary,
    row,
    tied,
    unchecked_child,
)
from .names import DOTTED, FEW, NAMES, NUMBERS, OF_FILES, OF_MODULES, UNDERSCORES
from .texts import (
    argument,
    class_name,
    inner_class_name,
    itself,
    keyword,
    layer_option,
    local,
    message,
    module_name,
    qualified_name,
    row_class_name,
    tuple_field,
    tuple_name,
    word,
)

Place = Callable[[str], nn.Module]

_WHEREVER = (child, dictionary)  # each name is tried here

# And here by the slow tests.
_LIKE_THESE = (
    class_name,
    row,
    parameter,
    buffer,
    inner_class_name,
    message,
    looped,
    differing,
    number,
)

# Each place with the names that are tried there.
PLACES: dict[Place, tuple[str, ...]] = {
    **dict.fromkeys(_WHEREVER, NAMES),
    **dict.fromkeys(_LIKE_THESE, FEW),
    listed: ("x", *NUMBERS),
    row: (*FEW, *NUMBERS),
    unchecked_child: (*DOTTED, *UNDERSCORES, *OF_MODULES),
    assigned_child: (*UNDERSCORES, *OF_MODULES),
    **dict.fromkeys((argument, local), (*OF_FILES, *FEW)),
    **dict.fromkeys(
        (
            grandchild,
            outer,
            looped_dictionary,
            returned_dictionary,
            derived_dictionary,
            differing_dictionary,
            in_row,
            derived_row,
            constant_buffer,
            parameters,
            tied,
            differing_kind,
            row_class_name,
            module_name,
            qualified_name,
            tuple_name,
            tuple_field,
            word,
            keyword,
            itself,
            layer_option,
        ),
        FEW,
    ),
}
ALL_PLACES = PLACES | dict.fromkeys(_LIKE_THESE, NAMES)
