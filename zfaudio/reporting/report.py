"""`zfaudio report`: an experiment on one HTML page that needs nothing but itself."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import yaml
from safetensors import SafetensorError, safe_open

from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.errors import UserError
from zfaudio.evaluation.comparison import compare_experiments
from zfaudio.evaluation.latents import LatentsResult
from zfaudio.evaluation.quality import QualityResult, tabulate_quality
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.experiment.metrics import read_metrics
from zfaudio.figures import Curve, draw_curves
from zfaudio.generation.samples import SAMPLE_LIST, Kind, Sample, read_sample_list
from zfaudio.reporting.clips import Clip, real_clips, sample_clip
from zfaudio.reporting.compare import Table, draw, make_table
from zfaudio.reporting.diagnostics import draw_dimensions, find_collapse, read_latents, read_quality

Part = TypeVar("Part")

PAGE = Path(__file__).with_name("report_page.html")
CLIPS = 4  # of a kind

PLOTS = (  # title, column of metrics.csv, logarithmic
    ("Log-likelihood, nats per frame", "nats_per_frame", False),
    ("KL of the posterior from the prior, nats per frame", "kl", False),
    ("Auxiliary log p(b | z), nats per frame", "log_auxiliary", False),
    ("Norm of the gradient", "gradient_norm", True),
    ("Learning rate", "learning_rate", True),
    ("Frames per second in training", "frames_per_second", False),
    ("Share of training time waiting for data", "data_wait", False),
    ("Share of training time in the loop around the model", "loop_overhead", False),
)


@dataclass
class Trained:
    """The checkpoint that the page is about."""

    step: int
    parameters: int
    manifest: Manifest


@dataclass
class Row:
    """A score of a result's table; None where it has no such number."""

    name: str
    nats_per_frame: float | None
    interval: tuple[float, float] | None
    bits_per_sample: float | None


@dataclass
class Result:
    """An evaluation and its references."""

    split: str
    protocol: str
    bound: str  # what the model's number is
    at_least: bool  # whether that bounds the likelihood from below
    cut: bool  # whether utterances were cut as in the published evaluation
    rows: list[Row]  # the model's first
    facts: dict[str, str]
    conventions: dict[str, float]  # nats per sequence, as published tables count
    command: str


@dataclass
class Page:
    """What the template shows."""

    name: str
    trained: Trained | None
    configuration: dict[str, dict[str, Any]]
    results: list[Result]
    comparison: Table | None
    comparison_picture: str  # SVG
    latents: LatentsResult | None
    quality: QualityResult | None
    curves: list[str]  # SVG
    collapse: str | None  # a warning
    real: list[Clip]
    real_split: str
    generated: dict[Kind, list[Clip]]
    commands: list[str]
    missing: dict[str, list[str]]  # by section: what the experiment lacks


def report(exp: Path, *, compare: tuple[Path, ...] = (), group_seeds: bool = False, out: Path | None = None) -> None:
    """Write an HTML page of an experiment: result, speech, training curves, configuration, command lines.

    Pictures and sound are inside the page. What the experiment lacks is named on it.

    Args:
        exp: the experiment's folder.
        compare: experiments to put beside it in a table, as zfaudio compare does.
        group_seeds: in that table, average experiments that differ in train.seed alone.
        out: the page; EXP/report.html when left out.
    """
    if not exp.is_dir():
        raise UserError(f"{exp}: no such folder; give an experiment (the --exp of zfaudio train)")
    page = gather(exp, compare, group_seeds)
    if not (page.trained or page.curves or page.results or page.generated):
        raise UserError(f"{exp}: not an experiment (no checkpoint, metrics.csv, results or samples)")
    out = out or exp / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(page), encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    for lacks in page.missing.values():
        print(*(f"    {lack}" for lack in lacks), sep="\n")


