"""training.pt and model.safetensors as a file may hold them: whatever is wrong is one line, before it is used."""

import math
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import assert_same_weights, run_here, small_run, small_shards

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint, load_training_state
from zfaudio.training.run import Training


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def stopped(shards, tmp_path_factory) -> Path:
    """A run of a model that was stopped after five steps."""
    exp = tmp_path_factory.mktemp("stopped") / "exp"
    run_here(small_run(shards, train__max_steps=5), exp)
    return exp


@pytest.fixture
def resume(shards, stopped):
    """Resume the stopped run with another training.pt or model.safetensors; the good files are put back afterwards."""
    checkpoint = find_checkpoint(stopped / "last")
    good = {name: (checkpoint / name).read_bytes() for name in ("training.pt", "model.safetensors")}

    def resume_with(state: object = None, weights: object = None) -> None:
        if isinstance(state, bytes):
            (checkpoint / "training.pt").write_bytes(state)
        elif state is not None:
            torch.save(state, checkpoint / "training.pt")
        if isinstance(weights, bytes):
            (checkpoint / "model.safetensors").write_bytes(weights)
        elif weights is not None:
            save_file(weights, checkpoint / "model.safetensors")
        training = Training(small_run(shards, train__max_steps=6), stopped, resume=True)
        training.train_step()  # which uses all that was read
        training.close()

    yield resume_with
    for name, content in good.items():
        (checkpoint / name).write_bytes(content)


def good_training(stopped: Path) -> dict:
    return load_training_state(find_checkpoint(stopped / "last"))


def with_value(content: object, path: tuple, value: object) -> object:
    """A copy of nested dicts and lists with another value in one place."""
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = with_value(copy[path[0]], path[1:], value)
    return copy


