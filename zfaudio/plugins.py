"""Find the class that a setting names: by a short name of this package, or by an import path into another one."""

import importlib
from collections.abc import Mapping
from typing import TypeVar

from zfaudio.errors import UserError

Base = TypeVar("Base")


def find_class(name: str, known: Mapping[str, str], base: type[Base], setting: str) -> type[Base]:
    """The subclass of `base` that `name` means.

    Args:
        name: a key of `known`, or an import path such as my_package.MyModel.
        known: import paths of this package's own classes by their short names.
        base: what the class must be a subclass of.
        setting: the setting that holds the name, for error messages.

    Raises:
        UserError: there is no such class, it cannot be imported, or it is not a subclass of `base`.
    """
    path = known.get(name, name)
    module, _, attribute = path.rpartition(".")
    if not module:
        raise UserError(f"{setting} is {name!r}; choose {', '.join(known)}, or give an import path: my_package.MyClass")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{setting} is {name!r}, but Python finds no module {error.name!r}; install it, or add its folder to "
            "PYTHONPATH"
        ) from None
    except AttributeError:
        raise UserError(f"{setting} is {name!r}, but module {module!r} has no {attribute!r}") from None
    except Exception as error:
        raise UserError(f"{setting} is {name!r}, but importing {module!r} failed: {error!r}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{setting} is {name!r}, which is not a subclass of {base.__module__}.{base.__name__}")
    return found
