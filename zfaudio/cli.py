"""The table of commands."""

import importlib
import sys

from zfaudio import __version__
from zfaudio.command import run_command
from zfaudio.environment import prepare_environment
from zfaudio.errors import UserError
from zfaudio.text import printable

# name -> (module, function, what it does). Modules are imported only when their command is called.
COMMANDS = {
    "shard": ("zfaudio.data.shard", "shard", "cut data directories, manifests or a folder of audio into shards"),
    "train": ("zfaudio.training.train", "train", "train a model on shards"),
    "evaluate": ("zfaudio.evaluation.evaluate", "evaluate", "score a split: average log-likelihood per frame"),
    "latents": ("zfaudio.evaluation.latents", "latents", "measure what the latents and the state contribute"),
    "generate": (
        "zfaudio.generation.generate",
        "generate",
        "sample, continue or reconstruct what a model was trained on",
    ),
    "interpolate": (
        "zfaudio.generation.interpolate",
        "interpolate",
        "go from one recording to another through latents",
    ),
    "quality": ("zfaudio.evaluation.quality", "quality", "compare samples with real speech: spectra, voice, words"),
    "compare": ("zfaudio.reporting.comparison_table", "compare", "compare experiments in one table"),
    "report": ("zfaudio.reporting.report", "report", "show an experiment on one HTML page"),
    "push": ("zfaudio.reporting.push", "push", "put a model on the Hugging Face hub, with a card"),
    "serve": ("zfaudio.web.serve", "serve", "play with models of speech on a page in the browser"),
}


def usage() -> str:
    """Text of `zfaudio --help`."""
    rows = "\n".join(f"  {name:<11} {summary}" for name, (_, _, summary) in COMMANDS.items())
    return (
        "usage: zfaudio COMMAND [OPTIONS]\n\n"
        "Latent-variable models of raw speech: prepare, train, score, generate.\n\n"
        f"commands:\n{rows}\n\n"
        "`zfaudio COMMAND --help` lists the options of a command; `zfaudio --version` prints the version."
    )


def main() -> None:
    """Run the command that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name == "--version":
        print(__version__)
        sys.exit(0)
    if name not in COMMANDS:
        print(f"zfaudio: error: no command {name!r}; one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    prepare_environment()
    module, attribute, _ = COMMANDS[name]
    function = getattr(importlib.import_module(module), attribute)
    prog = f"zfaudio {name}"
    if name == "train":
        try:
            function, rest = importlib.import_module("zfaudio.training.options").with_model_settings(function, rest)
        except UserError as error:
            print(f"{prog}: error: {printable(str(error))}", file=sys.stderr)
            sys.exit(1)
    run_command(function, rest, prog)
