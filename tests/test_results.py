"""Results as JSON files: written whole, read back with every field checked, files of earlier versions included."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from zfaudio.errors import UserError
from zfaudio.experiment.results import EvaluationResult, References, Score, read_result
from zfaudio.typed_json import read_json, write_json


@dataclass
class Inner:
    value: float


@dataclass
class Content:
    format_version: int = field(default=3, kw_only=True)
    count: int
    flag: bool
    kind: Literal["a", "b"]
    name: str | None
    inner: Inner | None
    pair: tuple[float, float]
    pairs: list[tuple[int, str]]
    table: dict[str, float]
    later: str = "default"


CONTENT = Content(
    count=1,
    flag=True,
    kind="a",
    name=None,
    inner=Inner(2.0),
    pair=(1.0, float("inf")),
    pairs=[(1, "é"), (2, "b")],
    table={"x": 0.5},
)


def read(path: Path) -> Content:
    return read_json(Content, path, "the command", newest=3)


def changed(path: Path, content: Any, **fields: object) -> Path:
    path.write_text(json.dumps(asdict(content) | fields))
    return path


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "made" / "content.json"
    write_json(path, CONTENT)
    assert read(path) == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["content.json"]
    assert "é" in path.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path):
    path = tmp_path / "content.json"
    write_json(path, CONTENT)
    with pytest.raises(TypeError):
        write_json(path, Content(**{**vars(CONTENT), "name": object()}))
    assert read(path) == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["content.json"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": 1.5}, "field count is 1.5, not int"),
        ({"count": True}, "field count is True, not int"),
        ({"flag": 1}, "field flag is 1, not bool"),
        ({"kind": "c"}, "field kind is 'c', not typing.Literal"),
        ({"name": 7}, "field name is 7, not str"),
        ({"inner": {"value": "much"}}, "field inner.value is 'much', not float"),
        ({"inner": {}}, "field inner.value is missing"),
        ({"pair": [1.0]}, r"field pair is \[1.0\], not tuple"),
        ({"pairs": [[1, "a"], [2, 3]]}, r"field pairs\[1\]\[1\] is 3, not str"),
        ({"table": {"x": None}}, "field table.x is None, not float"),
        ({"more": 1}, "field more is unknown"),
        ({"format_version": "new"}, "field format_version is 'new', not int"),
    ],
)
def test_the_wrong_field_is_named(tmp_path, fields, said):
    path = changed(tmp_path / "content.json", CONTENT, **fields)
    with pytest.raises(UserError, match=rf"content.json: not a result .* the command \({said}.*make it again"):
        read(path)


def test_what_is_missing_has_its_default_or_is_named(tmp_path):
    path = tmp_path / "content.json"
    fields = asdict(CONTENT)
    del fields["later"]
    path.write_text(json.dumps(fields))
    assert read(path).later == "default"
    del fields["pair"]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="field pair is missing"):
        read(path)
    with pytest.raises(UserError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a result"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: not a result .*\(not a file\)"):
        read(tmp_path / "pipe")


def test_a_newer_version_asks_for_an_update(tmp_path):
    path = changed(tmp_path / "content.json", CONTENT, format_version=4)
    with pytest.raises(UserError, match="format_version is 4, but this zfaudio reads versions up to 3; update zfaudio"):
        read(path)


# Evaluations

RESULT = EvaluationResult(
    model="rnn",
    likelihood="gaussian",
    head="factorized",
    parameters=10,
    checkpoint_step=5,
    split="test",
    utterances=1,
    frames=2,
    frame_size=200,
    sample_rate=16000,
    bound="exact",
    importance_samples=1,
    draws=1,
    seed=0,
    protocol="whole",
    dequantized=True,
    score_first_frame=False,
    mean=0.0,
    deviation=1.0,
    audio_sha256="0123",
    constant_frames=0,
    nats_per_frame=1.0,
    nats_per_frame_ci95=(0.5, 1.5),
    nats_per_sample=0.1,
    nats_per_waveform_sample=0.1,
    nats_per_utterance=2.0,
    conventions={"timit": 2.0},
    bits_per_sample=3.0,
    kl_per_frame=0.0,
    median_frame_nats=1.0,
    worst_permille_share=0.5,
    references=References(iid_gaussian_nats_per_frame=-1.0, flac_bits_per_sample=5.0),
    command="zfaudio evaluate exp",
    scores=[Score("a", frames=2, nats=2.0)],
)


def test_an_evaluation_without_a_version_is_read_as_it_was_spelled(tmp_path):
    fields = asdict(RESULT) | {"head": "factorised"}
    del fields["format_version"]
    (tmp_path / "old.json").write_text(json.dumps(fields))
    assert read_result(tmp_path / "old.json") == RESULT
    assert read_result(str(tmp_path / "old.json")).format_version == 2


def test_names_of_any_bytes_are_written_and_read_back(tmp_path):
    for name in ("caf\udce9", "\ud800", "\\udce9", "語\x1b\n"):
        result = replace(RESULT, command=name, scores=[Score(name, frames=2, nats=2.0)])
        write_json(tmp_path / "r.json", result)
        assert read_result(tmp_path / "r.json") == result


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.json")
    with pytest.raises(UserError, match=r"r\.json: not a result.*\(not a file\)"):
        read_result(tmp_path / "r.json")


def test_conventions_are_no_longer_named_after_corpora(tmp_path):
    old = {
        "timit: summed over a whole utterance, averaged over utterances": 1.0,
        "blizzard: half-second sequences (8,000 samples at 16 kHz)": 2.0,
        "zforcing2017: averaged over utterances and rows of padding": 3.0,
    }
    assert read_result(changed(tmp_path / "r.json", RESULT, conventions=old)).conventions == {
        "per utterance, averaged over utterances": 1.0,
        "per half second (8,000 samples at 16 kHz)": 2.0,
        "zforcing2017: averaged over utterances and rows of padding": 3.0,
    }


def test_an_interval_of_no_width_from_a_single_utterance_is_read_as_none(tmp_path):
    path = changed(tmp_path / "r.json", RESULT, nats_per_frame_ci95=[1.0, 1.0])
    assert read_result(path).nats_per_frame_ci95 is None
    path = changed(tmp_path / "r.json", RESULT, utterances=2, nats_per_frame_ci95=[1.0, 1.0])
    assert read_result(path).nats_per_frame_ci95 == (1.0, 1.0)


def test_a_model_need_have_neither_likelihood_nor_head(tmp_path):
    path = changed(tmp_path / "r.json", RESULT, model="my_package.MyModel", likelihood=None, head=None)
    assert (read_result(path).likelihood, read_result(path).head) == (None, None)
