"""What training checks of its data: that there is something to score, and on resuming that they are the same."""

import copy
import shutil
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from small_runs import FRAME_SIZE, assert_same_weights, run_here, small_run, small_shards
from speech import make_shards

from zfaudio.config import DataConfig
from zfaudio.data.loader import TrainingStream, check_scorable, whole_utterances
from zfaudio.data.manifest import read_manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint

SEGMENT = 8


def stream_of(location: str, lanes: int = 3, carry_state: bool = True) -> TrainingStream:
    config = DataConfig(location, shuffle_utterances=6, carry_state=carry_state)
    return TrainingStream(location, read_manifest(location), config, lanes, SEGMENT, seed=0)


def state_after(location: str, batches: int) -> dict[str, Any]:
    stream = stream_of(location)
    for _ in range(batches):
        next(stream)
    return stream.state_dict()


# Something to score


def short_valid(folder: Path, frames: int = 1) -> str:
    """Shards whose validation part has utterances of `frames` frames each, beside longer training utterances."""
    location = make_shards(folder, utterances={"train": 6, "valid": 3}, frames=30, frame_size=FRAME_SIZE)
    other = make_shards(folder / "short", utterances={"train": 1, "valid": 3}, frames=frames, frame_size=FRAME_SIZE)
    manifest, short = read_manifest(location), read_manifest(other)
    shutil.copy(folder / "short" / "valid-000000.tar", folder)
    manifest.splits["valid"] = short.splits["valid"]
    (folder / "manifest.json").write_text(manifest.to_json())
    return location


def test_a_validation_part_with_nothing_to_score_is_found_before_the_first_step(tmp_path):
    location = short_valid(tmp_path / "shards")
    with pytest.raises(UserError, match=r"0 utterances of valid can be scored, which takes 2 frames of 20 samples"):
        run_here(small_run(location), tmp_path / "exp")
    assert not (tmp_path / "exp" / "checkpoints").exists()
    run_here(small_run(location, data__score_first_frame=True), tmp_path / "scored")
    assert (tmp_path / "scored" / "checkpoints").exists()


def test_without_a_validation_part_there_is_none_to_check(tmp_path):
    location = make_shards(tmp_path / "shards", utterances={"train": 6}, frames=30, frame_size=FRAME_SIZE)
    run_here(small_run(location, train__max_steps=2), tmp_path / "exp")


def test_every_process_needs_something_to_train_on(tmp_path):
    location = make_shards(tmp_path, utterances=6, frames=[1, 5, 1])
    manifest = read_manifest(location)
    check_scorable(DataConfig(location), manifest, world=2)
    with pytest.raises(UserError, match=r"2 utterances of train can be scored, .* but 3 are needed"):
        check_scorable(DataConfig(location), manifest, world=3)
    check_scorable(DataConfig(location, score_first_frame=True), manifest, world=6)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_part_with_nothing_to_score_says_so_whoever_scores_it(tmp_path, split):
    location = make_shards(tmp_path, frames=1)
    manifest = read_manifest(location)
    for rank in range(2):
        with pytest.raises(UserError, match=f"{tmp_path}: 0 utterances of {split} can be scored"):
            list(whole_utterances(location, manifest, split, DataConfig(), 100, 0, rank, world=2))
    config = DataConfig(score_first_frame=True)
    assert len(list(whole_utterances(location, manifest, split, config, 2, 0))) == 3


# The same data


def test_a_run_is_not_resumed_on_other_audio_of_the_same_length(tmp_path):
    location = small_shards(tmp_path / "shards")
    config = small_run(location)
    run_here(config, tmp_path / "exp")
    longer = small_run(location, train__max_steps=16)
    make_shards(tmp_path / "shards", utterances=9, frames=[35, 12, 50], frame_size=FRAME_SIZE, seed=1)
    for old in (False, True):
        if old:
            forget_shards(tmp_path / "exp")
        with pytest.raises(UserError, match=r"mean was .* in the stopped run and is .* now"):
            run_here(longer, tmp_path / "exp", resume=True)
    shutil.rmtree(tmp_path / "shards")
    make_shards(tmp_path / "shards", utterances=9, frames=[35, 12, 50], frame_size=FRAME_SIZE, utterances_per_shard=5)
    with pytest.raises(UserError, match="train shards are not those of the stopped run"):
        run_here(longer, tmp_path / "exp", resume=True)


