"""Settings as dataclasses. What a setting may be stands with its field, and is checked when the dataclass is made."""

import math
import numbers
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from zfaudio.errors import UserError

Value = TypeVar("Value", int, float)

LARGEST_INTEGER = 2**63 - 1  # of torch and numpy


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be. NaN is in no range."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    infinite: bool = False  # whether infinity is in it, too

    def fault(self, value: float) -> str:
        """What a number must be that is not in this range; empty for one that is."""
        if math.isnan(value):
            return "a number"
        if math.isinf(value) and not self.infinite:
            return "finite"
        if self.least is not None and value < self.least:
            return f"at least {self.least}"
        if self.above is not None and value <= self.above:
            return f"above {self.above}"
        if self.most is not None and value > self.most:
            return f"at most {self.most}"
        return ""


def setting(
    default: Value,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    infinite: bool = False,
) -> Value:
    """A number as a field of a dataclass, with its range.

    Args:
        default: value by default.
        least: smallest value.
        above: the value must be larger than this.
        most: largest value.
        infinite: whether it may be infinite.
    """
    number: Any = field(default=default, metadata={"range": Range(least, above, most, infinite)})
    return number  # type: ignore[no-any-return]


def check_settings(section: str, settings: Any) -> None:
    """Check every field of a dataclass of settings, also those that a subclass in another package adds.

    Args:
        section: name of the section in configuration files, for error messages.
        settings: the dataclass.

    Raises:
        UserError: a setting has another type than its field says, or is outside its range; the message names it.
    """
    kinds = _types_of_fields(type(settings))
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        fault = _fault(value, kinds.get(entry.name), entry.metadata.get("range", Range()))
        if fault:
            shown = value if isinstance(value, numbers.Real) else repr(value)
            raise UserError(f"{section}.{entry.name} is {shown}; it must be {fault}")


def _fault(value: Any, kind: Any, allowed: Range) -> str:
    """What `value` must be to be a setting of that type and range; empty if it is."""
    if kind is bool:
        return "" if isinstance(value, bool) else "true or false"
    if kind is str:
        return "" if isinstance(value, str) else "a text"
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else "one of " + ", ".join(map(str, get_args(kind)))
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, number):
            return "a whole number" if kind is int else "a number"
        if kind is int and abs(cast(int, value)) > LARGEST_INTEGER:
            return f"at most {LARGEST_INTEGER}"
        return allowed.fault(cast(float, value))
    return ""  # other types are for the class itself to check


def _types_of_fields(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # a class of another package, with an annotation that only a type checker can resolve
        return {}