def render(page: Page) -> str:
    """The page as HTML; all text is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=number, duration=duration, draw_dimensions=draw_dimensions, tabulate=tabulate_quality
    )
    return environment.from_string(PAGE.read_text(encoding="utf-8")).render(page=page)


def gather(exp: Path, compare: tuple[Path, ...] = (), group_seeds: bool = False) -> Page:
    """Everything the page shows of an experiment, and what there is not."""
    missing: dict[str, list[str]] = {}

    def attempt(section: str, read: Callable[[], Part]) -> Part | None:
        try:
            return read()
        except UserError as error:
            missing.setdefault(section, []).append(str(error))
            return None

    trained = attempt("model", lambda: read_trained(exp))
    deviation = trained.manifest.deviation if trained else None
    configuration = attempt("configuration", lambda: read_configuration(exp)) or {}
    shards = str(configuration.get("data", {}).get("shards", ""))
    split = "valid" if trained and "test" not in trained.manifest.splits else "test"
    evaluations = attempt("result", lambda: find_evaluations(exp)) or []
    read = [attempt("result", partial(read_result, path)) for path in evaluations]
    results = sorted((result for result in read if result is not None), key=order_of_results)
    comparison = None
    if compare:
        comparison = attempt("comparison", lambda: compare_experiments([exp, *compare], group_seeds=group_seeds))
    samples = attempt("speech", lambda: find_samples(exp / "samples")) or {}
    latents, quality = attempt("latents", lambda: read_latents(exp)), attempt("quality", lambda: read_quality(exp))
    made = [part for part in (*results, latents, *samples.values(), quality) if part is not None]
    return Page(
        name="/".join(exp.resolve().parts[-2:]),
        trained=trained,
        configuration=configuration,
        results=results,
        comparison=make_table(comparison) if comparison else None,
        comparison_picture=draw(comparison) if comparison else "",
        latents=latents,
        quality=quality,
        curves=attempt("training", lambda: training_curves(exp / "metrics.csv")) or [],
        collapse=find_collapse(exp / "metrics.csv"),
        real=attempt("speech", lambda: real_clips(shards, split, CLIPS)) or [],
        real_split=split,
        generated=attempt("speech", lambda: generated_clips(exp / "samples", samples, deviation)) or {},
        commands=attempt("commands", lambda: read_commands(exp, [part.command for part in made])) or [],
        missing=missing,
    )


def read_trained(exp: Path) -> Trained:
    """The best checkpoint's step, size and corpus. Raises UserError where there is none."""
    path = find_checkpoint(exp)
    try:
        with safe_open(path / "model.safetensors", framework="numpy") as weights:
            names = weights.keys()
            parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}/model.safetensors: cannot be read ({error})") from None
    return Trained(int(path.name.removeprefix("step-")), parameters, read_manifest(str(path)))


def read_configuration(exp: Path) -> dict[str, dict[str, Any]]:
    """Settings by section. Raises UserError where there is no config.yaml or it is not one."""
    path = exp / "config.yaml"
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(sections, dict) or not all(isinstance(settings, dict) for settings in sections.values()):
        raise UserError(f"{path}: not the configuration of a run")
    return sections


# Results


def find_evaluations(exp: Path) -> list[Path]:
    """Results of `zfaudio evaluate`, in order of name. Raises UserError where there is none."""
    paths = sorted((exp / "results").glob("*.json"))
    if not paths:
        raise UserError(f"{exp / 'results'}: no result; make one: zfaudio evaluate EXP --json EXP/results/test.json")
    return paths


def order_of_results(result: Result) -> tuple[bool, bool, bool]:
    """The test split first, and of each split what was dequantized, whole utterances before cut ones."""
    return result.split != "test", result.rows[0].bits_per_sample is None, result.cut


def read_result(path: Path) -> Result:
    """The result in a file of `zfaudio evaluate`. Raises UserError where it is not one."""
    try:
        return tabulate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a result of zfaudio evaluate ({error!r})") from None


