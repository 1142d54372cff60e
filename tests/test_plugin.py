"""A model in a package of its own, word for word as docs/plug-in-a-model.md has it, through every command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from speech import make_shards

from zfaudio.config import ModelConfig, RNNConfig, ZForcingConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.evaluation.quality import quality
from zfaudio.experiment.results import read_result
from zfaudio.models import FrameModel, FrameTerms
from zfaudio.models.checks import check_ablation, check_model, check_state, random_model
from zfaudio.models.registry import build_model, find_model

PAGE = Path(__file__).parents[1] / "docs/plug-in-a-model.md"
COMMANDS = """
    train --model.name my_package.GRUModel --model.hidden_size 8 --data.shards {shards} --exp exp
          --train.max_steps 4 --train.batch_size 2 --train.device cpu
    evaluate exp --json exp/results/test.json
    latents exp
    generate exp --out exp/samples --num 2 --seconds 2
    compare exp exp
    report exp --compare exp
    train --config exp/config.yaml --exp exp --resume --train.max_steps 6
"""


def written_files() -> dict[str, str]:
    """The files that the page tells its reader to write, by name."""
    return dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE.read_text(), flags=re.DOTALL))


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder that holds the package."""
    folder = tmp_path_factory.mktemp("package")
    for name, text in written_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def environment(package: Path) -> dict[str, str]:
    paths = [str(package), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}


def test_a_model_of_another_package_goes_through_every_command(package, tmp_path, monkeypatch):
    shards = make_shards(tmp_path / "shards", {"train": 4, "valid": 2, "test": 4}, frames=100, frame_size=200)
    for line in re.split(r"\n    (?=\w)", COMMANDS.strip().format(shards=shards)):
        command = [sys.executable, "-m", "zfaudio", *line.split()]
        run = subprocess.run(command, cwd=tmp_path, env=environment(package), capture_output=True, text=True)
        assert run.returncode == 0, f"{line}: {run.stderr}"
    exp = tmp_path / "exp"
    result = read_result(exp / "results/test.json")
    assert (result.model, result.bound) == ("my_package.GRUModel", "exact")
    assert "my_package.GRUModel" in (exp / "report.html").read_text()
    assert "hidden_size: 8" in (exp / "config.yaml").read_text()

    monkeypatch.setattr("zfaudio.evaluation.quality.LEAST_SECONDS", 3.0)
    monkeypatch.syspath_prepend(package)
    assert quality(exp).seconds >= 3


def test_its_own_tests_pass(package):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_my_package.py")]
    run = subprocess.run(command, env=environment(package), cwd=package, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_the_help_of_training_lists_the_settings_of_the_model_that_is_named(package):
    def options(name: str) -> str:
        command = [sys.executable, "-m", "zfaudio", "train", "--model.name", name, "--help"]
        return subprocess.run(command, env=environment(package), capture_output=True, text=True, check=True).stdout

    gru, rnn = options("my_package.GRUModel"), options("rnn")
    assert "units of the GRU" in gru
    assert "--model.embedding_size" in rnn
    assert "--model.embedding_size" not in gru
    assert "--model.latent_size" not in rnn


def test_what_a_model_lacks_is_named_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"Silent is a FrameModel that does not define config_class, step$"):

        class Silent(FrameModel):
            bound = "exact"

            def initial_state(self, batch_size):
                return ()

            def forward(self, frames, lengths, state=None, noise=None, ablation="none"):
                return FrameTerms.exact(frames.sum(-1)[:, 1:], ())


def test_a_model_that_lacks_something_is_a_users_mistake(tmp_path, monkeypatch):
    (tmp_path / "unfinished.py").write_text(
        "from zfaudio.models import FrameModel\nclass Unfinished(FrameModel):\n    bound = 'elbo'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    missing = "config_class, initial_state, forward, step, read_future"
    with pytest.raises(UserError, match=f"importing 'unfinished' failed: .*does not define {missing}"):
        find_model("unfinished.Unfinished")


CONFIG = (
    "from dataclasses import dataclass\nfrom zfaudio.config import ModelConfig\nfrom zfaudio.models import FrameModel\n"
)
METHODS = "initial_state = forward = step = lambda *_: None\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class C(ModelConfig):\n    size: int = 3\n"
            "class M(FrameModel):\n    config_class = C\n    bound = 'exact'\n    ",
            "C is not a dataclass; write @dataclass above it",
        ),
        (
            "class M(FrameModel):\n    config_class = ModelConfig\n    bound = 'exakt'\n    ",
            "M.bound is 'exakt'; it must be 'elbo' or 'exact'",
        ),
    ],
)
def test_what_is_wrong_with_a_class_is_named_when_it_is_made(tmp_path, monkeypatch, text, message):
    (tmp_path / f"wrong_{len(text)}.py").write_text(CONFIG + text + METHODS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as raised:
        find_model(f"wrong_{len(text)}.M")
    assert message in str(raised.value)


def test_a_model_that_does_not_say_what_its_draws_need_is_not_built(tmp_path, monkeypatch):
    (tmp_path / "drawless.py").write_text(
        CONFIG + "class M(FrameModel):\n    config_class = ModelConfig\n    bound = 'exact'\n    " + METHODS
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'drawless\.M', whose __init__ does not set frame_noise_size"):
        build_model(ModelConfig("drawless.M"), 20, Quantizer(0.0, 1.0))


def test_the_check_of_a_model_refuses_the_settings_of_another():
    with pytest.raises(AssertionError, match="rnn has settings of RNNConfig, not ZForcingConfig"):
        check_model(ZForcingConfig(name="rnn"))


def test_the_check_of_a_model_finds_a_forward_that_ignores_its_state():
    model = random_model(RNNConfig(hidden_size=5, embedding_size=4))
    forward = model.forward
    model.forward = lambda frames, lengths, state=None, noise=None, ablation="none": forward(
        frames, lengths, None, noise
    )
    with pytest.raises(AssertionError, match="a sequence in pieces scores differently"):
        check_state(model)
    with pytest.raises(AssertionError, match="ablation 'state' leaves the densities as they are"):
        check_ablation(model)
