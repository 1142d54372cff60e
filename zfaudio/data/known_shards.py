"""Which shards an experiment may open: those that the user has named.

A configuration says where the shards of a run were. If the run was somebody else's, that may be any path or address,
and to open it may call a server or wait for ever. So it is opened only if the user names it, or has named it before on
this machine, as by training on it. The locations that were named are kept in `~/.local/state/zfaudio/shards.txt` (below
XDG_STATE_HOME if that is set), one JSON string a line, as torch.hub keeps the repositories that it may run.
"""

import contextlib
import json
import os
from pathlib import Path

from zfaudio.errors import UserError

_named_here: set[str] = set()  # in this process; all there is if the file cannot be written


def choose_shards(named: str, recorded: str, exp: Path) -> str:
    """Where to read shards: where the user says, or where the configuration says if the user has named that before.

    Args:
        named: what the user gave as --shards; empty if nothing.
        recorded: what the configuration says.
        exp: the experiment or checkpoint, for error messages. Shards inside it may always be opened.

    Raises:
        UserError: the user has to say where the shards are.
    """
    if named:
        remember_shards(named)
        return named
    if not recorded:
        raise UserError(f"{exp}: its configuration does not say where the shards are; give --shards")
    location = _absolute(recorded)
    inside = "://" not in recorded and Path(location).is_relative_to(os.path.realpath(exp))
    if not inside and location not in _known():
        raise UserError(
            f"{exp}: its configuration names the shards {recorded}, which were never named on this machine; "
            f"if they are the ones to open, add --shards {recorded}"
        )
    return recorded


def remember_shards(location: str) -> None:
    """Note that the user has named a location. Where that cannot be written, it holds for this process only."""
    name = _absolute(location)
    if name in _known():
        return
    _named_here.add(name)
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(name) + "\n")


def _known() -> set[str]:
    """All locations that were named, absolute."""
    known = set(_named_here)
    with contextlib.suppress(OSError, RuntimeError):
        for line in _file().read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                known.add(str(json.loads(line)))
    return known


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "zfaudio" / "shards.txt"


def _absolute(location: str) -> str:
    """A location that means the same wherever a command runs."""
    return location.rstrip("/") if "://" in location else os.path.realpath(location)
