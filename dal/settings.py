"""Settings: what the annotations of a function say of its arguments, and what breaks that.

An annotation is the one place that says which values an argument takes. `checked` holds a function
to it in every call; `faults_of` reads it before anything is called.
"""

import difflib
import inspect
import math
import numbers
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache, partial, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dal.functional.checks import check_count, check_not_negative, check_positive, check_share

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _check_inside(name: str, value: object) -> None:
    check_share(name, value)
    if value in (0, 1):
        raise ValueError(f"{name} must lie between 0 and 1, neither of them, got {value!r}")


Count = Annotated[int, partial(check_count, least=1)]
Number = Annotated[int, partial(check_count, least=0)]
Positive = Annotated[float, check_positive]
NotNegative = Annotated[float, check_not_negative]
Share = Annotated[float, check_share]  # from 0 to 1
Inside = Annotated[float, _check_inside]  # between them

MISSING = "???"  # how YAML says that a value must be given
NEAR = 0.5  # how alike two names are, from 0 to 1, before one is taken for the other misspelt

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
    NoneType: "null",
}


class SettingsError(ValueError):
    """All that is wrong with the settings of a run.

    Args:
        faults: a line each, at least one.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults)
        self.faults = [" ".join(fault.split()) for fault in faults]

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        return "\n  ".join([f"{len(self.faults)} settings are wrong", *self.faults])


def checked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Make a function refuse what the checks in its annotations refuse, before it does anything.

    >>> @checked
    ... def repeat(text: str, times: Count = 2) -> str:
    ...     return text * times
    >>> repeat("ab", times=0)
    Traceback (most recent call last):
    ValueError: times must be a whole number of at least 1, got 0
    """
    signature = inspect.signature(function)
    hints = cache(partial(hints_of, function))  # read at the first call: they may name what follows

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            for check in _checks(value, hints().get(name)):
                check(name, value)
        return function(*args, **kwargs)

    return call


def hints_of(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations of a function, or of a class's constructor; none where they cannot be read."""
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {}


def faults_of(
    path: str,
    target: Callable[..., Any],
    settings: Mapping[str, Any],
    given: Iterable[str] = (),
    *,
    whole: bool = True,
) -> list[str]:
    """Say what is wrong with settings before they are passed to a function or class.

    Args:
        path: of the settings, which begins what is said.
        target: what they go to.
        settings: values by the names of its arguments.
        given: names of the arguments that come from elsewhere.
        whole: nothing else will come; an argument without a value is missing.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):  # of a function written in C
        return []
    hints = hints_of(target)
    extra = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    taken = {*given}
    faults = []
    for name, value in settings.items():
        if name in taken:
            faults.append(f"{path}.{name} cannot be set: the run gives it")
        elif name in named and not _is_default(value, named[name].default):
            faults += fault(f"{path}.{name}", value, hints.get(name, Any))
        elif name not in named and not extra:
            faults.append(unknown(name, [other for other in named if other not in taken], path))
    if whole:
        faults += [
            f"{path}.{name} has no value; add +{path}.{name}=..."
            for name, parameter in named.items()
            if parameter.default is parameter.empty and name not in {*taken, *settings}
        ]
    return faults


def fault(name: str, value: Any, hint: Any) -> list[str]:
    """Say what is wrong with a value, by the annotation of what it goes to: a line, or none."""
    if value == MISSING:
        return [f"{name} has no value; add {name}=..."]
    kinds = _kinds(hint)
    if any(not _faults_of_kind(name, value, kind) for kind in kinds):
        return []
    if len([kind for kind in kinds if kind is not NoneType]) == 1:
        return _faults_of_kind(name, value, kinds[0])
    return [_told(name, value, kinds)]


def unknown(name: str, known: Iterable[str], path: str = "") -> str:
    """Say that nothing is called so, and what comes next to it."""
    prefix = f"{path}." if path else ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    there = ", ".join(sorted(known)) or "none"
    meant = f"did you mean {prefix}{near[0]}?" if near else f"there are: {there}"
    return f"{prefix}{name} is unknown; {meant}"


def names_of(target: str, *, needed: bool = False) -> list[str]:
    """Names of the arguments, or those needed, of what a node names; none if it is not there."""
    try:
        parameters = inspect.signature(pkgutil.resolve_name(target)).parameters
    except Exception:  # of a user's module, anything
        return []
    return [name for name, p in parameters.items() if not needed or p.default is p.empty]


def is_node(value: Any) -> bool:
    """Whether a setting names, under `_target_`, what is to be built from it."""
    return isinstance(value, Mapping) and "_target_" in value


def _is_default(value: Any, default: Any) -> bool:
    """Whether a value is what comes without it, whatever the annotation says."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return plain and type(value) is type(default) and value == default


def _kinds(hint: Any) -> list[Any]:
    """Members of a union, None last."""
    if get_origin(hint) not in (Union, UnionType):
        return [NoneType if hint is None else hint]
    kinds = [kind for member in get_args(hint) for kind in _kinds(member)]
    return sorted(kinds, key=lambda kind: kind is NoneType)


def _checks(value: Any, hint: Any) -> Iterator[Callable[[str, Any], None]]:
    kinds = _kinds(hint)
    if value is None and NoneType in kinds:
        return
    for kind in kinds:
        yield from filter(callable, getattr(kind, "__metadata__", ()))


def _faults_of_kind(name: str, value: Any, kind: Any) -> list[str]:
    try:
        for check in _checks(value, kind):
            check(name, value)
    except ValueError as error:
        return [str(error)]
    return [] if _fits(value, kind) else [_told(name, value, [kind])]


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from YAML is of a kind; of a kind that YAML cannot say, a node is."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(value, args[0])
    if kind is Any:
        return True
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in args)
    if kind is float:
        return type(value) in (int, float) and not math.isnan(value)
    if _is_plain(kind):
        return type(value) is (str if kind is Path else kind)
    return _has_shape(value, origin if isinstance(origin, type) else kind, args)


