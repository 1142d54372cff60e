"""What a frame holds: samples of a recording, pixels that are 0 or 1, or the id of a word.

Everything that depends on it asks here. It is imported by processes that make shards, which do without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zfaudio import mulaw
from zfaudio.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Kind = Literal["waveform", "binary", "tokens"]

# How the samples of recordings are quantized: 16-bit integers, or the 256 levels of 8-bit mu-law among these.
Encoding = Literal["linear", "mulaw"]

# What parts of a model tell apart: the kinds of frames, and recordings of mu-law from others.
Content = Kind | Literal["mulaw"]

EVERY_CONTENT: tuple[Content, ...] = ("waveform", "mulaw", "binary", "tokens")
RECORDINGS: tuple[Content, ...] = ("waveform", "mulaw")

# Ids of tokens. A frame of zeros, the first input of a model, is START.
START, END, UNKNOWN = 0, 1, 2
SPECIAL_WORDS = ("<s>", "</s>", "<unk>")  # the words of these ids

LARGEST_VOCABULARY = 1 << 15  # ids are stored in 16 bits


@dataclass(frozen=True)
class Quantizer:
    """Frames of a recording, standardized: the 16-bit integer k is the sample (k - mean) / deviation."""

    mean: float = 0.0  # of the corpus, in 16-bit steps
    deviation: float = 1.0  # of the corpus, in 16-bit steps

    @property
    def step(self) -> float:
        """The distance between neighboring integers, standardized."""
        return 1 / self.deviation

    @property
    def lowest(self) -> float:
        """The smallest 16-bit sample, standardized."""
        return (-32768 - self.mean) / self.deviation

    @property
    def highest(self) -> float:
        """The largest 16-bit sample, standardized."""
        return (32767 - self.mean) / self.deviation

    def round(self, samples: "Tensor") -> "Tensor":
        """Round samples to the nearest integers, standardized again; this undoes dequantization.

        In float32 a sample at the very edge of its step may end in the next step: one of 70,000 at deviation 700.
        """
        return ((self.integers(samples) - self.mean) / self.deviation).to(samples.dtype)

    def integers(self, samples: "Tensor") -> "Tensor":
        """The integers nearest to samples, as float64."""
        return (samples.double() * self.deviation + self.mean).round()  # in float32 the product would be rounded


@dataclass(frozen=True)
class MuLaw(Quantizer):
    """Frames of a recording that hold the levels of 8-bit mu-law alone, standardized."""

    def round(self, samples: "Tensor") -> "Tensor":
        """The levels of the integers nearest to samples."""
        return self.standardize(self.codes(samples)).to(samples.dtype)

    def codes(self, samples: "Tensor") -> "Tensor":
        """The codes, int64, of the integers nearest to samples."""
        return mulaw.encode_tensor(self.integers(samples))

    def standardize(self, codes: "Tensor") -> "Tensor":
        """The samples, float64, that codes stand for."""
        return (mulaw.decode_tensor(codes) - self.mean) / self.deviation


@dataclass(frozen=True)
class Binary:
    """Frames of zeros and ones."""


@dataclass(frozen=True)
class Tokens:
    """Frames of one id each."""

    vocabulary: int  # how many ids there are


Observation = Quantizer | Binary | Tokens


def content_of(observation: Observation) -> Content:
    """What the frames hold that an observation describes."""
    if isinstance(observation, Binary):
        return "binary"
    if isinstance(observation, Tokens):
        return "tokens"
    return "mulaw" if isinstance(observation, MuLaw) else "waveform"


def of_recordings(observation: Observation, what: str) -> Quantizer:
    """The observation of a recording. Raises UserError that says that `what` is for recordings if it is another one."""
    if not isinstance(observation, Quantizer):
        raise UserError(f"{what} is for recordings, but these shards hold {describe(content_of(observation))}")
    return observation


def describe(content: Content) -> str:
    """What frames hold, in words."""
    return {
        "waveform": "recordings",
        "mulaw": "recordings of 8-bit mu-law",
        "binary": "binary frames",
        "tokens": "tokens",
    }[content]


def sample_words(encoding: Encoding) -> str:
    """What the bits of a score are of, as in "bits per 16-bit sample"."""
    return {"linear": "16-bit sample", "mulaw": "sample of 8-bit mu-law"}[encoding]


def sequence_word(kind: Kind, picture: bool = True) -> str:
    """What one sequence of frames is, in a word; `picture` is whether binary frames make a picture."""
    return {"waveform": "utterance", "binary": "image" if picture else "sequence", "tokens": "sentence"}[kind]


def value_fault(values: "NDArray[np.int16]", observation: Observation) -> str:
    """What is wrong with the values of frames; empty if nothing is."""
    if isinstance(observation, MuLaw):
        wrong_samples = values[mulaw.to_levels(values) != values]
        return f"a sample is {wrong_samples[0]}, which is no level of 8-bit mu-law" if wrong_samples.size else ""
    if isinstance(observation, Quantizer) or not values.size:
        return ""
    lowest, highest = int(values.min()), int(values.max())
    largest = 1 if isinstance(observation, Binary) else observation.vocabulary - 1
    if lowest >= 0 and highest <= largest:
        return ""
    wrong = lowest if lowest < 0 else highest
    if isinstance(observation, Binary):
        return f"a value is {wrong}; binary frames hold 0 and 1"
    return f"an id is {wrong}; the vocabulary has ids 0 to {largest}"


def vocabulary_fault(words: Sequence[str]) -> str:
    """What is wrong with a vocabulary, in which the position of a word is its id; empty if nothing is."""
    if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
        return f"vocabulary does not begin with {' '.join(SPECIAL_WORDS)}"
    if len(words) > LARGEST_VOCABULARY:
        return f"vocabulary has {len(words)} words; it may have up to {LARGEST_VOCABULARY}"
    for word in words:
        if not word.isprintable() or word.split() != [word]:
            return f"vocabulary has {word!r}, which is no word"
    if len(set(words)) < len(words):
        return "vocabulary has a word twice"
    return ""
