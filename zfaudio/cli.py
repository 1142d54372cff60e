"""The table of commands."""

import importlib
import sys

from zfaudio.command import run_command
from zfaudio.environment import prepare_environment

# name -> (module, function, what it does). Modules are imported only when their command is called.
COMMANDS = {
    "shard": ("zfaudio.data.shard", "shard", "cut a Kaldi data directory or a folder of audio into WebDataset shards"),
    "train": ("zfaudio.training.train", "train", "train a model on shards"),
    "evaluate": (
        "zfaudio.evaluation.evaluate",
        "evaluate",
        "average log-likelihood per frame of a split, beside its references",
    ),
    "latents": (
        "zfaudio.evaluation.latents",
        "latents",
        "whether a model's latents are at work, and what they tell of phones",
    ),
    "generate": ("zfaudio.generation.generate", "generate", "sample, continue or reconstruct speech"),
    "quality": ("zfaudio.evaluation.quality", "quality", "samples beside real speech: spectra, voicing, F0"),
    "compare": ("zfaudio.reporting.compare", "compare", "one table of any number of experiments"),
    "report": ("zfaudio.reporting.report", "report", "one HTML page of an experiment"),
}


def usage() -> str:
    """Text of `zfaudio --help`."""
    rows = "\n".join(f"  {name:<10} {summary}" for name, (_, _, summary) in COMMANDS.items())
    return (
        "usage: zfaudio COMMAND [OPTIONS]\n\n"
        "Latent-variable models of raw speech: prepare, train, score, generate.\n\n"
        f"commands:\n{rows}\n\n"
        "`zfaudio COMMAND --help` lists the options of a command."
    )


def main() -> None:
    """Run the command that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"zfaudio: error: no command {name!r}; one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    prepare_environment()
    module, function, _ = COMMANDS[name]
    run_command(getattr(importlib.import_module(module), function), rest, prog=f"zfaudio {name}")