def _has_shape(value: Any, shape: Any, kinds: Sequence[Any]) -> bool:
    if not isinstance(shape, type) or shape is object:
        return True
    if issubclass(shape, Mapping):
        return isinstance(value, Mapping) and _all_fit(value.values(), kinds[1:])
    if _is_list(shape):
        return isinstance(value, list | tuple) and _all_fit(value, kinds)
    return is_node(value) or (issubclass(shape, numbers.Number) and _fits(value, _number(shape)))


def _is_list(shape: type) -> bool:
    return shape in (Iterable, Collection) or issubclass(shape, Sequence | Set)


def _number(shape: type) -> type:
    return int if issubclass(shape, numbers.Integral) else float


def _is_plain(kind: Any) -> bool:
    return any(kind is one for one in WORDS)  # an annotation need not be hashable


def _all_fit(values: Iterable[Any], kinds: Sequence[Any]) -> bool:
    kinds = [kind for kind in kinds if kind is not ...]
    return all(any(not fault("", value, kind) for kind in kinds) for value in values if kinds)


def _told(name: str, value: Any, kinds: Sequence[Any]) -> str:
    plain = [kind for kind in kinds if not _is_class(kind)] or kinds
    words = [*dict.fromkeys(word for kind in plain for word in _words(kind))]
    text = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    quoted = isinstance(value, int | float) and "text" in words
    advice = f"; quote it twice: {name}='\"{value}\"'" if quoted else ""
    return f"{name} must be {text}, got {'null' if value is None else repr(value)}{advice}"


def _is_class(kind: Any) -> bool:
    shape = get_origin(kind) or kind
    is_class = isinstance(shape, type) and not _is_plain(kind)
    return is_class and not (_is_list(shape) or issubclass(shape, Mapping | numbers.Number))


def _words(kind: Any) -> list[str]:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(args[0])
    if origin is Literal:
        return [str(one) for one in args]
    if _is_plain(kind):
        return [WORDS[kind]]
    return [_words_of_shape(origin if isinstance(origin, type) else kind, args)]


def _words_of_shape(shape: Any, kinds: Sequence[Any]) -> str:
    if not isinstance(shape, type):
        return "a value under _target_"
    if issubclass(shape, Mapping):
        return "values by name"
    if issubclass(shape, numbers.Number):
        return WORDS[_number(shape)]
    if not _is_list(shape):
        return f"a {shape.__name__} under _target_"
    item = _words(kinds[0])[0] if kinds else "values"
    return f"a list of {item.removeprefix('a ')}{'s' * item.startswith('a ')}"
