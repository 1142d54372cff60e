"""Write generated speech to files while it is generated, so that memory does not grow with its length."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.figures import draw_speech
from zfaudio.files import whole_file
from zfaudio.generation.samples import Sample, write_sample_list

MEASURED_AT_ONCE = 1 << 20  # samples

Item = TypeVar("Item")


class Stopwatch:
    """Measures the time that iterators take to make their items.

    Args:
        context: entered while an item is made.
    """

    def __init__(self, context: AbstractContextManager[object]) -> None:
        self._context = context
        self.seconds = 0.0

    def time(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items of an iterable, timed."""
        iterator = iter(items)
        while True:
            began = time.perf_counter()
            with self._context:
                item = next(iterator, None)
            self.seconds += time.perf_counter() - began
            if item is None:
                return
            yield item


class SampleWriter:
    """Writes a WAV file block by block. It appears under its name, with its picture and its entry, when it is kept.

    Args:
        folder: of the file.
        sample: what is known about the file before it is written.
        listed: the samples of the folder by file name, to which the sample is added.
        manifest: of the shards that the model was trained on.

    Raises:
        UserError: the file cannot be written; raised by all methods.
    """

    def __init__(self, folder: Path, sample: Sample, listed: dict[str, Sample], manifest: Manifest) -> None:
        self._folder, self._sample, self._listed, self._manifest = folder, sample, listed, manifest
        self._path = folder / sample.file
        self._samples = self._squares = self._peak = 0
        self._diverged_at: int | None = None
        self._written = contextlib.ExitStack()  # closing it moves the file to its place
        part = self._written.enter_context(whole_file(self._path))
        rate = manifest.waveform.sample_rate
        with self._disk_errors():
            self._sound = soundfile.SoundFile(part, "w", rate, 1, subtype="PCM_16", format="WAV")

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Discard the file if it was not kept."""
        if not self._sound.closed:
            self._discard()

    def write(self, waveform: NDArray[np.int16], clipped: int = 0, diverged_at: int | None = None) -> None:
        """Append samples.

        Args:
            waveform: int16 [n].
            clipped: how many of them stand at the limits of 16 bits.
            diverged_at: index of the first generated sample that was no number, if there was one.
        """
        with self._disk_errors():
            self._sound.write(waveform)
        for first in range(0, len(waveform), MEASURED_AT_ONCE):
            values = waveform[first : first + MEASURED_AT_ONCE].astype(np.int64)
            self._squares += int(np.square(values).sum())
            self._peak = max(self._peak, int(np.abs(values).max()))
        self._samples += len(waveform)
        self._sample = replace(self._sample, clipped_samples=self._sample.clipped_samples + clipped)
        if self._diverged_at is None:
            self._diverged_at = diverged_at

    def keep(self) -> Sample | None:
        """Put the file in its place, draw its picture and list it. Returns its entry, or None if it diverged."""
        rate = self._manifest.waveform.sample_rate
        if self._diverged_at is not None:
            self._discard()
            print(f"{self._path.name}: diverged after {self._diverged_at / rate:.2f} s, left out", file=sys.stderr)
            return None
        sample = replace(
            self._sample,
            seconds=self._samples / rate,
            peak=self._peak,
            rms=float(np.sqrt(self._squares / self._samples)),
        )
        if self._listed.pop(sample.file, None) is not None:
            write_sample_list(self._folder, self._listed)  # its entry is of a file that is about to be replaced
        with self._disk_errors():
            self._sound.close()
        self._written.close()
        with soundfile.SoundFile(self._path) as sound:
            picture = draw_speech(_Samples(sound), rate, self._manifest.waveform.deviation, mark=sample.starts_at)
        with whole_file(self._path.with_suffix(".png")) as part:
            picture.savefig(part)
        self._listed[sample.file] = sample
        write_sample_list(self._folder, self._listed)
        print(
            f"{self._path}: {sample.seconds:.2f} s, peak {sample.peak}, rms {sample.rms:.0f}, "
            f"{sample.clipped_samples} at full scale"
        )
        return sample

    def _discard(self) -> None:
        self._sound.close()
        discarded = RuntimeError("discarded")
        self._written.__exit__(RuntimeError, discarded, None)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except soundfile.LibsndfileError as error:
            raise UserError(f"{self._path}: cannot be written ({error}); is the disk full?") from None


class _Samples:
    """The samples of a WAV file, of which only a part is read at a time."""

    def __init__(self, sound: soundfile.SoundFile) -> None:
        self._sound = sound

    def __len__(self) -> int:
        return int(self._sound.frames)

    def __getitem__(self, part: slice) -> NDArray[np.int16]:
        first, last, _ = part.indices(len(self))
        self._sound.seek(first)
        samples: NDArray[np.int16] = self._sound.read(last - first, dtype="int16")
        return samples