def forget_shards(exp: Path) -> None:
    """Make the last checkpoint one of version 0.1.0, whose position in the data did not say which shards it is of."""
    path = find_checkpoint(exp / "last") / "training.pt"
    training = torch.load(path, weights_only=True)
    for process in training["processes"]:
        del process["stream"]["settings"]["shards"]
    torch.save(training, path)


def test_a_checkpoint_of_before_resumes_where_nothing_changed(tmp_path):
    location = small_shards(tmp_path / "shards")
    run_here(small_run(location, train__max_steps=16), tmp_path / "whole")
    run_here(small_run(location, train__max_steps=8), tmp_path / "stopped")
    forget_shards(tmp_path / "stopped")
    run_here(small_run(location, train__max_steps=16), tmp_path / "stopped", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_a_position_in_other_shards_is_refused(tmp_path):
    location = make_shards(tmp_path / "a", utterances=9, frames=[30, 7, 20])
    other = make_shards(tmp_path / "b", utterances=9, frames=[30, 7, 20], seed=1)
    state = state_after(location, 5)
    with pytest.raises(UserError, match="cannot resume: the shards are not those of the stopped run"):
        stream_of(other).load_state_dict(state)
    del state["settings"]["shards"]
    stream_of(location).load_state_dict(state)


# A damaged position


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), utterances=9, frames=[30, 7, 20])


values = st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=3) | st.just(2**70)


@settings(max_examples=300)
@given(data=st.data(), batches=st.integers(0, 20))
def test_a_damaged_position_is_refused_or_followed(location, data, batches):
    state = copy.deepcopy(state_after(location, batches))
    kind = data.draw(st.sampled_from(["next", "lane", "number", "missing", "lanes"]))
    lane = data.draw(st.integers(0, 2))
    if kind == "next":
        state["next"][data.draw(st.integers(0, 1))] = data.draw(values)
    elif kind == "lane":
        state["lanes"][lane] = data.draw(values | st.lists(values, max_size=4))
    elif kind == "number" and state["lanes"][lane] is not None:
        state["lanes"][lane][data.draw(st.integers(0, 2))] = data.draw(values)
    elif kind == "missing":
        del state[data.draw(st.sampled_from(["next", "lanes", "settings"]))]
    elif kind == "lanes":
        state["lanes"] = data.draw(values | st.lists(st.none() | st.lists(values, max_size=4), max_size=4))
    stream = stream_of(location)
    try:
        stream.load_state_dict(state)
        for _ in range(3):
            batch = next(stream)
    except UserError as error:
        said = str(error)
    else:
        assert torch.isfinite(batch.frames).all()
        assert batch.lengths.ge(2).all()
        return
    assert "cannot resume" in said


@pytest.mark.parametrize(
    ("lane", "next_position", "said"),
    [
        ([0, 1, 9], [0, 5], "is damaged"),  # offsets are multiples of a segment
        ([0, 1, 8 * 10**6], [0, 5], "is damaged"),
        ([0, 5, 8], [0, 5], "is damaged"),  # not yet read
        ([0, 1, 8], [10**9, 0], "is damaged"),  # no lane stays in a recording for so long
        ([0, 1, 32], [0, 5], "these shards lack"),  # past the end of every recording
        ([0, 99, 8], [1, 0], "these shards lack"),
        ([0, 1, 8], [0, 99], "these shards lack"),
    ],
)
def test_a_position_that_no_stream_comes_to_is_refused(location, lane, next_position, said):
    stream = stream_of(location)
    state = stream.state_dict() | {"next": next_position, "lanes": [lane, None, None]}
    with pytest.raises(UserError, match=said):  # noqa: PT012
        stream.load_state_dict(state)
        next(stream)


def test_a_lane_may_stay_in_a_long_recording_for_many_epochs(tmp_path):
    """One recording of 100 segments, and one of a single segment that the other lanes repeat."""
    location = make_shards(tmp_path, utterances=2, frames=[100 * SEGMENT + 1, SEGMENT + 1])
    stopped = stream_of(location, lanes=3)
    for _ in range(95):
        next(stopped)
    state = stopped.state_dict()
    resumed = stream_of(location, lanes=3)
    resumed.load_state_dict(state)
    for _ in range(10):
        expected, batch = next(stopped), next(resumed)
        np.testing.assert_array_equal(batch.frames.numpy(), expected.frames.numpy())
