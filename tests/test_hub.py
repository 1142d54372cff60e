"""Models on the Hugging Face hub, against a stand-in on localhost: loaded to the last bit, or refused in one line."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment import make_experiment
from hub_server import NEEDED, OTHER_TOKEN, TOKEN, checkpoint_files, one_line
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import zfaudio
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint
from zfaudio.experiment.config_file import read_config, write_config
from zfaudio.experiment.hub_checkpoint import import_paths
from zfaudio.hub import HubModel, on_hub, parse_hub_name
from zfaudio.models.encoders import ENCODERS
from zfaudio.models.frame_likelihoods import LIKELIHOODS
from zfaudio.models.heads import HEADS
from zfaudio.models.registry import MODELS

# Round trip


def test_a_pushed_model_comes_back_to_the_last_bit(pushed, made):
    ours, theirs = load_checkpoint(made), zfaudio.load("user/name", device="cpu")
    weights = theirs.checkpoint.model.state_dict()
    assert weights.keys() == ours.model.state_dict().keys()
    assert all(weights[name].equal(tensor) for name, tensor in ours.model.state_dict().items())
    assert (theirs.checkpoint.step, theirs.checkpoint.manifest) == (ours.step, ours.manifest)
    assert theirs.checkpoint.config.model == ours.config.model
    speech = zfaudio.load(made, device="cpu").sample(num=2, seconds=0.2, seed=3).waveforms
    assert np.array_equal(theirs.sample(num=2, seconds=0.2, seed=3).waveforms, speech)


def test_what_is_pushed_is_what_loading_needs_with_the_card_and_two_samples(pushed):
    pairs = {f"samples/sample-{index:03d}{ending}" for index in (0, 1) for ending in (".wav", ".png")}
    assert pushed.files().keys() == {*NEEDED, *pairs, "README.md", ".gitattributes"}


def test_nothing_that_is_pushed_tells_of_this_machine(hub, made, tmp_path):
    exp = shutil.copytree(made, tmp_path / "exp")
    path = find_checkpoint(exp) / "config.yaml"
    config = read_config(path)
    config.train.init_from = str(tmp_path / "first")
    write_config(config, path)
    zfaudio.push(exp, "user/name", license="mit")
    files = hub.models["user/name"].files()
    assert yaml.safe_load(files["config.yaml"])["data"]["shards"] == ""
    for name, content in files.items():
        for place in (tmp_path, made.parent, Path.home()):
            assert str(place).encode() not in content, name


def test_a_pushed_model_is_scored_as_before(pushed, made, tmp_path):
    shards = read_config(made / "config.yaml").data.shards
    with pytest.raises(
        UserError, match="hub:user/name: its configuration does not say where the shards are; give --sha"
    ):
        zfaudio.evaluate("hub:user/name", device="cpu")
    json_file = tmp_path / "test.json"
    result = zfaudio.evaluate("hub:user/name", shards=shards, json=json_file, draws=1, device="cpu")
    assert result.nats_per_frame == zfaudio.evaluate(made, draws=1, device="cpu").nats_per_frame
    assert json_file.exists()


def test_a_branch_is_pushed_and_loaded_by_name(pushed, made, hub, tmp_path):
    other = make_experiment(tmp_path / "other", seed=1)
    zfaudio.push(other, "user/name@louder", license="mit")
    tensors = {
        name: load_file(find_checkpoint(Path(name)) / "model.safetensors")
        for name in ("hub:user/name", "hub:user/name@louder", str(made), str(other))
    }
    first, second, *local = (
        {key: tensor.numpy().tobytes() for key, tensor in each.items()} for each in tensors.values()
    )
    assert [first, second] == local
    assert first != second
    commit = hub.models["user/name"].branches["louder"]
    assert zfaudio.load(f"user/name@{commit}", device="cpu").checkpoint.step == 500


def test_weights_to_start_from_may_be_on_the_hub(pushed, made, tmp_path):
    from small_runs import run_here, small_run

    shards = read_config(made / "config.yaml").data.shards
    config = small_run(shards, train__init_from="hub:user/name", train__max_steps=1)
    config.model = load_checkpoint(made).config.model
    assert run_here(config, tmp_path / "exp").progress.step == 1


def test_a_second_push_of_the_same_changes_the_model_in_place(pushed, made, hub):
    zfaudio.push(made, "user/name", license="other")
    assert "license: other" in hub.models["user/name"].files()["README.md"].decode()


# Names


@pytest.mark.parametrize("name", ["user/name", "user/name@main", "a-b.c/d_e@refs/pr/1", "hub:user/name@v1.0"])
def test_names_of_models_are_read(name):
    model = parse_hub_name(name)
    assert str(model).removeprefix("hub:") == name.removeprefix("hub:")


@given(st.text() | st.from_regex(r"(hub:)?[\w./@-]*/[\w./@-]*", fullmatch=True))
def test_a_name_is_that_of_a_model_or_an_error_of_one_line(name):
    try:
        model = parse_hub_name(name)
    except UserError:
        return
    assert parse_hub_name(str(model)) == model
    assert ".." not in str(model)
    assert on_hub(str(model))
    assert HubModel(model.repository, model.revision) == model


def test_a_local_folder_comes_before_the_hub(hub, made, tmp_path, monkeypatch):
    hub.add("exp/name", checkpoint_files(made))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "exp/name")
    shutil.copy(find_checkpoint(made) / "checkpoint.json", "label.json")
    assert zfaudio.load("exp/name", device="cpu").checkpoint.path.is_relative_to(tmp_path / "exp")
    assert zfaudio.load("exp/name/last", device="cpu").checkpoint.path.is_relative_to(tmp_path / "exp")
    assert hub.downloaded == []
    assert "models--exp--name" in str(zfaudio.load("hub:exp/name", device="cpu").checkpoint.path)
    with pytest.raises(UserError, match="no checkpoint there"):
        zfaudio.load(Path("exp/other"))  # a Path is local
    with pytest.raises(UserError, match=r"exp/other: no such folder here; hub:exp/other: .* has no such model"):
        zfaudio.load("exp/other")


def test_last_of_an_experiment_is_no_model_of_the_hub(hub, made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    assert zfaudio.load("exp/last", device="cpu").checkpoint.step == 500


# Without a network


@pytest.mark.parametrize("how", ["offline", "gone"])
def test_a_model_that_was_loaded_before_needs_no_network(pushed, made, hub, monkeypatch, how):
    zfaudio.load("user/name", device="cpu")
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.close()
    assert zfaudio.load("user/name", device="cpu").checkpoint.step == 500
    assert zfaudio.load("hub:user/name", device="cpu").checkpoint.step == 500


def test_a_model_in_the_cache_is_not_downloaded_again(pushed, hub):
    zfaudio.load("user/name", device="cpu")
    count = len(hub.downloaded)
    zfaudio.load("user/name", device="cpu")
    assert len(hub.downloaded) == count


def test_a_model_that_is_not_in_the_cache_needs_a_network(hub, monkeypatch):
    hub.close()
    with pytest.raises(UserError) as error:
        find_checkpoint(Path("hub:user/name"))
    assert one_line(error) == (
        f"hub:user/name: not in the cache, and {hub.endpoint} cannot be reached; try again with a network"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        find_checkpoint(Path("hub:user/name"))
    assert one_line(error) == "hub:user/name: not in the cache, and HF_HUB_OFFLINE is set; unset it, to ask the hub"


def test_half_a_model_in_the_cache_is_none(pushed, hub):
    folder = find_checkpoint(Path("hub:user/name"))
    (folder / "config.yaml").unlink()
    hub.close()
    with pytest.raises(UserError) as error:
        find_checkpoint(Path("hub:user/name"))
    assert "the cache has only a part of it" in one_line(error)


# Refused


@pytest.mark.parametrize(
    ("name", "token", "said"),
    [
        (
            "user/private",
            None,
            "no such model on {hub}, or a private one; to see your own, log in with `hf auth login`",
        ),
        ("user/private", OTHER_TOKEN, "{hub} has no such model, or none that you may see"),
        ("user/gated", OTHER_TOKEN, "its owner gives access on request; ask for it on {hub}/user/gated, and log in"),
        ("user/gated", None, "its owner gives access on request; ask for it on {hub}/user/gated, and log in"),
        ("user/missing", None, "no such model on {hub}, or a private one"),
        ("user/missing", TOKEN, "{hub} has no such model, or none that you may see"),
        ("user/name@v9", TOKEN, "there is such a model on the hub, but without a revision v9"),
        ("user/name", "hf_wrong", "{hub} does not know your token; log in with `hf auth login`"),
        ("user/other", TOKEN, "not a model that zfaudio push has put there; it lacks model.safetensors, config.yaml, "),
        ("user", TOKEN, "not the name of a model on the hub, which is user/name or user/name@revision"),
        ("user/na--me", TOKEN, "Cannot have -- or .. in repo_id"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(hub, made, monkeypatch, name, token, said):
    files = checkpoint_files(made)
    hub.add("user/name", files)
    hub.add("user/private", files, private=True)
    hub.add("user/gated", files, gated=True)
    hub.add("user/other", {"README.md": b"", "pytorch_model.bin": b""})
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError) as error:
        find_checkpoint(Path(f"hub:{name}"))
    line = one_line(error)
    assert line.startswith(f"hub:{name}: ")
    assert said.format(hub=hub.endpoint) in line


def test_damaged_weights_are_one_line(hub, made):
    files = checkpoint_files(made)
    hub.add("user/name", files | {"model.safetensors": files["model.safetensors"][:-7]})
    with pytest.raises(UserError) as error:
        zfaudio.load("user/name")
    assert "model.safetensors: cannot be read as the model of its config.yaml (" in one_line(error)


@pytest.mark.parametrize("file", ["config.yaml", "manifest.json", "checkpoint.json"])
@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]"])
def test_damaged_files_are_one_line(hub, made, file, content):
    hub.add("user/name", checkpoint_files(made) | {file: content})
    with pytest.raises(UserError) as error:
        zfaudio.load("user/name")
    assert file in one_line(error)


# Only data


@pytest.mark.parametrize("setting", ["name", "likelihood", "head", "encoder"])
def test_code_that_a_model_names_is_not_imported(hub, made, tmp_path, monkeypatch, setting):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    files = checkpoint_files(made)
    config = yaml.safe_load(files["config.yaml"])
    config["model"][setting] = "trap.Model"
    hub.add("user/name", files | {"config.yaml": yaml.safe_dump(config).encode(), "trap.py": b""})
    with pytest.raises(UserError) as error:
        zfaudio.load("user/name")
    assert f"hub:user/name: its model.{setting} is 'trap.Model', code of another package" in one_line(error)
    assert "trap" not in sys.modules


def test_shards_that_a_model_names_are_not_opened(hub, made):
    files = checkpoint_files(made)
    config = yaml.safe_load(files["config.yaml"])
    config["data"]["shards"] = f"{hub.endpoint}/shards"
    hub.add("user/name", files | {"config.yaml": yaml.safe_dump(config).encode()})
    with pytest.raises(UserError) as error:
        zfaudio.evaluate("hub:user/name", device="cpu")
    assert "/shards, which were never named on this machine" in one_line(error)


def test_names_of_this_package_are_not_taken_for_import_paths():
    for names in (MODELS, ENCODERS, HEADS, LIKELIHOODS):
        assert import_paths({name: name for name in names}) == {}


def test_only_the_files_of_a_checkpoint_and_its_card_are_downloaded(hub, made):
    others = dict.fromkeys(("training.pt", "pytorch_model.bin", "modeling.py", "x/config.yaml", "README.md"), b"x")
    hub.add("user/name", checkpoint_files(made) | others)
    folder = zfaudio.load("user/name", device="cpu").checkpoint.path
    assert {path.name for path in folder.iterdir()} == {*NEEDED, "README.md"}
    assert {*hub.downloaded} == {*NEEDED, "README.md"}
