"""The commands' options as typer takes them, made of the table `plan.options`, and the reading of what was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from secost.errors import BadSpecError
from secost.plan.options import ALL_STAGES, TOP, Kind, Option, check_value, option_of, options_of

_TYPES: Mapping[Kind, Any] = {
    Kind.COUNT: int | None, Kind.NUMBER: float | None, Kind.FLAG: bool | None, Kind.REPEATED: list[str] | None,
}
_SCREEN = ("format", "output", "quiet", "benefit", "accuracy", "price")  # what a function of Python has no keyword for


def metadata(command: str, name: str) -> Any:
    """What typer is told of an option: its flags and its help."""
    option, word = option_of(command, name), name.replace("_", "-")
    off = f"/--no-{word}" if option.kind is Kind.FLAG and (option.default or option.stated) else ""
    return typer.Option(f"--{word}{off}", *option.flags.split(), help=option.help_of(command))


# For commands that write out their few options themselves.
Accuracy = Annotated[str | None, metadata("report", "accuracy")]
Benefit = Annotated[str | None, metadata("report", "benefit")]
Price = Annotated[str | None, metadata("report", "price")]
Format = Annotated[str, metadata("profile", "format")]
Output = Annotated[str | None, metadata("profile", "output")]
Quiet = Annotated[bool, metadata("profile", "quiet")]


class Given:
    """What a command was given: its options by name, None where they were left out."""

    def __init__(self, command: str, values: Mapping[str, Any]) -> None:
        self.command, self._values = command, values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def spec_values(self, table: str = TOP) -> dict[str, Any]:
        """The values of a spec's table that were given, and those that this command has a default of its own for."""
        return self._read({option.field_name: option for option in options_of(self.command) if option.table == table})

    def value(self, name: str) -> Any:
        """One option's value, read and checked; None where it was left out."""
        option = option_of(self.command, name)
        value = self._value(option)
        check_value(option, name, value)
        return value

    def keywords(self) -> dict[str, Any]:
        """The same as keywords of the Python function."""
        return self._read({option.python: option for option in options_of(self.command) if option.name not in _SCREEN})

    def _read(self, options: Mapping[str, Option]) -> dict[str, Any]:
        values = {name: self._value(option) for name, option in options.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _value(self, option: Option) -> Any:
        value = self._values[option.name]
        if value is None or (value == "" and self.command in (*option.single.split(), *option.own)):
            return option.own.get(self.command)
        if option.kind is Kind.SHARE:
            from secost.writing import parse_share

            return parse_share(f"--{option.name.replace('_', '-')}", value)
        if option.kind is Kind.STAGES:
            return ALL_STAGES if value == ALL_STAGES else integers(option.name, value)
        if option.kind is Kind.INTEGERS:
            numbers = integers(option.name, value)
            if option.takes_one(self.command) and len(numbers) != 1:
                raise BadSpecError(f"--{option.name} {value!r}: a search is about one setting, give one number")
            return numbers[0] if option.takes_one(self.command) else numbers
        return value if option.takes_one(self.command) or option.kind is not Kind.WORDS else words(value)


def command(name: str, function: Callable[..., int]) -> Callable[..., int]:
    """The function as typer takes it: the arguments that it names itself, and the table's options of this command."""
    *arguments, _ = inspect.signature(function, eval_str=True).parameters.values()

    def run(**values: Any) -> int:
        check_format(values["format"], values["output"] if name == "sites" else None)
        named = {argument.name: values.pop(argument.name) for argument in arguments}
        return function(**named, given=Given(name, values))

    run.__doc__ = function.__doc__
    signature = inspect.Signature([*arguments, *(_parameter(name, option) for option in options_of(name))])
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def _parameter(name: str, option: Option) -> inspect.Parameter:
    default = option.default_of(name) if option.stated else None
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    annotation: Any = Annotated[_TYPES.get(option.kind, str | None), metadata(name, option.name)]
    return inspect.Parameter(option.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default,
                             annotation=annotation)


def words(text: str) -> list[str]:
    """`se, eca` as a list of words."""
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(name: str, text: str) -> list[int]:
    """`2,4,8` as whole numbers. Raises BadSpecError for anything else."""
    numbers = []
    for word in words(text):
        try:
            numbers.append(int(word))
        except ValueError:
            raise BadSpecError(f"--{name} {word!r} is not a whole number: give a list such as 2,4,8") from None
    if not numbers:
        raise BadSpecError(f"--{name} {text!r} holds no number: give a list such as 2,4,8")
    return numbers


def check_format(name: str, output: str | None = None) -> None:
    """Raise BadSpecError for a format that can't be had, before any work is done: on stdout, or in files where these
    are what `output` is for."""
    from secost.render.formats import FORMATS, check_printable

    FORMATS.get(name) if output is not None else check_printable(name)
