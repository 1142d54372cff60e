"""Gather the content of a page from the files of an experiment, and note what is missing."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open

from zfaudio.data.known_shards import choose_shards
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import collapse_warning, frames_judged
from zfaudio.evaluation.comparison import compare_experiments
from zfaudio.evaluation.latents import LATENTS_FILE, read_latents
from zfaudio.evaluation.quality import QUALITY_FILE, quality_notes, read_quality, tabulate_quality
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.experiment.checkpoint_record import CONFIG
from zfaudio.experiment.checkpoint_search import checkpoint_step
from zfaudio.experiment.config_file import read_settings
from zfaudio.experiment.metrics import read_metrics
from zfaudio.experiment.own_files import own_file
from zfaudio.experiment.results import EvaluationResult, read_result
from zfaudio.generation.samples import SAMPLE_LIST, Kind, Sample, read_sample_list
from zfaudio.observations import Kind as FrameKind
from zfaudio.reporting.comparison_table import tabulate_comparison
from zfaudio.reporting.examples import Example, generated_examples, real_examples
from zfaudio.reporting.model_words import describe_model
from zfaudio.reporting.page import CheckpointFacts, Page
from zfaudio.reporting.plots import plot_comparison, plot_kl_by_dimension, plot_training
from zfaudio.reporting.score_table import page_order, tabulate_scores
from zfaudio.reporting.terms import TERMS, Terms, corpus_facts, corpus_table, describe_amount, describe_frames

Part = TypeVar("Part")

METRICS = "metrics.csv"
FOLDERS = ("samples", "interpolations")  # of an experiment, where samples are looked for


class Missing:
    """Collects messages about what an experiment lacks, by section of the page."""

    def __init__(self) -> None:
        self.messages: dict[str, list[str]] = {}

    def attempt(self, section: str, read: Callable[[], Part]) -> Part | None:
        """The result of `read`, or None if it raises a UserError, whose message is then collected."""
        try:
            return read()
        except UserError as error:
            messages = self.messages.setdefault(section, [])
            messages += [str(error)] if str(error) not in messages else []
            return None


def gather_page(exp: Path, compare: Sequence[Path] = (), group_seeds: bool = False, shards: str = "") -> Page:
    """Read what the page of an experiment shows. Nothing outside the experiment is opened that the user did not name.

    Args:
        exp: the folder of the experiment.
        compare: experiments to compare it with.
        group_seeds: in the comparison, average experiments that differ only in their seed.
        shards: folder or address of the shards that real speech is read from; by default what the configuration says,
            if the user has named that before.
    """
    missing = Missing()
    attempt = missing.attempt

    checkpoint = attempt("model", lambda: read_checkpoint_facts(exp))
    manifest = checkpoint.manifest if checkpoint else None
    configuration = attempt("configuration", lambda: read_settings(own_file(exp, CONFIG), may_have_base=False)) or {}
    real_split = "valid" if manifest and "test" not in manifest.splits else "test"

    result_files = attempt("result", lambda: find_results(exp)) or []
    read = [attempt("result", partial(read_own_result, exp, name)) for name in result_files]
    results = sorted((result for result in read if result is not None), key=page_order)
    kind = manifest.kind if manifest else results[0].kind if results else "waveform"
    terms = TERMS[kind]
    comparison = None
    if compare:
        comparison = attempt("comparison", lambda: compare_experiments([exp, *compare], group_seeds=group_seeds))
    has_latents, has_quality = (exp / LATENTS_FILE).exists(), (exp / QUALITY_FILE).exists()
    latents = attempt("latents", lambda: read_latents(own_file(exp, LATENTS_FILE))) if has_latents else None
    quality = attempt("quality", lambda: read_quality(own_file(exp, QUALITY_FILE))) if has_quality else None

    recorded = str(configuration.get("data", {}).get("shards", ""))
    real = attempt("examples", lambda: find_real(exp, shards, recorded, real_split, kind)) or []
    read_lists = {folder: attempt("examples", partial(find_samples, exp, folder)) for folder in FOLDERS}
    if all(found == {} for found in read_lists.values()):
        attempt("examples", lambda: require_samples(exp))
    samples = {folder: found for folder, found in read_lists.items() if found}
    generated: dict[Kind, list[Example]] = {}
    for folder, found in samples.items():
        examples = attempt("examples", partial(generated_examples, exp / folder, found, manifest)) or {}
        for sort, several in examples.items():
            generated.setdefault(sort, []).extend(several)

    listed = [sample for found in samples.values() for sample in found.values()]
    makers = [*results, latents, *listed, quality]  # what knows the command that made it
    commands = [maker.command for maker in makers if maker is not None]
    return Page(
        terms=terms,
        title=describe_model(configuration.get("model", {})),
        name="/".join(exp.resolve().parts[-2:]),
        checkpoint=checkpoint,
        few_steps=warn_of_few_steps(checkpoint.step, terms) if checkpoint else "",
        frames=describe_frames(manifest) if manifest else "",
        amount=describe_amount(manifest.splits["train"], manifest) if manifest and "train" in manifest.splits else "",
        corpus=corpus_table(manifest) if manifest else [],
        corpus_facts=corpus_facts(manifest) if manifest else {},
        configuration=configuration,
        scores=[tabulate_scores(result) for result in results],
        comparison=tabulate_comparison(comparison) if comparison else None,
        comparison_plot=plot_comparison(comparison) if comparison else None,
        latents=latents,
        kl_plot=plot_kl_by_dimension(latents.usage) if latents and latents.usage else None,
        quality=quality,
        quality_rows=tabulate_quality(quality) if quality else [],
        quality_notes=quality_notes(quality) if quality else [],
        training_plots=attempt("training", lambda: plot_training(own_file(exp, METRICS))) or [],
        collapse=attempt("training", lambda: find_collapse(own_file(exp, METRICS), manifest)) or "",
        real=real,
        real_split=real_split,
        generated=generated,
        commands=attempt("commands", lambda: read_commands(exp, commands)) or [],
        missing=missing.messages,
    )


def read_checkpoint_facts(exp: Path) -> CheckpointFacts:
    """The step, size and corpus of the best checkpoint. Raises UserError if there is no checkpoint."""
    path = find_checkpoint(exp)
    try:
        with safe_open(path / "model.safetensors", framework="numpy") as weights:
            names = weights.keys()
            parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}/model.safetensors: cannot be read ({error})") from None
    return CheckpointFacts(checkpoint_step(path), parameters, read_manifest(str(path)))


def warn_of_few_steps(step: int, terms: Terms) -> str:
    """A warning if a model has had few training steps; otherwise empty."""
    if step >= terms.few_steps:
        return ""
    speech = terms is TERMS["waveform"]
    return (
        f"This model has had {step:,} training steps, which is few"
        f"{': the recipes for whole corpora take 8,000 or more' if speech else ''}. "
        f"Its scores and its {terms.examples.lower()} are those of a model that has begun to learn."
    )


def find_results(exp: Path) -> list[str]:
    """The files of `zfaudio evaluate` in an experiment, by their names in it. Raises UserError if there are none."""
    folder = own_file(exp, "results")
    names = [path.name for path in folder.glob("*.json") if not path.name.startswith(".")]  # not one half written
    if not names:
        raise UserError(f"{folder}: no result; make one: zfaudio evaluate EXP --json EXP/results/test.json")
    return [f"results/{name}" for name in sorted(names)]


def read_own_result(exp: Path, name: str) -> EvaluationResult:
    """The result in EXP/NAME. Raises UserError if it is not one."""
    return read_result(own_file(exp, name))


def find_real(exp: Path, shards: str, recorded: str, split: str, kind: FrameKind) -> list[Example]:
    """Examples of the shards that the user or the configuration names. Raises UserError if there are none."""
    try:
        location = choose_shards(shards, recorded, exp)
    except UserError as error:
        raise UserError(f"real {TERMS[kind].examples.lower()}: {error}") from None
    return real_examples(location, split, kind)


def find_samples(exp: Path, folder: str) -> dict[str, Sample]:
    """The samples in a folder of an experiment, by file name. Raises UserError if their list cannot be read."""
    return read_sample_list(own_file(exp, folder))


def require_samples(exp: Path) -> None:
    """Raises UserError that says that there are no samples, and how to make some."""
    path = exp / FOLDERS[0] / SAMPLE_LIST
    raise UserError(f"{path}: no samples; make some: zfaudio generate EXP --out EXP/samples")


def find_collapse(metrics: Path, manifest: Manifest | None = None) -> str:
    """A warning if the last validation of a run found posterior collapse; otherwise empty."""
    validations = [row for row in read_metrics(metrics) if row["split"] == "valid"]
    if not validations or validations[-1].get("collapsed") != "1":
        return ""
    frames = frames_judged(manifest, "valid") if manifest and "valid" in manifest.splits else None
    return f"Step {validations[-1]['step']}: {collapse_warning(float(validations[-1]['kl']), frames)}."


def read_commands(exp: Path, named: list[str]) -> list[str]:
    """The command lines that made the experiment.

    Args:
        exp: the folder of the experiment, whose commands.txt is read.
        named: command lines that its results and samples name.

    Raises:
        UserError: no command line is known.
    """
    file = own_file(exp, "commands.txt")
    commands = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.is_file() else []
    known = [command for command in dict.fromkeys([*commands, *named]) if command]
    if not known:
        raise UserError(f"{file}: no command lines in it")
    return known
