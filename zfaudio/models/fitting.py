"""Parts of a model that fit what a frame holds."""

from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeVar

from zfaudio.errors import UserError
from zfaudio.observations import Content, Observation, content_of, describe
from zfaudio.plugins import find_class


class Part(Protocol):
    """A class that a setting names: a model, an encoder, a head or a likelihood."""

    kinds: ClassVar[tuple[Content, ...]]  # of frames that it is for


Fitting = TypeVar("Fitting", bound=Part)


def find_fitting(
    name: str, known: Mapping[str, str], base: type[Fitting], setting: str, observation: Observation
) -> type[Fitting]:
    """The subclass of `base` that `name` means, as `find_class` finds it.

    Raises:
        UserError: there is no such class, or it is for frames that hold something else; the message says which fits.
    """
    found, content = find_class(name, known, base, setting), content_of(observation)
    if content in found.kinds:
        return found
    others = [other for other in known if content in find_class(other, known, base, setting).kinds]
    remedy = " (zfaudio shard --encoding mulaw makes shards for it)" if found.kinds == ("mulaw",) else ""
    fits = [describe(kind) for kind in found.kinds if kind != "mulaw" or "waveform" not in found.kinds]
    raise UserError(
        f"{setting} is {name}, which is for {' and '.join(fits)}, but these shards hold "
        f"{describe(content)}; set it to {' or '.join(others)}{remedy}"
    )
