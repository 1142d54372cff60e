"""A small network that recognizes words, and says so if what it hears is none.

It is trained on the CPU in less than a minute. Its input is the log-mel spectrogram of a piece, without its level. One
class stands for everything that is no word: parts of words and parts of two words, words played backward, a moment of
speech that goes on, and noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from zfaudio.evaluation.speech_statistics import BANDS, HOP_SECONDS, WINDOW_SECONDS, mel_power
from zfaudio.evaluation.word_pieces import LONGEST_SECONDS, Span
from zfaudio.seeds import derive_seed, torch_seed

FRAMES = round(LONGEST_SECONDS / HOP_SECONDS)  # of the input; pieces that are shorter are followed by silence
RANGE = float(np.log(10)) * 5  # natural logarithm of the power: what is 50 dB below the loudest of a piece is silence
FEATURES = 32

EPOCHS = 14
BATCH = 128
LEARNING_RATE = 3e-3

# Changes of training pieces. Models that are judged are noisier than recordings, and their spectra may be tilted.
JITTER_FRAMES = 4  # of each edge
SNR_DB = (15.0, 60.0)
TILT_DB = 6.0  # up or down, from the lowest to the highest band

NEPERS_PER_DB = float(np.log(10)) / 10  # of power
BAND_TILT = (NEPERS_PER_DB * np.linspace(-0.5, 0.5, BANDS)).astype(np.float32)
HISS_FRAMES = 5000

Mel = np.ndarray  # float32 [frames, BANDS], natural logarithm of the power


@dataclass(frozen=True)
class Example:
    """A piece of a spectrogram, and its class."""

    mel: Mel  # of the whole utterance, so that edges can be moved
    first: int  # frame
    stop: int
    label: int


class WordNetwork(nn.Module):
    """Convolutions over time, pooled over time."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(BANDS, 64, 5, stride=2, padding=2), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 96, 3, padding=1), nn.BatchNorm1d(96), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(96, 128, 3, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
        )  # fmt: skip
        self.features = nn.Sequential(nn.Dropout(0.2), nn.Linear(256, FEATURES), nn.ReLU())
        self.classes = nn.Linear(FEATURES, classes)

    def forward(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [batch, classes] and features [batch, FEATURES] of pieces [batch, FRAMES, BANDS]."""
        hidden = self.convolutions(pieces.transpose(1, 2))  # [batch, 128, FRAMES / 4]
        features = self.features(torch.cat([hidden.mean(2), hidden.amax(2)], dim=1))
        return self.classes(features).log_softmax(1), features


def log_mel(waveform: np.ndarray, rate: int) -> Mel:
    """The log-mel spectrogram of a waveform, int16 [samples]; frame k is centered (k + 1/2) hops after its start."""
    window = 1 << (round(WINDOW_SECONDS * rate) - 1).bit_length()
    margin = (window - round(HOP_SECONDS * rate)) // 2
    padded = np.pad(waveform, (margin, window))
    mel: Mel = np.log(1 + mel_power([padded], rate)).astype(np.float32)
    return mel[: max(1, round(len(waveform) / rate / HOP_SECONDS))]


def frames_of(span: Span) -> tuple[int, int]:
    """The first frame of a span, and the one after its last."""
    return round(span[0] / HOP_SECONDS), max(round(span[1] / HOP_SECONDS), round(span[0] / HOP_SECONDS) + 1)


def as_input(part: Mel) -> np.ndarray:
    """What the network reads of a piece [frames, BANDS]: float32 [FRAMES, BANDS] from 0 to 1, without its level."""
    piece = np.zeros((FRAMES, BANDS), np.float32)
    part = part[:FRAMES]
    piece[: len(part)] = np.clip(1 + (part - part.max()) / RANGE, 0, 1)
    return piece


def vary(example: Example, hiss: Mel, rng: np.random.Generator) -> np.ndarray:
    """The input of an example with edges moved, noise added and the spectrum tilted, all at random.

    Args:
        example: the example.
        hiss: log-mel spectrogram of noise, float32 [HISS_FRAMES, BANDS], of which a random part is used.
        rng: source of the random numbers.
    """
    first, stop = np.array([example.first, example.stop]) + rng.integers(-JITTER_FRAMES, JITTER_FRAMES + 1, 2)
    first = min(max(first, 0), len(example.mel) - 1)
    part = example.mel[first : min(max(stop, first + 1), first + FRAMES)]
    tilt, slope = rng.uniform(-TILT_DB, TILT_DB, 2)
    start = rng.integers(HISS_FRAMES - FRAMES)
    noise = hiss[start : start + len(part)] + (part.max() - NEPERS_PER_DB * rng.uniform(*SNR_DB))
    return as_input(np.logaddexp(part + tilt * BAND_TILT, noise + 2 * slope * BAND_TILT))


def train_network(
    classes: int, draw_epoch: Callable[[np.random.Generator], Sequence[Example]], seed: int
) -> WordNetwork:
    """Train a network from random weights.

    Args:
        classes: number of classes.
        draw_epoch: called for the examples of each pass.
        seed: seed of the weights, the order and the changes of examples.
    """
    rng = np.random.default_rng(derive_seed(seed, "word classifier"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "word classifier"))
        network = WordNetwork(classes)
        hiss = np.log(rng.gamma(3.0, 1 / 3, (HISS_FRAMES, BANDS))).astype(np.float32)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
        for epoch in tqdm(range(EPOCHS), unit="pass", desc="learning words", disable=None):
            examples = draw_epoch(rng)
            batches = np.array_split(rng.permutation(len(examples)), max(1, len(examples) // BATCH))
            for number, batch in enumerate(batches):
                set_rate(optimizer, (epoch + number / len(batches)) / EPOCHS)
                pieces = torch.from_numpy(np.stack([vary(examples[index], hiss, rng) for index in batch]))
                labels = torch.tensor([examples[index].label for index in batch])
                loss = nn.functional.nll_loss(network(pieces)[0], labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network.eval()


def set_rate(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Set the learning rate: it rises for the first fifth of the training and falls along a half cosine then."""
    factor = progress / 0.2 if progress < 0.2 else 0.5 + 0.5 * math.cos(math.pi * (progress - 0.2) / 0.8)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE * max(factor, 0.01)


@torch.inference_mode()
def classify(network: WordNetwork, parts: Sequence[Mel]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities, float64 [pieces, classes], and features, float64 [pieces, FEATURES], of pieces."""
    log_probabilities, features = [np.zeros((0, network.classes.out_features))], [np.zeros((0, FEATURES))]
    for start in range(0, len(parts), 256):
        inputs = torch.from_numpy(np.stack([as_input(part) for part in parts[start : start + 256]]))
        outputs = network(inputs)
        log_probabilities.append(outputs[0].double().numpy())
        features.append(outputs[1].double().numpy())
    return np.concatenate(log_probabilities), np.concatenate(features)
