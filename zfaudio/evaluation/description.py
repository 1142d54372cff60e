"""The result of an evaluation in a few lines for the terminal."""

import math

from zfaudio.evaluation.units import describe_interval
from zfaudio.experiment.results import EvaluationResult, WaveformScore
from zfaudio.observations import sample_words
from zfaudio.text import format_number


def describe(result: EvaluationResult) -> str:
    """The result in a few lines."""
    if result.kind == "waveform":
        return "\n".join(describe_recordings(result))
    return "\n".join(describe_sentences(result) if result.kind == "tokens" else describe_pictures(result))


def describe_recordings(result: EvaluationResult) -> list[str]:
    """The lines of recordings."""
    waveform, sign = result.waveform, bound_sign(result)
    lines = [
        f"{result.model}, {result.split}: {result.utterances} utterances, {result.frames} frames "
        f"of {result.frame_size} samples at {waveform.sample_rate} Hz",
        f"average log-likelihood per frame   {sign}{format_number(result.nats_per_frame, 2)} nats "
        f"({describe_interval(result.nats_per_frame_ci95, 2)}; {estimate(result)})",
        f"    {waveform.independent[0]:<31}{format_number(waveform.independent[1], 2)}",
        f"    KL per frame                   {format_number(result.kl_per_frame, 2)} nats",
        f"    median frame                   {format_number(result.median_frame_nats, 2)} nats; "
        f"the worst 0.1 % of frames make up {format_number(100 * result.worst_permille_share, 1)} % of the average",
    ]
    if waveform.encoding == "mulaw":
        assert waveform.bits_per_sample is not None
        lines.append(
            f"bits per {sample_words('mulaw'):<26}{cost_sign(result)}{waveform.bits_per_sample:.3f}   "
            f"({waveform.independent[0]} {iid_bits(result):.3f}; bits of 16-bit samples are something else)"
        )
    elif waveform.bits_per_sample is None:
        lines.append(
            "published protocol (no dequantization): a density of integers, which is unbounded on the "
            f"{waveform.constant_frames} constant frames; no bits per sample"
        )
    else:
        lines.append(
            f"bits per 16-bit sample             <= {waveform.bits_per_sample:.3f}   "
            f"(on the same audio: {coders_in_words(waveform)})"
        )
    lines.append("nats per sequence")
    lines += [
        f"    {name:<68} {sign}{format_number(value, 1, commas=True)}" for name, value in waveform.conventions.items()
    ]
    if result.protocol == "zforcing2017":
        lines.append("protocol zforcing2017: utterances are cut every 40 frames, and the state restarts at each cut")
    return lines


def describe_pictures(result: EvaluationResult) -> list[str]:
    """The lines of binary frames, as tables of pictures count: nats of one picture, the fewer the better."""
    unit = "image" if result.image_size else "sequence"
    counted = f"{result.utterances} {unit}s, {result.frames} frames of {result.frame_size} pixels"
    lines = [
        f"{result.model}, {result.split}: {counted}",
        f"nats per {unit:<26}{cost_sign(result)}{format_number(-result.nats_per_utterance, 2)} "
        f"({describe_interval(negated(result.nats_per_utterance_ci95), 2)}; {estimate(result)})",
        f"    KL                             {format_number(kl_per_utterance(result), 2)} nats",
    ]
    if not result.score_first_frame:
        lines.append(f"the first frame of each {unit} is only read (data.score_first_frame false); tables count it too")
    return lines


def describe_sentences(result: EvaluationResult) -> list[str]:
    """The lines of sentences."""
    assert result.word_perplexity is not None
    assert result.unknown_share is not None
    lines = [
        f"{result.model}, {result.split}: {result.utterances} sentences, {result.frames} words, of which "
        f"{result.utterances} are ends of sentences",
        f"perplexity per word                {cost_sign(result)}{format_number(result.word_perplexity, 2)} "
        f"({describe_interval(result.word_perplexity_ci95, 2)}; {estimate(result)})",
        f"    words beyond the vocabulary    {format_number(100 * result.unknown_share, 2)} % of the words are <unk>, "
        f"which counts as one of {result.vocabulary} words",
        f"nats per sentence                  {cost_sign(result)}{format_number(-result.nats_per_utterance, 2)} "
        f"({describe_interval(negated(result.nats_per_utterance_ci95), 2)})",
        f"    KL                             {format_number(kl_per_utterance(result), 2)} nats",
    ]
    if not result.score_first_frame:
        lines.append("the first word of each sentence is only read (data.score_first_frame false)")
    return lines


def bound_sign(result: EvaluationResult) -> str:
    """What stands before a log-likelihood."""
    return "" if result.bound == "exact" else ">= "


def cost_sign(result: EvaluationResult) -> str:
    """What stands before minus a log-likelihood, or before a perplexity."""
    return "" if result.bound == "exact" else "<= "


def estimate(result: EvaluationResult) -> str:
    """How the bound was estimated."""
    return f"{result.bound}, {result.draws} draw{'s' if result.draws > 1 else ''}"


def kl_per_utterance(result: EvaluationResult) -> float:
    """KL(q || p) in nats, averaged over utterances."""
    return result.kl_per_frame * result.frames / result.utterances


def negated(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """The interval of minus a number."""
    return interval and (-interval[1], -interval[0])


def iid_bits(result: EvaluationResult) -> float:
    """Bits per sample of recordings whose samples are independent of each other."""
    waveform = result.waveform
    assert waveform.bits_per_sample is not None
    # A difference of one nat per frame is the same number of bits per sample for every model.
    return waveform.bits_per_sample + (result.nats_per_frame - waveform.independent[1]) / (
        result.frame_size * math.log(2)
    )


def coders_in_words(waveform: WaveformScore) -> str:
    """The bits per sample of lossless coders."""
    return ", ".join(f"{name} {bits:.3f}" for name, bits in waveform.lossless_coders.items())
