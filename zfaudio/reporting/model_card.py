"""A model's card on the Hugging Face hub: what an experiment says of its score, its data and its samples, in Markdown.

Nothing in it tells where on this machine anything is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import yaml

from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.experiment.own_files import own_file
from zfaudio.generation.samples import Sample, read_sample_list
from zfaudio.hub import HubModel, file_address
from zfaudio.observations import Kind
from zfaudio.reporting.clips import sample_facts
from zfaudio.reporting.gather import Missing, find_results, read_own_result, warn_of_few_steps
from zfaudio.reporting.model_words import describe_model
from zfaudio.reporting.pictures_and_sentences import sample_sentences
from zfaudio.reporting.score_table import ScoreTable, page_order, tabulate_scores
from zfaudio.reporting.terms import TERMS, corpus_facts, corpus_table, describe_amount, describe_frames
from zfaudio.text import printable

SAMPLES = "samples"  # folder of an experiment, and of a model on the hub
SHOWN = 2  # files of samples

TAGS: dict[Kind, tuple[str, ...]] = {
    "waveform": ("audio", "speech", "raw-waveform"),
    "binary": ("images",),
    "tokens": ("text",),
}


@dataclass(frozen=True)
class Example:
    """A file of samples, as a card shows it."""

    title: str
    caption: str
    picture: str = ""  # its name on the hub
    sound: str = ""  # its address
    lines: tuple[str, ...] = ()


@dataclass
class ModelCard:
    """What a card shows."""

    model: HubModel
    header: str  # YAML
    title: str  # the model in words
    frames: str  # what it is of, in words
    parameters: int
    step: int
    few_steps: str  # a warning
    speech: bool
    scores: list[ScoreTable]
    amount: str  # what it was trained on
    corpus: list[list[str]]  # rows of a table, first the titles
    corpus_facts: dict[str, str]
    examples: list[Example]

    @property
    def name(self) -> str:
        """What `zfaudio.load` takes."""
        return str(self.model).removeprefix("hub:")


def gather_card(
    exp: Path, trained: Checkpoint, samples: Sequence[Sample], model: HubModel, license: str, missing: Missing
) -> ModelCard:
    """Read what the card of a checkpoint shows.

    Args:
        exp: the experiment, of whose results those of this checkpoint are shown.
        trained: the checkpoint.
        samples: which files of EXP/samples are shown.
        model: where it will be.
        license: of the model, by its name on the hub, such as apache-2.0.
        missing: collects what the experiment lacks.
    """
    manifest, settings = trained.manifest, asdict(trained.config.model)
    terms, train = TERMS[manifest.kind], manifest.splits.get("train")
    return ModelCard(
        model=model,
        header=card_header(settings["name"], manifest.kind, license),
        title=describe_model(settings),
        frames=describe_frames(manifest),
        parameters=sum(weights.numel() for weights in trained.model.parameters()),
        step=trained.step,
        few_steps=warn_of_few_steps(trained.step, terms),
        speech=manifest.kind == "waveform",
        scores=missing.attempt("result", lambda: scores_of(exp, trained.step)) or [],
        amount=describe_amount(train, manifest) if train else "an unknown amount of data",
        corpus=corpus_table(manifest),
        corpus_facts=corpus_facts(manifest),
        examples=[describe_sample(exp / SAMPLES, sample, manifest, model) for sample in samples],
    )


def card_header(model: str, kind: Kind, license: str) -> str:
    """The head of a card, which the hub reads, as YAML."""
    tags = ["zfaudio", model, "density-estimation", *TAGS[kind]]
    return yaml.safe_dump({"license": license, "library_name": "zfaudio", "tags": tags}, sort_keys=False)


def scores_of(exp: Path, step: int) -> list[ScoreTable]:
    """The results of a checkpoint as tables. Raises UserError if there is none, or one that cannot be read."""
    results = [read_own_result(exp, name) for name in find_results(exp)]
    own = [result for result in results if result.checkpoint_step == step]
    if not own:
        steps = ", ".join(str(result.checkpoint_step) for result in results)
        raise UserError(
            f"{exp / 'results'}: results of step {steps}, but none of step {step}, the model's; evaluate it"
        )
    return [tabulate_scores(result) for result in sorted(own, key=page_order)]


def samples_of(exp: Path, step: int) -> list[Sample]:
    """The first samples of a checkpoint. Raises UserError if there is none, or a list that cannot be read."""
    folder = own_file(exp, SAMPLES)
    listed = [sample for _, sample in sorted(read_sample_list(folder).items()) if sample.kind == "sample"]
    own = [sample for sample in listed if sample.checkpoint_step == step]
    if not own:
        raise UserError(f"{folder}: no samples of step {step}; make some: zfaudio generate EXP --out EXP/{SAMPLES}")
    return own[:SHOWN]


def sample_files(folder: Path, sample: Sample) -> list[Path]:
    """The file of a sample, and the picture of its spectrogram if there is one."""
    picture = own_file(folder, Path(sample.file).with_suffix(".png").name)
    return [own_file(folder, sample.file), *([picture] if picture.is_file() else [])]


def describe_sample(folder: Path, sample: Sample, manifest: Manifest, model: HubModel) -> Example:
    """A file of samples, as the card shows it."""
    title, caption = Path(sample.file).stem, " · ".join(sample_facts(sample))
    if manifest.kind == "tokens":
        rows = sample_sentences(folder, sample).rows
        return Example(title, caption, lines=tuple(printable(" ".join(row)) for row in rows))
    pictures = [path for path in sample_files(folder, sample) if path.suffix == ".png"]
    return Example(
        title=title,
        caption=caption,
        picture=f"{SAMPLES}/{pictures[0].name}" if pictures else "",
        sound=file_address(model, f"{SAMPLES}/{sample.file}") if manifest.kind == "waveform" else "",
    )


# Markdown


def render_card(card: ModelCard) -> str:
    """The card as Markdown, with its head of YAML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # no HTML; what stands in a cell is escaped below
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["table"] = markdown_table
    environment.filters["facts"] = markdown_facts
    return environment.get_template("model_card.md").render(card=card)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table, whose first row has the titles and whose other columns than the first are numbers."""
    titles, *others = rows
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (titles, rule, *others))


def markdown_facts(facts: Mapping[str, str]) -> str:
    """Facts as a list."""
    return "\n".join(f"- {_cell(name)}: {_cell(value)}" for name, value in facts.items())


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("<", "&lt;")
