"""Checkpoints on the Hugging Face hub. Whoever wrote one, loading it opens nothing but data.

Only the files of a checkpoint are downloaded, so there is no training.pt among them and no code. A configuration can
name classes by import path, and Python would import them: one from the hub that does is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint_record import CONFIG, LABEL, MANIFEST, ROLES, WEIGHTS
from zfaudio.hub import PREFIX, HubModel, download, may_be_on_hub, parse_hub_name
from zfaudio.text import printable

FILES = (WEIGHTS, CONFIG, MANIFEST, LABEL)  # of a checkpoint on the hub
CARD = "README.md"


def find_on_hub(name: str) -> Path:
    """The folder, in huggingface_hub's cache, of the checkpoint that hub:user/name or hub:user/name@revision means.

    Raises:
        UserError: it is not there, cannot be downloaded, or is not a checkpoint of this package's own models.
    """
    model = parse_hub_name(name)
    folder = download(model, (*FILES, CARD))  # the card has the license, so it is kept beside what it is for
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{model}: not a model that zfaudio push has put there; it lacks {', '.join(missing)}")
    refuse_import_paths(model, folder / CONFIG)
    return folder


def refuse_import_paths(model: HubModel, config: Path) -> None:
    """Raises UserError if a configuration names classes that Python would have to import from elsewhere."""
    from zfaudio.experiment.config_file import read_yaml

    settings = read_yaml(config).get("model")
    for setting, path in import_paths(settings if isinstance(settings, dict) else {}).items():
        raise UserError(
            f"{model}: its model.{setting} is {printable(path)[:80]!r}, code of another package, which no model from "
            f"the hub may run; if you trust it, load FOLDER after `hf download {model.repository} --local-dir FOLDER`"
        )


def import_paths(settings: Mapping[str, Any]) -> dict[str, str]:
    """Those settings of a model that are import paths, as `zfaudio.plugins.find_class` tells them from short names."""
    return {name: value for name, value in settings.items() if isinstance(value, str) and "." in value}


def choose_local_or_hub(name: str | Path) -> Path:
    """What a name means in Python: a local folder if there is one, or else, for a str user/name, that model on the hub.

    Raises:
        UserError: there is no such local folder, and no such model on the hub.
    """
    local = Path(name)
    # EXP/best and EXP/last need not be folders.
    is_local = local.exists() or (local.name in ROLES and local.parent.exists())
    if is_local or not isinstance(name, str) or not may_be_on_hub(name):
        return local
    try:
        return find_on_hub(f"{PREFIX}{name}")
    except UserError as error:
        raise UserError(f"{name}: no such folder here; {error}") from None
