"""The pictures and sentences that a user gives to be continued, reconstructed or interpolated."""

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from zfaudio.data.known_shards import choose_shards
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.experiment.shards_fit import check_shards_fit
from zfaudio.generation.pictures import read_picture, read_pixels
from zfaudio.generation.recordings import AudioInput, read_recording
from zfaudio.generation.sentences import as_text, read_sentence
from zfaudio.generation.sequences import Given, Values
from zfaudio.observations import describe

if TYPE_CHECKING:
    # Also a picture as an array [rows, columns] of 0 and 1.
    Source = AudioInput | NDArray[Any]
else:
    Source = AudioInput

SPLIT = re.compile(r"(train|valid|test)(?::(\d+))?")


def read_values(given: Source, trained: Checkpoint, shards: str = "") -> Values:
    """The samples, pixels or ids of a whole recording, picture or sentence.

    Args:
        given: a recording, as in `read_recording`; or one of what `read_given` reads, also of a split of recordings.
        trained: the model that will read it.
        shards: folder or address of the shards of the split; by default those that the model was trained on.

    Raises:
        UserError: what is given cannot be read, or does not fit the model.
    """
    manifest = trained.manifest
    if manifest.kind == "waveform" and not (isinstance(given, str | Path) and SPLIT.fullmatch(str(given))):
        return read_recording(cast("AudioInput", given), manifest.waveform.sample_rate, manifest.frame_size)
    return read_given(given, trained, shards, 1, whole=True)[0].values


def read_given(given: Source, trained: Checkpoint, shards: str, count: int, whole: bool) -> list[Given]:
    """Read pictures or sentences.

    Args:
        given: the name of a split, such as test, for its first pictures or sentences, or test:12 for the one with that
            index; a picture file, or a picture as an array [rows, columns]; or words.
        trained: the model that will read them.
        shards: folder or address of the shards of the split; by default those that the model was trained on.
        count: how many of a split.
        whole: whether words are a whole sentence, or a beginning.

    Raises:
        UserError: what is given cannot be read, or does not fit the model.
    """
    manifest = trained.manifest
    if not isinstance(given, str | Path):
        if manifest.kind == "binary" and not isinstance(given, tuple):
            return [read_pixels(given, manifest)]
        what = {"waveform": "a recording", "binary": "a picture", "tokens": "words"}[manifest.kind]
        raise UserError(f"the model is of {describe(manifest.kind)}; give {what}, or the name of a split")
    given = str(given)
    split = SPLIT.fullmatch(given)
    if split is None:
        if manifest.kind == "binary":
            return [read_picture(Path(given), manifest)]
        return [read_sentence(given, manifest, whole)]
    location = choose_shards(shards, trained.config.data.shards, trained.path)
    check_shards_fit(trained, location, split[1])
    first = int(split[2] or 0)
    found = [
        Given(as_text(values, manifest) if manifest.kind == "tokens" else utterance.id, values)
        for utterance in islice(read_utterances(location, split[1]), first, first + (1 if split[2] else count))
        for values in (utterance.frames.ravel(),)
    ]
    if not found:
        count = read_manifest(location).split(split[1]).utterances
        raise UserError(f"{location}: split {split[1]} has no number {first}; it has {count}, numbered from 0")
    return found
