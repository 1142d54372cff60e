"""samples.json: the list of generated files in a folder, and how each of them was made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zfaudio.errors import UserError
from zfaudio.experiment.own_files import own_file
from zfaudio.files import whole_file
from zfaudio.typed_json import read_json, write_json

SAMPLE_LIST = "samples.json"
FORMAT_VERSION = 1

Kind = Literal["sample", "continuation", "reconstruction", "recording", "interpolation"]  # recording: the real one


@dataclass(frozen=True)
class Sample:
    """One file: what samples.json says about it. Pictures and sentences share a file and have no sound."""

    kind: Kind
    file: str = ""  # its name in the folder
    index: int | None = None  # the sample's number among those of its seed
    seed: int | None = None
    latent_temperature: float | None = None
    observation_temperature: float | None = None
    source: str = ""  # file of the prompt, or of the recording that was reconstructed
    starts_at: float = 0.0  # seconds; where generated speech begins, after the prompt of a continuation
    checkpoint_step: int | None = None
    command: str = ""
    seconds: float = 0.0
    clipped_samples: int = 0  # number of waveform samples that lay outside 16 bits
    peak: int = 0  # largest magnitude, in 16-bit steps
    rms: float = 0.0  # in 16-bit steps
    computing_per_second: float | None = None  # seconds of computing per second of speech, over the whole call


@dataclass
class SampleList:
    """The content of samples.json."""

    clipped_samples: int  # in all samples together
    samples: list[Sample]
    format_version: int = FORMAT_VERSION


def read_sample_list(folder: str | Path) -> dict[str, Sample]:
    """Read the samples.json of a folder.

    Returns:
        The samples by file name, without those whose file is no longer there; empty if there is no samples.json.

    Raises:
        UserError: the file is not a list of samples; the message names the wrong field. Or a sample is a link to a file
            outside the folder.
    """
    folder = Path(folder)
    path = own_file(folder, SAMPLE_LIST)
    if not path.exists():
        return {}
    remedy = "move it away or generate into another folder"
    samples = read_json(SampleList, path, "zfaudio generate", FORMAT_VERSION, remedy=remedy).samples
    for sample in samples:
        # The name is joined to the folder: it must not lead anywhere else.
        if sample.file != Path(sample.file).name:
            raise UserError(f"{path}: {sample.file!r} is not the name of a file in this folder; {remedy}")
    return {sample.file: sample for sample in samples if own_file(folder, sample.file).is_file()}


def write_sample_list(folder: str | Path, samples: dict[str, Sample]) -> None:
    """Write samples.json, in the order of the file names."""
    clipped = sum(sample.clipped_samples for sample in samples.values())
    write_json(Path(folder) / SAMPLE_LIST, SampleList(clipped, [samples[name] for name in sorted(samples)]))


def write_listed(folder: Path, sample: Sample, content: bytes) -> None:
    """Write a file, and list it in samples.json."""
    listed = read_sample_list(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / sample.file) as part:
        part.write_bytes(content)
    write_sample_list(folder, listed | {sample.file: sample})
