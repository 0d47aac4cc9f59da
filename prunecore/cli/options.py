"""Options that several commands have, and the group that shows errors in a line or two."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

from prunecore.errors import PrunecoreError, UsageError, one_line, unknown_name
from prunecore.escaping import visible
from prunecore.files import values
from prunecore.planning.request import SCOPES, Limits

T = TypeVar("T")


Command = TypeVar("Command", bound=Callable[..., Any])


DEBUG = "prunecore.debug"

# Click raises the help of a group that is given no command; before 8.2 it printed it itself.
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Commands(click.Group):
    """Shows every error as a line or two, and ends with its exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take apart what stands before the command."""
        with _shown_errors(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was asked for.

        Raises:
            UsageError: there is none of that name.
        """
        name, is_option = args[0], args[0].startswith("-")
        if self.get_command(ctx, name) is None and not (is_option or ctx.resilient_parsing):
            raise unknown_name("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        with _shown_errors(ctx):
            return super().invoke(ctx)


@contextmanager
def _shown_errors(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except PrunecoreError as error:
        if ctx.meta.get(DEBUG):
            traceback.print_exc()
        _end(ctx, str(error), error.exit_code)
    except click.UsageError as error:
        if isinstance(error, NO_ARGUMENTS):
            raise
        command = (error.ctx or ctx).command_path
        message = f"{one_line(error.format_message())}\nSee `{command} --help` for what it takes."
        _end(ctx, message, error.exit_code)


def _end(ctx: click.Context, message: str, exit_code: int) -> NoReturn:
    say(f"Error: {message}", err=True)
    ctx.exit(exit_code)


def say(text: str, err: bool = False) -> None:
    """Print lines for people: what a name has of control characters and marks is escaped."""
    click.echo("\n".join(map(visible, text.split("\n"))), err=err)


def checked(read: Callable[[Any], T]) -> Callable[..., T | None]:
    """A callback that reads an option as the configuration reads the same key."""

    def callback(_: click.Context, parameter: click.Parameter, value: Any) -> T | None:
        try:
            return None if value is None else read(value)
        except UsageError as error:
            raise UsageError(f"{parameter.opts[0]}: {error}") from error

    return callback


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


def path_option(name: str, field: str, metavar: str, text: str) -> Callable[[Command], Command]:
    """An option that takes a path."""
    read = checked(values.read_path)
    return click.option(name, field, callback=read, metavar=metavar, help=text)


debug = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)


arguments = click.option(
    "--model-arg",
    "arguments",
    metavar="NAME=VALUE",
    multiple=True,
    callback=checked(lambda texts: dict(map(values.read_argument, texts))),
    help="An argument of the factory, such as num_classes=10. May be repeated.",
)


input_shape = click.option(
    "--input-shape",
    metavar="C,H,W",
    multiple=True,
    callback=checked(lambda texts: values.read_shapes(texts) if texts else None),
    help="The shape of one input; given once for each.  [default: 3,224,224, or what torchvision's "
    "model is made for]",
)


inputs = click.option(
    "--input",
    "inputs",
    metavar="NAME:TYPE[SIZES]",
    multiple=True,
    callback=checked(lambda texts: values.read_inputs(texts) if texts else None),
    help="In its place, an input's type and the sizes of one example: 'tokens:int64[128]<30000', "
    "'mask:bool[128]', or a value, scale=2.0; without a name by place. Given once for each.",
)


module = click.option(
    "--module", metavar="PATH", help="Take this module of MODEL in place of the whole."
)


strict = click.option(
    "--strict",
    is_flag=True,
    default=None,
    help="Refuse what is not understood, rather than leave whole what it meets.",
)


weights = path_option(
    "--weights",
    "weights",
    "FILE",
    "The model's weights: .safetensors, .pt or .pth, or .safetensors.index.json of shards.",
)


seed = click.option(
    "--seed",
    metavar="INTEGER",
    callback=checked(lambda text: values.read_seed(values.read_yaml(text))),
    help="Of random scores, and of weights that no file gives.  [default: 0]",
)


def round_to(help: str) -> Callable[[Command], Command]:
    """The option that says what widths are multiples of."""
    return click.option(
        "--round-to",
        metavar="N",
        callback=checked(lambda text: values.read_round_to(values.read_yaml(text))),
        help=help,
    )


_LIMITS = (
    click.option(
        "--scope",
        metavar="|".join(SCOPES),
        callback=checked(values.read_scope),
        help="Rank channels over the network, or take the same share of every group of coupled "
        f"layers.  [default: {Limits.scope}]",
    ),
    click.option(
        "--limit",
        "layers",
        metavar="GLOB=keep|PERCENT%",
        multiple=True,
        callback=checked(lambda texts: values.read_limits(texts) if texts else None),
        help="How much of the layers of these paths may go: stem*=keep, layer4.*=30%. May be "
        "repeated.",
    ),
    click.option(
        "--max-level",
        metavar="PERCENT",
        callback=checked(values.read_max_level),
        help="How much of any one layer may go.  [default: any number]",
    ),
    click.option(
        "--min-channels",
        metavar="N",
        callback=checked(lambda text: values.read_min_channels(values.read_yaml(text))),
        help=f"How many channels every layer keeps.  [default: {Limits.min_channels}]",
    ),
    round_to("Cut widths to multiples of N, such as 8."),
)


def limits(command: Command) -> Command:
    """The options that say what has to stay."""
    for option in reversed(_LIMITS):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
