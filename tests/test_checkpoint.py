import pickle
from pathlib import Path

import pytest
import torch
from experiment import make_experiment

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint, load_training_state, save_checkpoint


def test_a_checkpoint_is_found_through_its_experiment_and_by_itself(tmp_path):
    exp = make_experiment(tmp_path)
    for path in (exp, exp / "best", exp / "checkpoints" / "step-00000500"):
        checkpoint = load_checkpoint(path)
        assert checkpoint.step == 500
        assert not checkpoint.model.training
    with pytest.raises(UserError, match="no checkpoint there"):
        find_checkpoint(tmp_path)


def test_a_save_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    exp = make_experiment(tmp_path)
    trained = load_checkpoint(exp)
    save_checkpoint(exp, 600, trained.model.state_dict(), trained.config, trained.manifest, {"step": 600})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space"):
        save_checkpoint(exp, 700, trained.model.state_dict(), trained.config, trained.manifest, {"step": 700})
    monkeypatch.undo()
    assert find_checkpoint(exp / "last").name == "step-00000600"
    assert load_training_state(find_checkpoint(exp / "last")) == {"step": 600}


def test_weights_of_another_model_are_named_as_such(tmp_path):
    exp = make_experiment(tmp_path)
    config = find_checkpoint(exp / "best") / "config.yaml"
    config.write_text(config.read_text().replace("hidden_size: 8", "hidden_size: 9"))
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read as the model"):
        load_checkpoint(exp)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"junk", r"model\.safetensors"),
        ("config.yaml", b"model: [1, 2", r"config\.yaml"),
        ("config.yaml", b"model: {color: red}", r"config\.yaml"),
        ("manifest.json", b"{}", r"manifest\.json"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, message):
    exp = make_experiment(tmp_path)
    (find_checkpoint(exp / "best") / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_checkpoint(exp)


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_code_hidden_in_a_training_state_is_not_run(tmp_path):
    exp = make_experiment(tmp_path)
    trap = tmp_path / "trapped"
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({"step": Touch(trap)}, find_checkpoint(exp) / "training.pt")
        with pytest.raises(UserError, match="cannot be resumed from"):
            load_training_state(find_checkpoint(exp))
    assert not trap.exists()
