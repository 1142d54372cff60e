"""The content of an experiment's page, and the page as HTML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from zfaudio.data.manifest import Manifest
from zfaudio.evaluation.latents import LatentsResult
from zfaudio.evaluation.quality import QualityResult, QualityRow
from zfaudio.generation.samples import Kind
from zfaudio.reporting.comparison_table import ComparisonTable
from zfaudio.reporting.examples import Example
from zfaudio.reporting.formatting import format_duration, page_interval, page_number, typographic
from zfaudio.reporting.plots import Plot
from zfaudio.reporting.score_table import ScoreTable
from zfaudio.reporting.terms import Terms
from zfaudio.text import printable

TEMPLATES = Path(__file__).parent


@dataclass
class CheckpointFacts:
    """Facts about the checkpoint that the page is about."""

    step: int
    parameters: int
    manifest: Manifest


@dataclass
class Page:
    """What the template shows. A part that the experiment does not have is None or empty."""

    terms: Terms
    title: str  # the model in words; empty if it is not known
    name: str  # of the experiment
    checkpoint: CheckpointFacts | None
    few_steps: str  # a warning
    frames: str  # what the model is of, in words
    amount: str  # what it was trained on
    corpus: list[list[str]]  # rows of a table, first the titles
    corpus_facts: dict[str, str]
    configuration: dict[str, dict[str, Any]]  # section -> setting -> value
    scores: list[ScoreTable]
    comparison: ComparisonTable | None
    comparison_plot: Plot | None
    latents: LatentsResult | None
    kl_plot: Plot | None
    quality: QualityResult | None
    quality_rows: list[QualityRow]
    quality_notes: list[str]
    training_plots: list[Plot]
    collapse: str  # a warning
    real: list[Example]
    real_split: str
    generated: dict[Kind, list[Example]]
    commands: list[str]
    missing: dict[str, list[str]]  # messages about what the experiment lacks, by section of the page


def printable_value(value: object) -> object:
    """Text without control characters, of what a page shows. Plots are HTML, which stays as it is."""
    return printable(value, kept="\n\t") if isinstance(value, str) and not hasattr(value, "__html__") else value


def render_page(page: Page) -> str:
    """The page as HTML. All text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_value,
    )
    environment.filters.update(
        number=page_number, interval=page_interval, duration=format_duration, typographic=typographic
    )
    return environment.get_template("report_page.html").render(page=page)
