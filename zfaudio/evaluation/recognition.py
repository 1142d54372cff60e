"""Scores of generated speech by the words that a classifier recognizes in it.

They are those of the benchmark on spoken digits SC09 (Donahue et al., 2019, "Adversarial Audio Synthesis"; Goel et al.,
2022, "It's Raw! Audio Generation with State-Space Models"), with a classifier that may also say that a piece is no
word. Real speech, cut alike, is the ceiling: the classifier is as unsure of pieces that are cut badly there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zfaudio.data.manifest import Manifest
from zfaudio.evaluation.speech_statistics import frechet_distance
from zfaudio.evaluation.word_classifier import FEATURES, Mel, WordNetwork, classify, frames_of, log_mel, train_network
from zfaudio.evaluation.word_examples import ENVELOPE_SECONDS, clip_to, make_pool
from zfaudio.evaluation.word_labels import LabeledSpeech, read_labeled_speech, read_words
from zfaudio.evaluation.word_pieces import LONGEST_SECONDS, best_cut, find_edges, smooth_power, spans_between
from zfaudio.seeds import derive_seed

MOST_WORDS = 4000  # to train on; more take long
MOST_HELD_OUT_WORDS = 2000
CONFIDENT = 0.9  # probability of a word above which it counts as recognized
LEAST_PIECES = 10  # for scores that are averages over pieces


@dataclass
class SpeechWords:
    """What is recognized in a set of speech. Scores are None if there are too few pieces."""

    pieces: int
    recognized_fraction: float  # of the pieces
    words_per_second: float  # recognized ones
    inception_score: float | None
    modified_inception_score: float | None
    am_score: float | None
    frechet_distance: float | None  # squared, of the classifier's features, from the real speech; 0 for that itself


@dataclass
class WordMeasures:
    """What a classifier recognizes in generated and in real speech, and how good the classifier is."""

    vocabulary: int  # number of different words
    training_words: int
    held_out_words: int
    accuracy: float  # fraction of the held-out words, cut as labeled, that are recognized rightly
    confident_accuracy: float  # fraction of them that are recognized rightly and with confidence
    backward_fraction: float  # of the pieces of real speech played backward that are "recognized"
    noise_fraction: float  # the same for noise with the envelope of real speech
    generated: SpeechWords
    real: SpeechWords
    floor_frechet_distance: float | None  # of real training speech from the real speech


@dataclass(frozen=True)
class Recognized:
    """The pieces into which some speech is cut, and what the classifier says about them."""

    log_probabilities: np.ndarray  # [pieces, classes]; the last class stands for what is no word
    features: np.ndarray  # [pieces, FEATURES]
    seconds: float  # of the speech

    @property
    def confident(self) -> np.ndarray:
        """Whether each piece is recognized as a word, [pieces]."""
        result: np.ndarray = confidence(self.log_probabilities) > CONFIDENT
        return result

    @property
    def fraction(self) -> float:
        """The fraction of the pieces that are recognized; 0 if there is none."""
        return float(self.confident.mean()) if len(self.confident) else 0.0


def measure_words(
    folder: Path,
    location: str,
    manifest: Manifest,
    split: str,
    generated: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    floor: Sequence[np.ndarray],
    seed: int,
) -> WordMeasures:
    """Train a classifier on the words of the training split, and see what it recognizes.

    Args:
        folder: folder of the data directories that the shards were made from.
        location: folder or address of the shards.
        manifest: manifest of the shards.
        split: the split that real speech is from.
        generated: generated speech, int16 [n] each.
        real: real speech of the split, cut to the length of the samples, and as much of it as there is, because few
            clips are of few speakers.
        floor: as much real speech of the training split as was generated, cut alike.
        seed: seed of the classifier.

    Raises:
        UserError: the words are missing, do not belong to these shards, or are too few.
    """
    rate = manifest.waveform.sample_rate
    training, held_out = (
        read_labeled_speech(location, manifest, name, read_words(folder, name), most, seed)
        for name, most in (("train", MOST_WORDS), (split, MOST_HELD_OUT_WORDS))
    )
    rng = np.random.default_rng(derive_seed(seed, "word examples"))
    pool = make_pool(training, rate, rng)
    network = train_network(len(pool.labels) + 1, pool.draw, seed)
    own, ceiling, lowest = (recognize(network, clips, rate) for clips in (generated, real, floor))
    backward = recognize(network, [clip[::-1] for clip in real], rate)
    noise = recognize(network, [as_noise(clip, rate, rng) for clip in real], rate)
    held_out_words, accuracy, confident_accuracy = judge_classifier(network, held_out, pool.labels, rate)
    pieces = min(len(own.features), len(lowest.features))  # a distance depends on their number
    return WordMeasures(
        vocabulary=len(pool.labels),
        training_words=len(pool.words),
        held_out_words=held_out_words,
        accuracy=accuracy,
        confident_accuracy=confident_accuracy,
        backward_fraction=backward.fraction,
        noise_fraction=noise.fraction,
        generated=summarize(own, pool.frequencies, feature_distance(own.features[:pieces], ceiling.features)),
        real=summarize(ceiling, pool.frequencies, feature_distance(ceiling.features, ceiling.features)),
        floor_frechet_distance=feature_distance(lowest.features[:pieces], ceiling.features),
    )


def judge_classifier(
    network: WordNetwork, speech: Sequence[LabeledSpeech], labels: Sequence[str], rate: int
) -> tuple[int, float, float]:
    """The number of words that are cut as labeled, and which fractions of them are right, and right with confidence."""
    index = {label: number for number, label in enumerate(labels)}
    parts: list[Mel] = []
    right: list[int] = []
    for one in speech:
        mel = log_mel(one.waveform, rate)
        for word in one.words:
            if word.label in index and word.end - word.start <= LONGEST_SECONDS:
                example = clip_to(mel, (word.start, word.end), index[word.label])
                parts.append(mel[example.first : example.stop])
                right.append(example.label)
    if not parts:
        return 0, 0.0, 0.0
    log_probabilities, _ = classify(network, parts)
    correct = log_probabilities.argmax(1) == np.array(right)
    confident = confidence(log_probabilities) > CONFIDENT
    return len(parts), float(correct.mean()), float((correct & confident).mean())


def recognize(network: WordNetwork, clips: Sequence[np.ndarray], rate: int) -> Recognized:
    """Cut clips, int16 [n] each, into the pieces of which the classifier is most confident, and classify these."""
    log_probabilities = [np.zeros((0, network.classes.out_features))]
    features = [np.zeros((0, FEATURES))]
    for clip in clips:
        mel = log_mel(clip, rate)
        spans = spans_between(find_edges(clip, rate))
        of_clip, features_of_clip = classify(network, [mel[slice(*frames_of(span))] for span in spans])
        chosen = best_cut(spans, confidence(of_clip).tolist())
        log_probabilities.append(of_clip[chosen])
        features.append(features_of_clip[chosen])
    return Recognized(np.concatenate(log_probabilities), np.concatenate(features), seconds=sum(map(len, clips)) / rate)


def confidence(log_probabilities: np.ndarray) -> np.ndarray:
    """The probability of the most probable word, [pieces], of log-probabilities [pieces, classes]."""
    probabilities: np.ndarray = np.exp(log_probabilities[:, :-1].max(axis=1))
    return probabilities


def summarize(recognized: Recognized, frequencies: np.ndarray, distance: float | None) -> SpeechWords:
    """The scores of a set of speech, given the frequencies of the classes in training and its Frechet distance."""
    log_probabilities = recognized.log_probabilities
    enough = len(log_probabilities) >= LEAST_PIECES
    return SpeechWords(
        pieces=len(log_probabilities),
        recognized_fraction=recognized.fraction,
        words_per_second=float(recognized.confident.sum()) / recognized.seconds,
        inception_score=inception_score(log_probabilities) if enough else None,
        modified_inception_score=modified_inception_score(log_probabilities) if enough else None,
        am_score=am_score(log_probabilities, frequencies) if enough else None,
        frechet_distance=distance,
    )


def as_noise(clip: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the long-term spectrum and the envelope of a clip, int16 [n] both."""
    noise = np.fft.irfft(np.abs(np.fft.rfft(clip)) * np.fft.rfft(rng.standard_normal(len(clip))), len(clip))
    scaled = noise / max(noise.std(), 1e-9) * np.sqrt(smooth_power(clip, rate, ENVELOPE_SECONDS))
    clipped: np.ndarray = np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)
    return clipped


