"""Batches from shards: all frames are scored once, all processes get the same amount, and streams can be resumed."""

import gc
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from speech import make_shards

from zfaudio.config import DataConfig
from zfaudio.data.frames import standardize
from zfaudio.data.loader import Batch, TrainingStream, whole_utterances
from zfaudio.data.manifest import Shard, read_manifest
from zfaudio.data.segments import separate_shards
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError

FRAMES = [30, 7, 1, 41, 2, 9, 25]
SEGMENT = 8


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of 23 utterances of 1 to 41 frames. Utterances of one frame have no frame to score."""
    return make_shards(tmp_path_factory.mktemp("shards"), utterances=23, frames=FRAMES, utterances_per_shard=5)


def stream_of(location: str, lanes: int = 3, seed: int = 0, rank: int = 0, world: int = 1, **data: bool | int):
    config = DataConfig(**{"shuffle_utterances": 6, **data})
    return TrainingStream(location, read_manifest(location), config, lanes, SEGMENT, seed, rank, world)


def same(a: Batch, b: Batch) -> bool:
    return (
        a.frames.equal(b.frames)
        and a.lengths.equal(b.lengths)
        and a.starts.equal(b.starts)
        and a.utterances == b.utterances
    )


def standardized(location: str, split: str = "train") -> dict[str, np.ndarray]:
    manifest = read_manifest(location)
    return {
        utterance.id: standardize(utterance.frames, manifest.mean, manifest.deviation)
        for utterance in read_utterances(location, split, manifest)
    }


def first_epoch(stream: TrainingStream) -> list[Batch]:
    """Return the batches of the first epoch of a stream with one lane."""
    batches = []
    while True:
        batch = next(stream)
        if stream.state_dict()["next"][0] > 0:
            return batches
        batches.append(batch)


def recordings(batches: list[Batch]) -> list[tuple[str, torch.Tensor]]:
    """Join the segments of a stream with one lane to the recordings that it walked through."""
    walked: list[tuple[str, list[torch.Tensor]]] = []
    for batch in batches:
        frames = batch.frames[0, : batch.lengths[0]]
        if batch.starts[0]:
            walked.append((batch.utterances[0], [frames]))
        else:
            name, parts = walked[-1]
            assert name == batch.utterances[0]
            assert frames[0].equal(parts[-1][-1])  # the last frame of a segment is the first input of the next
            parts.append(frames[1:])
    return [(name, torch.cat(parts)) for name, parts in walked]


# Segments


def test_a_lane_walks_through_whole_recordings(location):
    batches = first_epoch(stream_of(location, lanes=1, dequantize=False))
    expected = {name: frames for name, frames in standardized(location).items() if len(frames) > 1}
    walked = recordings(batches)
    assert sorted(name for name, _ in walked) == sorted(expected)
    for name, frames in walked:
        np.testing.assert_array_equal(frames.numpy(), expected[name])


def test_batches_have_one_shape_and_zeros_past_the_lengths(location):
    for carry_state in (True, False):
        for batch in islice(stream_of(location, carry_state=carry_state), 60):
            assert batch.frames.shape == (3, SEGMENT + 1, 20)
            assert batch.frames.dtype == torch.float32
            assert batch.lengths.dtype == torch.int64
            assert batch.starts.dtype == torch.bool
            assert len(batch.utterances) == 3
            for frames, length in zip(batch.frames, batch.lengths, strict=True):
                assert 2 <= length <= SEGMENT + 1
                assert frames[:length].abs().sum(dim=1).gt(0).all()
                assert not frames[length:].any()


def test_a_recording_that_ends_with_a_segment_leaves_no_empty_one(tmp_path):
    shards = make_shards(tmp_path, utterances=4, frames=2 * SEGMENT + 1)
    batches = first_epoch(stream_of(shards, lanes=1))
    assert [batch.lengths.item() for batch in batches] == [SEGMENT + 1] * 8
    assert [batch.starts.item() for batch in batches] == [True, False] * 4


def test_segments_at_random_offsets_start_afresh_and_keep_their_place(location):
    frames = standardized(location)
    offsets = Counter()
    for batch in islice(stream_of(location, carry_state=False, dequantize=False), 300):
        assert batch.starts.all()
        for lane, name in enumerate(batch.utterances):
            length = int(batch.lengths[lane])
            segment = batch.frames[lane, :length].numpy()
            assert length == min(SEGMENT + 1, len(frames[name]))
            places = [
                i
                for i in range(len(frames[name]) - length + 1)
                if np.array_equal(frames[name][i : i + length], segment)
            ]
            assert places
            offsets[name, places[0]] += 1
    longest = [offset for name, offset in offsets if len(frames[name]) == 30]
    assert min(longest) == 0
    assert max(longest) == 30 - SEGMENT - 1
    assert len(set(longest)) > 15


def test_segments_of_one_epoch_do_not_overlap_in_what_they_score(location):
    frames = standardized(location)
    scored: Counter[str] = Counter()
    for batch in first_epoch(stream_of(location, lanes=1, carry_state=False)):
        scored[batch.utterances[0]] += int(batch.lengths[0]) - 1
    for name, whole in frames.items():
        targets = len(whole) - 1
        expected = targets - targets % SEGMENT if targets >= SEGMENT else targets
        assert scored[name] == expected


def test_a_frame_of_zeros_goes_before_each_recording_when_asked(location):
    batches = first_epoch(stream_of(location, lanes=1, score_first_frame=True, dequantize=False))
    expected = standardized(location)
    walked = recordings(batches)
    assert sorted(name for name, _ in walked) == sorted(expected)  # including recordings of one frame
    for name, frames in walked:
        assert not frames[0].any()
        np.testing.assert_array_equal(frames[1:].numpy(), expected[name])


# Order and noise


def test_the_seed_decides_everything(location):
    for carry_state in (True, False):
        first, again, other = (
            list(islice(stream_of(location, seed=seed, carry_state=carry_state), 40)) for seed in (5, 5, 6)
        )
        assert all(map(same, first, again))
        assert [b.utterances for b in first] != [b.utterances for b in other]


def test_epochs_differ_in_order_and_noise(location):
    stream = stream_of(location, lanes=1)
    epochs: list[dict[str, torch.Tensor]] = [{}, {}]
    while (epoch := stream.state_dict()["next"][0]) < 2:
        batch = next(stream)
        epoch = stream.state_dict()["next"][0]
        if epoch < 2 and batch.starts[0]:
            epochs[epoch][batch.utterances[0]] = batch.frames[0]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert list(epochs[0]) != list(epochs[1])
    for name, frames in epochs[0].items():
        assert not frames.equal(epochs[1][name])


def test_noise_is_of_one_quantization_step(location):
    step = 1 / read_manifest(location).deviation
    plain = standardized(location)
    for name, frames in recordings(first_epoch(stream_of(location, lanes=1))):
        noise = (frames.numpy() - plain[name]) / step
        assert np.abs(noise).max() < 0.51
        assert np.abs(noise).max() > 0.4


def test_reading_order_is_shuffled_beyond_the_shard(tmp_path):
    shards = make_shards(tmp_path, utterances=60, frames=4, utterances_per_shard=60)
    stream = stream_of(shards, lanes=1, shuffle_utterances=30)
    names = [batch.utterances[0] for batch in first_epoch(stream)]
    places = [int(name.rpartition("-")[2]) for name in names]
    assert abs(np.corrcoef(places, range(60))[0, 1]) < 0.9
    assert places != sorted(places)


# Several processes


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("shards", [1, 2, 4, 6])
def test_every_utterance_goes_to_one_rank_in_each_epoch(tmp_path, world, shards):
    location = make_shards(tmp_path, utterances=12, frames=[9, 30, 4], utterances_per_shard=12 // shards)
    for carry_state in (True, False):
        names = []
        for rank in range(world):
            batches = first_epoch(stream_of(location, lanes=1, rank=rank, world=world, carry_state=carry_state, seed=3))
            own = {batch.utterances[0] for batch in batches}
            assert len(own) in (12 // world, -(-12 // world))
            names += sorted(own)
        assert sorted(names) == sorted(standardized(location))


def test_shards_of_like_size_are_dealt_out_and_the_others_shared():
    sizes = [256, 256, 17, 250, 256, 256, 256, 256]  # shards lack the recordings that were rejected
    shards = [Shard(f"train-{i}.tar", "", size, 9 * size) for i, size in enumerate(sizes)]
    dealt, shared = separate_shards(shards, 3)
    assert [shard.utterances for shard in dealt] == [256, 256, 250, 256, 256, 256]
    assert [shard.utterances for shard in shared] == [17, 256]
    assert separate_shards(shards, 8) == ([], shards)
    assert separate_shards(shards, 1) == (shards, [])


def test_more_ranks_than_utterances_are_refused(tmp_path):
    location = make_shards(tmp_path, utterances=3)
    with pytest.raises(UserError, match="3 training utterances cannot feed 4 processes"):
        stream_of(location, world=4)


def test_recordings_with_nothing_to_score_are_counted_and_do_not_hang(tmp_path):
    location = make_shards(tmp_path, utterances=6, frames=[1, 1, 5])
    stream = stream_of(location, lanes=2)
    for _ in range(20):
        next(stream)
    assert len(stream.too_short) == 4
    with pytest.raises(UserError, match="at least 2 frames for process 2 of 3"):
        next(stream_of(location, rank=2, world=3))


def test_fewer_utterances_than_lanes_go_on_with_the_next_epoch(tmp_path):
    location = make_shards(tmp_path, utterances=2, frames=20)
    batch = next(stream_of(location, lanes=7))
    assert Counter(batch.utterances).most_common()[0][1] == 4
    assert len({tuple(frames.flatten().tolist()) for frames in batch.frames}) == 7


# Resuming


@settings(max_examples=25)
@given(step=st.integers(0, 70), carry_state=st.booleans(), zeros=st.booleans(), rank=st.integers(0, 1))
def test_a_stopped_stream_goes_on_with_the_very_next_batch(location, step, carry_state, zeros, rank):
    options = {"carry_state": carry_state, "score_first_frame": zeros, "rank": rank, "world": 2}
    stopped = stream_of(location, **options)
    for _ in range(step):
        next(stopped)
    resumed = stream_of(location, **options)
    next(resumed)  # what this stream has read already does not matter
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.state_dict() == stopped.state_dict()
    for expected, batch in zip(islice(stopped, 12), resumed, strict=False):
        assert same(batch, expected)


def test_a_state_is_plain_and_stays_what_it_was(location, tmp_path):
    stream = stream_of(location)
    next(stream)
    state = stream.state_dict()
    torch.save(state, tmp_path / "state.pt")
    expected = [next(stream) for _ in range(5)]
    stream.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert stream.state_dict() == state
    assert all(map(same, (next(stream) for _ in range(5)), expected))


def test_a_state_of_other_settings_is_refused(location):
    state = stream_of(location).state_dict()
    with pytest.raises(UserError, match="seed was 0 in the stopped run and is 1 now"):
        stream_of(location, seed=1).load_state_dict(state)
    with pytest.raises(UserError, match="batch_size was 3 in the stopped run and is 4 now"):
        stream_of(location, lanes=4).load_state_dict(state)
    with pytest.raises(UserError, match="world was 1"):
        stream_of(location, world=2).load_state_dict(state)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_a_dropped_stream_ends_its_thread(location):
    before = set(loader_threads())
    gc.disable()  # the thread must end without the garbage collector, which may run in any thread
    try:
        for seed in range(30):
            stream = stream_of(location, seed=seed)
            for _ in range(3):
                next(stream)
        stream.load_state_dict(stream.state_dict())
        del stream
        deadline = time.monotonic() + 10
        while set(loader_threads()) - before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()


def test_a_damaged_shard_ends_the_stream_with_its_name(tmp_path):
    location = make_shards(tmp_path, utterances=3)
    shard = Path(location) / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"train-000000\.tar: damaged"):
        next(stream_of(location))


# Whole utterances


def test_whole_utterances_come_once_each_within_the_size_asked_for(location):
    manifest = read_manifest(location)
    expected = {name: frames for name, frames in standardized(location).items() if len(frames) > 1}
    for world in (1, 2, 3, 5):
        found = {}
        for rank in range(world):
            config = DataConfig(dequantize=False)
            for batch in whole_utterances(location, manifest, "train", config, 64, 0, rank, world):
                assert len(batch.utterances) == 1 or batch.frames.shape[0] * batch.frames.shape[1] <= 64
                assert batch.frames.shape[1] == batch.lengths.max()
                assert batch.starts.all()
                for name, frames, length in zip(batch.utterances, batch.frames, batch.lengths, strict=True):
                    assert name not in found
                    assert not frames[length:].any()
                    found[name] = frames[:length].numpy()
        assert sorted(found) == sorted(expected)
        for name, frames in found.items():
            np.testing.assert_array_equal(frames, expected[name])


def test_whole_utterances_of_similar_length_share_a_batch(tmp_path):
    location = make_shards(tmp_path, utterances=40, frames=[5, 40], utterances_per_shard=40)
    batches = list(whole_utterances(location, read_manifest(location), "train", DataConfig(), 400, 0))
    assert all(batch.lengths.unique().numel() == 1 for batch in batches)
    assert len(batches) < 5


def test_noise_of_whole_utterances_does_not_depend_on_batch_or_rank(location):
    manifest = read_manifest(location)

    def frames(frames_per_batch: int, world: int, seed: int = 1) -> dict[str, list[float]]:
        return {
            name: row[:length].flatten().tolist()
            for rank in range(world)
            for batch in whole_utterances(
                location, manifest, "train", DataConfig(), frames_per_batch, seed, rank, world
            )
            for name, row, length in zip(batch.utterances, batch.frames, batch.lengths, strict=True)
        }

    assert frames(1000, 1) == frames(50, 3)
    assert frames(1000, 1) != frames(1000, 1, seed=2)


def test_whole_utterances_begin_with_a_frame_of_zeros_when_asked(location):
    config = DataConfig(dequantize=False, score_first_frame=True)
    plain = standardized(location, "test")
    batches = list(whole_utterances(location, read_manifest(location), "test", config, 500, 0))
    assert sum(len(batch.utterances) for batch in batches) == len(plain)
    for batch in batches:
        for name, frames, length in zip(batch.utterances, batch.frames, batch.lengths, strict=True):
            assert not frames[0].any()
            np.testing.assert_array_equal(frames[1:length].numpy(), plain[name])


def test_an_empty_buffer_is_refused():
    with pytest.raises(UserError, match=r"data\.shuffle_utterances is 0"):
        DataConfig(shuffle_utterances=0)
