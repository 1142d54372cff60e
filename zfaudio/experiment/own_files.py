"""The files of an experiment, or a folder of samples, that are shown. None of them may lead to a file elsewhere."""

import os
from pathlib import Path

from zfaudio.errors import UserError


def own_file(folder: Path, name: str) -> Path:
    """FOLDER/NAME, a file or a folder that need not exist.

    Raises:
        UserError: a link leads from it out of the folder, so that a report on an experiment from a stranger would show
            a file of its reader; or it is a pipe or device, which may never end.
    """
    path = folder / name
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path}: a link out of the folder, to {target}, which is not followed; copy it here instead")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise UserError(f"{path}: not a file but a pipe, a socket or a device")
    return path