# Scores


def inception_score(log_probabilities: np.ndarray) -> float:
    """exp(mean_i KL(p_i || mean_j p_j)) (Salimans et al., 2016, "Improved Techniques for Training GANs").

    From 1, if all pieces get the same probabilities, to the number of classes, if the classifier is sure of each piece
    and each class is as frequent.

    Args:
        log_probabilities: log p_i of the pieces, [pieces, classes].
    """
    probabilities = np.exp(log_probabilities)
    mean = np.log(probabilities.mean(0).clip(1e-300))
    return float(np.exp((probabilities * (log_probabilities - mean)).sum(1).mean()))


def modified_inception_score(log_probabilities: np.ndarray) -> float:
    """exp(mean_ij KL(p_i || p_j)) (Gurumurthy et al., 2017, "DeLiGAN", equation 4), over all pairs of pieces.

    Unlike the inception score, it grows with the variety within a class, and without limit with the confidence.

    Args:
        log_probabilities: log p_i of the pieces, [pieces, classes].
    """
    probabilities = np.exp(log_probabilities)
    own = (probabilities * log_probabilities).sum(1).mean()
    others = (probabilities.mean(0) * log_probabilities.mean(0)).sum()
    return float(np.exp(own - others))


def am_score(log_probabilities: np.ndarray, frequencies: np.ndarray) -> float:
    """KL(q || mean_i p_i) + mean_i H(p_i) in nats (Zhou et al., 2018, "Activation Maximization Generative Adversarial
    Nets", section 5); 0 is the best.

    Args:
        log_probabilities: log p_i of the pieces, [pieces, classes].
        frequencies: q, the frequencies of the classes in training, [classes].
    """
    probabilities = np.exp(log_probabilities)
    entropy = -(probabilities * log_probabilities).sum(1).mean()
    spoken = frequencies > 0
    mean: np.ndarray = probabilities.mean(0)[spoken].clip(1e-300)
    divergence = (frequencies[spoken] * np.log(frequencies[spoken] / mean)).sum()
    return float(divergence) + float(entropy)


def feature_distance(features: np.ndarray, others: np.ndarray) -> float | None:
    """Squared Frechet distance of two sets of features, [pieces, FEATURES]. None if one of them has too few pieces."""
    if min(len(features), len(others)) < LEAST_PIECES:
        return None
    moments = [(values.mean(0), np.cov(values, rowvar=False)) for values in (features, others)]
    return frechet_distance(*moments[0], *moments[1])
