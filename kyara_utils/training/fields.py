"""Values that people write in YAML, checked against another library's configuration dataclass before it is built.

transformers and PEFT accept many wrong values silently and refuse others after the model is loaded; here a name or a
type that does not fit is one line, with the nearest field that does.
"""

import difflib
from collections.abc import Mapping
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kyara_utils.runs.errors import KyaraError


def check_fields(parameter: str, given: Mapping[str, Any], config: type, refused: Mapping[str, str]) -> None:
    """Raise `KyaraError` unless every item of `given` is a field of the dataclass `config` with a value of its type.

    parameter: its name, for messages; refused: fields that may not be set, each with the reason.
    """
    hints = get_type_hints(config)
    known = [name for name in hints if name in config.__dataclass_fields__ and name not in refused]
    for name, value in given.items():
        if name in refused:
            raise KyaraError(f"{parameter}: {name} cannot be set there: {refused[name]}")
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, cutoff=0.45)
            fix = f"did you mean {near[0]}?" if near else f"see the fields of {config.__name__}"
            raise KyaraError(f"{parameter}: {config.__name__} has no field {name}; {fix}")
        if not fits(value, hints[name]):
            given_as = f"{type(value).__name__} {value!r}"
            raise KyaraError(f"{parameter}: {name} must be {words(hints[name])}, not {given_as}; {_fix(value)}")


def _fix(value: Any) -> str:
    return "write 1.0e-4, with the dot" if isinstance(value, str) and _is_number(value) else "correct it"


def _is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value read from YAML is one of the type `hint`; an int is taken for a float, nothing else is."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in _without_free_text(inner))
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin in (list, tuple):
        return isinstance(value, list) and all(any(fits(item, one) for one in inner) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    return _fits_class(value, hint)


def _fits_class(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return value in [one.value for one in hint]
    return isinstance(value, hint)


def _without_free_text(inner: tuple[Any, ...]) -> tuple[Any, ...]:
    """A union of an enumeration and text means the enumeration's values written as text."""
    enums = any(isinstance(one, type) and issubclass(one, Enum) for one in inner)
    return tuple(one for one in inner if not (enums and one is str))


def words(hint: Any) -> str:
    """Return a type for people: `int`, `float or null`, the values of an enumeration."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(words(one) for one in _without_free_text(inner))
    if origin is Literal:
        return ", ".join(map(str, inner))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(one.value) for one in hint)
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
