"""What makes a function a command, and where the commands are found."""

import functools
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, Final, get_origin, get_type_hints

import typer

from .guard import guarded
from .options import Common
from .usage import Worded

KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY
BARE: Final = Common()
HINTS: Final = get_type_hints(Common, include_extras=True)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as Typer takes it, and where it stands."""

    name: str
    call: Callable[..., None]
    place: int = 0  # in `spectra --help`, of those that are ours
    parser: type[Worded] = Worded  # how its words are read


def command(
    place: int = 0,
    *,
    without: tuple[str, ...] = (),
    wording: Mapping[str, Any] | None = None,
    parser: type[Worded] = Worded,
) -> Callable[[Callable[..., int | None]], Command]:
    """Make a function a command of its name: it takes options, and returns its exit code.

    An argument `common: Common` is not one option but all that commands share, and any other
    dataclass all that its fields are; what the function raises becomes one line and an exit code.

    Args:
        place: Where it stands in `spectra --help`.
        without: Shared options that it does not take, by their fields.
        wording: Shared options that it words in its own way, by their fields: the annotation.
        parser: How its words are read; as Typer does by default.
    """
    hints = HINTS | dict(wording or {})
    shared = [
        inspect.Parameter(one.name, KEYWORD, default=getattr(BARE, one.name), annotation=hint)
        for one in fields(Common)
        if one.name not in without and get_origin(hint := hints[one.name]) is Annotated
    ]

    def mark(function: Callable[..., int | None]) -> Command:
        own = inspect.signature(function, eval_str=True).parameters.values()
        groups: dict[str, tuple[Any, list[inspect.Parameter]]] = {
            one.name: (one.annotation, shared if one.annotation is Common else _options(one))
            for one in own
            if is_dataclass(one.annotation)
        }

        @functools.wraps(function)
        def call(**given: Any) -> None:  # noqa: ANN401 - as many types as options
            for name, (kind, options) in groups.items():
                given[name] = kind(**{one.name: given.pop(one.name) for one in options})
            raise typer.Exit(guarded(lambda: function(**given)))

        written_out = [
            one.replace(kind=KEYWORD)
            for parameter in own
            for one in (groups[parameter.name][1] if parameter.name in groups else [parameter])
        ]
        call.__signature__ = inspect.Signature(written_out)  # type: ignore[attr-defined]
        return Command(function.__name__, call, place, parser)

    return mark


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options that the fields of an argument's dataclass are."""
    hints = get_type_hints(parameter.annotation, include_extras=True)
    return [
        inspect.Parameter(one.name, KEYWORD, default=one.default, annotation=hints[one.name])
        for one in fields(parameter.annotation)
    ]


def commands_in(package: ModuleType) -> list[Command]:
    """Return the commands that the modules of a package hold, by their places."""
    modules = [
        import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
        if not found.ispkg
    ]
    found = [one for module in modules for one in vars(module).values() if isinstance(one, Command)]
    return sorted(found, key=lambda one: one.place)


def groups_in(package: ModuleType) -> dict[str, ModuleType]:
    """Return the groups of commands: packages in a package, by name; their texts are the help."""
    return {
        found.name: import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
        if found.ispkg
    }