def tabulate(scores: dict[str, Any]) -> Result:
    """The content of an evaluation's JSON as rows and facts."""
    references, dequantized, constant = scores["references"], scores["dequantized"], scores["constant_frames"]
    gaussian = references["iid_gaussian_nats_per_frame"]
    low, high = scores["nats_per_frame_ci95"]
    bounds = {
        "exact": "exact likelihood",
        "elbo": "evidence lower bound",
        "iwae": f"importance-weighted bound, {scores['importance_samples']} samples",
    }
    gaussian_bits = None
    if dequantized:
        # A nat a frame is worth the same bits a sample to both.
        gap = scores["nats_per_frame"] - gaussian
        gaussian_bits = scores["bits_per_sample"] + gap / (scores["frame_size"] * math.log(2))
    return Result(
        split=scores["split"],
        protocol="Dequantized: bounds the probability of the 16-bit signal"
        if dequantized
        else f"Published protocol, not dequantized: a density, unbounded on {constant:,} constant frames",
        bound=bounds[scores["bound"]],
        at_least=scores["bound"] != "exact",
        cut=scores.get("protocol") == "zforcing2017",
        rows=[
            Row(
                scores["model"],
                scores["nats_per_frame"],
                (low, high),
                scores["bits_per_sample"] if dequantized else None,
            ),
            Row("i.i.d. Gaussian", gaussian, None, gaussian_bits),
            Row("FLAC", None, None, references["flac_bits_per_sample"]),
        ],
        facts={
            "median frame": f"{number(scores['median_frame_nats'], 1)} nats",
            "worst 0.1 % of frames": f"{number(100 * scores['worst_permille_share'], 1)} % of the average",
            "KL per frame": f"{number(scores['kl_per_frame'], 2)} nats",
            "per utterance": f"{number(scores['nats_per_utterance'], 0)} nats",
            "utterances": f"{scores['utterances']:,}",
            "frames": f"{scores['frames']:,} of {scores['frame_size']} samples",
            "constant frames": f"{constant:,}",
        },
        conventions=scores.get("conventions", {}),
        command=scores.get("command", ""),
    )


# Curves


def training_curves(path: Path) -> list[str]:
    """Plots of metrics.csv as SVG. Raises UserError where it has no rows."""
    rows = read_metrics(path)
    if not rows:
        raise UserError(f"{path}: no training curves (missing or empty)")
    plots = []
    for title, column, log in PLOTS:
        curves = [curve_of(rows, split, column) for split in ("train", "valid")]
        if any(len(curve.values) for curve in curves):
            plots.append(draw_curves(title, curves, log))
    return plots


def curve_of(rows: list[dict[str, str]], split: str, column: str) -> Curve:
    """The finite values of a column of metrics.csv over the steps of a split."""
    points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    return Curve(split, [step for step, _ in finite], [value for _, value in finite])


# Speech


def find_samples(folder: Path) -> dict[str, Sample]:
    """What `zfaudio generate` left in a folder. Raises UserError where there is nothing."""
    samples = read_sample_list(folder)
    if not samples:
        raise UserError(f"{folder / SAMPLE_LIST}: no samples; make some: zfaudio generate EXP --out EXP/samples")
    return samples


def generated_clips(folder: Path, samples: dict[str, Sample], deviation: float | None) -> dict[Kind, list[Clip]]:
    """The first samples of each kind. Raises UserError where a file cannot be read."""
    clips: dict[Kind, list[Clip]] = {}
    for _, sample in sorted(samples.items()):
        of_kind = clips.setdefault(sample.kind, [])
        if len(of_kind) < CLIPS:
            of_kind.append(sample_clip(folder, sample, deviation))
    return clips


def read_commands(exp: Path, named: list[str]) -> list[str]:
    """The command lines that made the experiment: those in commands.txt, then those its results and samples name.

    Raises:
        UserError: none is known.
    """
    noted = exp / "commands.txt"
    commands = noted.read_text(encoding="utf-8").splitlines() if noted.is_file() else []
    commands += named
    if not any(commands):
        raise UserError(f"{noted}: no command lines noted")
    return [command for command in dict.fromkeys(commands) if command]


# Text


def number(value: float, digits: int) -> str:
    """With so many decimals, thousands apart and a minus sign as long as a plus."""
    return f"{value:,.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Hours, minutes or seconds, whichever reads well."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.1f} s"
