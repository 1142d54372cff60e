"""Dataclasses as JSON files, with every field checked when a file is read back."""

import contextlib
import dataclasses
import functools
import json
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from zfaudio.errors import UserError
from zfaudio.files import write_text
from zfaudio.text import printable

Content = TypeVar("Content")


class ForeignRecord:
    """Base of dataclasses for what another program writes: fields that they do not name are ignored."""


def write_json(path: Path, content: Any, left_out: Collection[str] = ()) -> None:
    """Write a dataclass as JSON and make the folders above it. The file appears whole or not at all.

    Args:
        path: the file.
        content: the dataclass.
        left_out: names of fields that have a default and are not written.
    """
    fields = {name: value for name, value in dataclasses.asdict(content).items() if name not in left_out}
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    # Bytes of a file name that are not UTF-8 become escapes of JSON, which read back as they were.
    write_text(path, text.encode("utf-8", "backslashreplace").decode() + "\n")


def read_json(
    kind: type[Content],
    path: Path,
    command: str,
    newest: int,
    upgrade: Callable[[dict[str, Any], int], None] = lambda fields, version: None,
    remedy: str = "make it again",
) -> Content:
    """Read what `write_json` wrote.

    Args:
        kind: the dataclass. Its fields may be numbers, strings, bools, literals, dataclasses, and lists, tuples,
            dicts and options of these. One of them is format_version.
        path: the file.
        command: the command that writes such files, for error messages.
        newest: the newest format version that this zfaudio knows. A file that does not say has version 1.
        upgrade: changes the fields of a file of an older version into those of the newest.
        remedy: what to do about a file that cannot be read, for error messages.

    Raises:
        UserError: the file is missing, is not JSON, has a newer format version, or a field in it is missing, unknown
            or of another type; the message names the field.
    """
    what = f"a result of this version of {command}"
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: not {what} (not a file); {remedy}")  # a pipe would never end
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not {what} ({error}); {remedy}") from None
    return parse_json(kind, text, path, what, newest, upgrade, remedy)


def parse_json(
    kind: type[Content],
    text: str,
    path: str | Path,
    what: str,
    newest: int,
    upgrade: Callable[[dict[str, Any], int], None] = lambda fields, version: None,
    remedy: str = "make it again",
) -> Content:
    """Parse the text of a file that `write_json` wrote.

    Args:
        kind: the dataclass, as in `read_json`. A ValueError that its `__post_init__` raises counts as a wrong field.
        text: what the file holds.
        path: the file or its address, for error messages.
        what: what the file should be, for error messages.
        newest: the newest format version that this zfaudio knows. A file that does not say has version 1.
        upgrade: changes the fields of a file of an older version into those of the newest.
        remedy: what to do about a file that cannot be read, for error messages.

    Raises:
        UserError: as in `read_json`.
    """
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        version = _parse(int, fields.get("format_version", 1), "format_version")
        if version < 1:
            raise ValueError(f"field format_version is {_shortened(version)}, not 1 or more")
        if version > newest:
            raise UserError(
                f"{path}: format_version is {_shortened(version)}, but this zfaudio reads versions up to {newest}; "
                "update zfaudio"
            )
        try:
            upgrade(fields, version)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"cannot be read as format version {version}: {error!r}") from None
        parsed: Content = _parse(kind, {**fields, "format_version": newest}, "")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not {what} ({printable(str(error))}); {remedy}") from None
    return parsed


def _parse(kind: Any, value: Any, name: str) -> Any:
    """`value`, which is the field `name` of the file, as `kind`. Raises ValueError if it is something else."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return parse_dataclass(kind, value, name)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        *others, last = (argument for argument in arguments if argument is not types.NoneType)
        for other in others:
            with contextlib.suppress(ValueError):
                return _parse(other, value, name)
        return _parse(last, value, name)
    if origin is Literal and value in arguments:
        return value
    if origin is list and isinstance(value, list):
        return [_parse(arguments[0], item, f"{name}[{index}]") for index, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        parts = enumerate(zip(arguments, value, strict=True))
        return tuple(_parse(part, item, f"{name}[{index}]") for index, (part, item) in parts)
    if origin is dict and isinstance(value, dict):
        return {key: _parse(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond the range of floats
            return float(value)
    if kind in (str, bool, int) and type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ValueError(f"field {name} is {_shortened(value)}, not {wanted}")


def parse_dataclass(kind: Any, fields: dict[str, Any], name: str = "") -> Any:
    """A dataclass from its fields, with every field checked.

    Args:
        kind: the dataclass. If it is a ForeignRecord, unknown fields are ignored.
        fields: its fields by name.
        name: name of the dataclass in the file that it comes from, for error messages.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message names it.
    """
    prefix = f"{name}." if name else ""
    hints = _type_hints(kind)
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in fields:
            raise ValueError(f"field {prefix}{field.name} is missing")
    for key in fields:
        if key not in hints and not issubclass(kind, ForeignRecord):
            raise ValueError(f"field {prefix}{key} is unknown")
    values = {key: _parse(hints[key], value, prefix + key) for key, value in fields.items() if key in hints}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"field {prefix}{error}") from None


@functools.cache
def _type_hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