WRONG = [
    (("optimizer", "state", 0, "exp_avg"), torch.zeros(3), "field optimizer.state[0].exp_avg has shape [3], not ["),
    (("optimizer", "state", 1, "exp_avg_sq"), None, "field optimizer.state[1].exp_avg_sq is not a tensor but NoneType"),
    (("optimizer", "state", 0, "step"), torch.ones(2), "field optimizer.state[0].step has shape [2], not []"),
    (("optimizer", "state", 0, "step"), torch.tensor(-1.0), "field optimizer.state[0].step is -1.0, not a step"),
    (
        ("optimizer", "state", 0, "step"),
        torch.tensor(3),
        "field optimizer.state[0].step is of torch.int64, not",
    ),
    (("optimizer", "state", 0), {}, "field optimizer.state[0] does not hold step, exp_avg and exp_avg_sq"),
    (("optimizer", "state"), {99: {}}, "field optimizer.state[99] is not of a parameter"),
    (("optimizer", "state"), [], "field optimizer.state is list, not dict"),
    (("optimizer", "param_groups"), [], "field optimizer.param_groups is not a list of one group"),
    (
        ("optimizer", "param_groups", 0, "lr"),
        math.nan,
        "field optimizer.param_groups[0].lr is nan, not a",
    ),
    (("optimizer", "param_groups", 0, "lr"), "fast", "field optimizer.param_groups[0].lr is fast, not a"),
    (("schedule", "num_bad_epochs"), -1, "field schedule.num_bad_epochs is out of range"),
    (("schedule", "best"), "high", "field schedule.best is 'high', not float"),
    (("step",), 2.5, "field step is 2.5, not int"),
    (("best",), [], "field best is [], not float"),
    (("processes", 0, "state", 0), torch.zeros(3, 99), "field processes[0].state[0] has shape [3, 99], not [3, 12]"),
    (("processes", 0, "state"), [], "field processes[0].state has 0 parts, not 2"),
    (("processes", 0, "stream"), 3, "field processes[0].stream is int, not dict"),
    (
        ("processes", 0, "stream", "settings"),
        {"seed": [0]},
        "field processes[0].stream.settings.seed is list",
    ),
    (("processes", 0, "stream", "lanes"), [None] * 4, "field processes[0].state[0] has shape [3, 12], not [4, 12]"),
    (("processes", 0, "interval", "terms"), [1.0], "field processes[0].interval.terms has 1 numbers, not 5"),
    (("processes", 0), None, "field processes[0] is NoneType, not dict"),
    (("processes",), {}, "field processes is dict, not list"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_a_wrong_field_of_a_training_state_is_named(stopped, resume, path, value, message):
    with pytest.raises(UserError) as raised:
        resume(state=with_value(good_training(stopped), path, value))
    assert str(raised.value).startswith(
        f"{find_checkpoint(stopped / 'last')}/training.pt: cannot be resumed from (field"
    )
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tensors_that_claim_more_than_they_hold_do_not_reach_the_optimizer(stopped, resume):
    training = good_training(stopped)
    moment = training["optimizer"]["state"][0]["exp_avg"]
    place = ("optimizer", "state", 0, "exp_avg")
    for other in (moment.to_sparse(), torch.empty_like(moment, device="meta"), moment.double(), moment.bfloat16()):
        with pytest.raises(UserError, match=r"field optimizer\.state\[0\]\.exp_avg "):
            resume(state=with_value(training, place, other))
    # One number that is shown in every place of the right shape: fine to read, but not to write to.
    resume(state=with_value(training, place, torch.ones(1).expand(moment.shape)))


@pytest.mark.parametrize("missing", ["optimizer", "schedule", "processes"])
def test_a_missing_field_of_a_training_state_is_named(stopped, resume, missing):
    training = good_training(stopped)
    del training[missing]
    with pytest.raises(UserError, match=r"training\.pt: cannot be resumed from \(field \w+ is missing\)"):
        resume(state=training)


def test_a_training_state_of_another_kind_is_refused(resume, tmp_path):
    for training in ([1], torch.zeros(3), "step", 3):
        with pytest.raises(UserError, match=r"training\.pt: cannot be resumed from \(holds \w+, not dict\)"):
            resume(state=training)


def test_a_compressed_training_state_is_refused_before_it_is_unpacked(stopped, resume, tmp_path):
    with (
        zipfile.ZipFile(find_checkpoint(stopped / "last") / "training.pt") as good,
        zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    with pytest.raises(UserError, match=r"training\.pt: cannot be resumed from \(compressed"):
        resume(state=(tmp_path / "bomb").read_bytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights | {"more": torch.zeros(2)}, r"tensor more is unknown"),
        (lambda weights: dict(list(weights.items())[1:]), r"tensor [\w.]+ is missing"),
        (lambda weights: weights | {next(iter(weights)): torch.zeros(2)}, r"tensor [\w.]+ has shape \[2\], not \["),
        (
            lambda weights: {name: value.double() for name, value in weights.items()},
            "is of torch.float64, not",
        ),
        (lambda weights: {name: value.to(torch.complex64) for name, value in weights.items()}, "is of torch.complex64"),
    ],
)
def test_a_wrong_tensor_of_the_weights_is_named(stopped, resume, change, message):
    weights = load_file(find_checkpoint(stopped / "last") / "model.safetensors")
    for use in (lambda: resume(weights=change(weights)), lambda: load_checkpoint(stopped / "last")):
        with pytest.raises(UserError, match=rf"model\.safetensors: cannot be read as the model of its .*{message}"):
            use()


def test_sizes_of_which_there_are_no_weights_are_not_allocated(stopped, tmp_path):
    config = find_checkpoint(stopped / "last") / "config.yaml"
    good = config.read_text()
    try:
        for size in (10**9, 2**62):
            config.write_text(good.replace("hidden_size: 12", f"hidden_size: {size}"))
            with pytest.raises(UserError, match=r"safetensors: cannot be read as|yaml: its model cannot"):
                load_checkpoint(stopped / "last")
    finally:
        config.write_text(good)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with bytes changed, cut out, put in or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + rng.choice([1, 8, 100])] = b""
            case 2:
                data[at:at] = rng.randbytes(rng.choice([1, 8, 100]))
            case 3:
                data[at : at + 8] = rng.choice([b"\0" * 8, b"\xff" * 8, (2**40).to_bytes(8, "little")])
    return bytes(data if rng.random() < 0.9 else data[: rng.randrange(len(data))])


@pytest.mark.parametrize("file", ["training.pt", "model.safetensors"])
def test_whatever_bytes_change_a_run_resumes_or_gives_one_line(stopped, resume, file):
    good = (find_checkpoint(stopped / "last") / file).read_bytes()
    rng, refused = random.Random(file), 0
    for _ in range(150):
        content = mutated(good, rng)
        refused += said(lambda content=content: resume(**{"state" if file == "training.pt" else "weights": content}))
    assert refused > 50


def said(use: Callable[[], None]) -> bool:
    """Whether something is refused, which must be in one line."""
    try:
        use()
    except UserError as error:
        message = str(error)
    else:
        return False
    assert "\n" not in message
    return True


def test_every_value_of_a_training_state_may_be_of_another_type(stopped, resume):
    training = good_training(stopped)
    others = [None, -1, 2**70, math.nan, "text", [], {}, torch.zeros(0), torch.full((2, 2), math.inf), True]
    rng = random.Random(0)
    for path in places(training):
        for value in rng.sample(others, 3):
            said(lambda path=path, value=value: resume(state=with_value(training, path, value)))


def places(content: object, path: tuple = ()) -> list[tuple]:
    """The paths to all values in nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in items for place in [(*path, key), *places(value, (*path, key))]]


def test_a_good_state_resumes_as_before(shards, stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "parts")
    run_here(small_run(shards, train__max_steps=6), tmp_path / "whole")
    run_here(small_run(shards, train__max_steps=6), tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")
