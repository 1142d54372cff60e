"""`zfaudio push`: a trained model to the Hugging Face hub, where `zfaudio.load` finds it by its name."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.experiment.checkpoint_record import (
    CONFIG,
    LABEL,
    MANIFEST,
    WEIGHTS,
    CheckpointLabel,
    folder_name,
    new_run,
    read_label,
)
from zfaudio.experiment.config_file import config_text
from zfaudio.experiment.hub_checkpoint import CARD, import_paths
from zfaudio.hub import HubModel, on_hub, parse_hub_name, upload
from zfaudio.reporting.gather import Missing
from zfaudio.reporting.model_card import SAMPLES, gather_card, render_card, sample_files, samples_of


def push(exp: str | Path, name: str, *, license: str, private: bool = False) -> str:
    """Put a trained model on the Hugging Face hub, where zfaudio.load("user/name") finds it.

    Uploaded are the weights, the configuration without the places of files on this machine, the manifest of the shards,
    and a card: score, data, how to load the model, and, if there are any in EXP/samples, two samples with their
    pictures. Results and samples of another checkpoint are left out. A token to write with is found as huggingface_hub
    does: by `hf auth login`, or in HF_TOKEN.

    Args:
        exp: an experiment, whose best checkpoint is taken, or a checkpoint.
        name: of the model on the hub: user/name. With user/name@branch it is put on this branch.
        license: license of the model, as the hub names it, such as apache-2.0, cc-by-4.0 or other.
        private: make a model that only you see. Without it, a new one is what you or your organization set on the hub.

    Returns:
        The address of the model's page.

    Raises:
        UserError: there is no checkpoint, it is of a model of another package, or it cannot be uploaded.
    """
    exp, model = Path(exp), parse_hub_name(name)
    if on_hub(exp):
        raise UserError(f"{exp}: on the hub already; give an experiment or a checkpoint of yours")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license):
        raise UserError(f"--license {license}: not a name of a license on the hub, such as apache-2.0 or cc-by-4.0")
    trained = load_checkpoint(exp)
    for setting, path in import_paths(asdict(trained.config.model)).items():
        raise UserError(
            f"{trained.path / CONFIG}: model.{setting} is {path}; only models of zfaudio itself can be pushed, "
            "because what is loaded from the hub may not run other code"
        )
    missing = Missing()
    files = gather_files(experiment_of(exp, trained), trained, model, license.lower(), missing)
    page = upload(model, files, f"zfaudio model, step {trained.step}", private)
    print(f"{page}: {', '.join(files)}")
    for messages in missing.messages.values():
        print(*(f"    {message}" for message in messages), sep="\n")
    print(f'    load it: zfaudio.load("{str(model).removeprefix("hub:")}")')
    return page


def experiment_of(exp: Path, trained: Checkpoint) -> Path:
    """The folder whose results and samples are shown: the experiment that the checkpoint is in, or what was given."""
    folder = trained.path.parent
    return folder.parent if folder.name == "checkpoints" else exp


def gather_files(
    exp: Path, trained: Checkpoint, model: HubModel, license: str, missing: Missing
) -> dict[str, Path | bytes]:
    """What is uploaded: a path or the content, by name. No file tells where anything is on this machine."""
    # Where the shards are, and which weights training began with, are places on this machine.
    config = replace(
        trained.config,
        data=replace(trained.config.data, shards=""),
        train=replace(trained.config.train, init_from=""),
    )
    label = read_label(trained.path) or CheckpointLabel(
        run=new_run(), folder=folder_name(trained.step), step=trained.step, best=None
    )
    samples = missing.attempt("samples", lambda: samples_of(exp, trained.step)) or []
    card = gather_card(exp, trained, samples, model, license, missing)
    files: dict[str, Path | bytes] = {
        WEIGHTS: trained.path / WEIGHTS,
        CONFIG: config_text(config).encode(),
        MANIFEST: trained.manifest.to_json().encode(),
        LABEL: f"{json.dumps(asdict(label), indent=2)}\n".encode(),
        CARD: render_card(card).encode(),
    }
    shown = [path for sample in samples for path in sample_files(exp / SAMPLES, sample)]
    return files | {f"{SAMPLES}/{path.name}": path for path in shown}
