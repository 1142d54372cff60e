"""The result of an evaluation as a table and facts for a page."""

from dataclasses import dataclass, field

from zfaudio.evaluation.description import iid_bits, kl_per_utterance, negated
from zfaudio.experiment.results import EvaluationResult
from zfaudio.observations import sample_words, sequence_word
from zfaudio.reporting.formatting import page_interval, page_number


@dataclass
class ScoreTable:
    """An evaluation and its references, in words."""

    split: str
    caption: str  # what the numbers are
    headline: dict[str, str]  # the numbers at the head of the page, by title
    columns: list[str]  # titles, without that of the first column, which names the rows
    rows: list[list[str]]  # first the model, then the references
    facts: dict[str, str]
    conventions: dict[str, str] = field(default_factory=dict)  # nats per sequence, by the name of the convention


def tabulate_scores(result: EvaluationResult) -> ScoreTable:
    """An evaluation as rows and facts."""
    if result.kind == "waveform":
        return _scores_of_recordings(result)
    return _scores_of_sentences(result) if result.kind == "tokens" else _scores_of_pictures(result)


def page_order(result: EvaluationResult) -> tuple[bool, bool, bool]:
    """A sort key: the test split first; within a split, dequantized results first, then whole utterances."""
    return result.split != "test", not result.dequantized, result.protocol == "zforcing2017"


def _scores_of_recordings(result: EvaluationResult) -> ScoreTable:
    waveform = result.waveform
    protocol = "Dequantized: bounds the probability of the 16-bit signal"
    if waveform.encoding == "mulaw":
        protocol = "Of the levels of 8-bit mu-law: bits of 16-bit samples are not comparable with these"
    elif not waveform.dequantized:
        constant = f"{waveform.constant_frames:,} constant frames"
        protocol = f"Published protocol, not dequantized: a density, unbounded on {constant}"
    utterances = "whole utterances"
    if result.protocol == "zforcing2017":
        utterances = (
            "utterances that are cut every 40 frames, with the state restarted at each cut (protocol zforcing2017)"
        )
    headline = {f"{result.split}, nats per frame": _at_least(result) + page_number(result.nats_per_frame, 1)}
    if waveform.bits_per_sample is not None:
        words = "sample" if waveform.encoding == "linear" else sample_words(waveform.encoding)
        headline[f"bits per {words}"] = _at_most(result) + page_number(waveform.bits_per_sample, 2)
    return ScoreTable(
        split=result.split,
        caption=f"Average log-likelihood over all frames of {utterances}; {_bound(result)}. {protocol}.",
        headline=headline,
        columns=["nats per frame", "95 % interval", f"bits per {sample_words(waveform.encoding)}"],
        rows=_rows_of_recordings(result),
        facts={
            "median frame": f"{page_number(result.median_frame_nats, 1)} nats",
            "worst 0.1 % of frames": f"{page_number(100 * result.worst_permille_share, 1)} % of the average",
            "KL per frame": f"{page_number(result.kl_per_frame, 2)} nats",
            "utterances": f"{result.utterances:,}",
            "frames": f"{result.frames:,} of {result.frame_size} samples",
            "constant frames": f"{waveform.constant_frames:,}",
        },
        conventions={name: _at_least(result) + page_number(nats, 0) for name, nats in waveform.conventions.items()},
    )


def _rows_of_recordings(result: EvaluationResult) -> list[list[str]]:
    waveform = result.waveform
    name, independent = waveform.independent
    model_bits = independent_bits = "–"
    if waveform.bits_per_sample is not None:
        model_bits = _at_most(result) + page_number(waveform.bits_per_sample, 3)
        independent_bits = page_number(iid_bits(result), 3)
    nats = _at_least(result) + page_number(result.nats_per_frame, 2)
    return [
        [result.model, nats, page_interval(result.nats_per_frame_ci95, 2), model_bits],
        [name, page_number(independent, 2), "–", independent_bits],
        *([name, "–", "–", page_number(bits, 3)] for name, bits in waveform.lossless_coders.items()),
    ]


def _scores_of_pictures(result: EvaluationResult) -> ScoreTable:
    word = sequence_word("binary", bool(result.image_size))
    nats, interval = -result.nats_per_utterance, negated(result.nats_per_utterance_ci95)
    first = "" if result.score_first_frame else f" The first frame of each {word} is only read."
    pixels = "pixel" if result.frame_size == 1 else "pixels"
    return ScoreTable(
        split=result.split,
        caption=f"Minus the log-probability of the pixels of {'an' if word == 'image' else 'a'} {word}, averaged over "
        f"{word}s; {_bound(result)}.{first}",
        headline={f"{result.split}, nats per {word}": _at_most(result) + page_number(nats, 2)},
        columns=[f"nats per {word}", "95 % interval"],
        rows=[[result.model, _at_most(result) + page_number(nats, 2), page_interval(interval, 2)]],
        facts={
            f"KL per {word}": f"{page_number(kl_per_utterance(result), 2)} nats",
            f"{word}s": f"{result.utterances:,}",
            "frames": f"{result.frames:,} of {result.frame_size} {pixels}",
        },
    )


def _scores_of_sentences(result: EvaluationResult) -> ScoreTable:
    assert result.word_perplexity is not None
    assert result.unknown_share is not None
    perplexity = _at_most(result) + page_number(result.word_perplexity, 2)
    first = "" if result.score_first_frame else " The first word of each sentence is only read."
    return ScoreTable(
        split=result.split,
        caption="Perplexity is per word, exp(−nats / words), and the end of a sentence is a word, too; "
        f"{_bound(result)}.{first}",
        headline={f"{result.split}, perplexity per word": perplexity},
        columns=["perplexity per word", "95 % interval", "nats per sentence", "95 % interval"],
        rows=[
            [
                result.model,
                perplexity,
                page_interval(result.word_perplexity_ci95, 2),
                _at_most(result) + page_number(-result.nats_per_utterance, 2),
                page_interval(negated(result.nats_per_utterance_ci95), 2),
            ]
        ],
        facts={
            "KL per sentence": f"{page_number(kl_per_utterance(result), 2)} nats",
            "sentences": f"{result.utterances:,}",
            "words": f"{result.frames:,}",
            "<unk>": f"{page_number(100 * result.unknown_share, 2)} % of the words",
            "vocabulary": f"{result.vocabulary:,} words",
        },
    )


def _bound(result: EvaluationResult) -> str:
    return {
        "exact": "exact likelihood",
        "elbo": "evidence lower bound",
        "iwae": f"importance-weighted bound, {result.importance_samples} samples",
    }[result.bound]


def _at_least(result: EvaluationResult) -> str:
    return "" if result.bound == "exact" else "≥ "


def _at_most(result: EvaluationResult) -> str:
    return "" if result.bound == "exact" else "≤ "
