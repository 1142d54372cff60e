import dataclasses
import functools
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zfaudio.command import run_command
from zfaudio.config import (
    DataConfig,
    FolderConfig,
    ModelConfig,
    ObjectiveConfig,
    RNNConfig,
    RunConfig,
    TrainConfig,
    ZForcingConfig,
)
from zfaudio.errors import UserError
from zfaudio.experiment.config_file import read_config, read_settings, write_config
from zfaudio.models import MODELS, find_model
from zfaudio.settings import setting
from zfaudio.training.options import with_model_settings
from zfaudio.training.train import train


@given(
    st.builds(
        RunConfig,
        model=st.builds(ZForcingConfig, hidden_size=st.integers(1, 4096), min_deviation=st.floats(0, 1)),
        data=st.builds(DataConfig, shards=st.text(max_size=20), dequantize=st.booleans()),
        train=st.builds(TrainConfig, learning_rate=st.floats(1e-12, 1), seed=st.integers(0, 2**40)),
    )
)
def test_a_configuration_reads_back_as_it_was_written(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    write_config(config, path)
    assert read_config(path) == config


def test_a_missing_or_foreign_configuration_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(UserError, match="no such file"):
        read_config(path)
    path.write_text("just a word")
    with pytest.raises(UserError, match=r"config\.yaml: not a configuration"):
        read_config(path)


@pytest.mark.parametrize("name", ["max_steps", "batch_size", "segment_frames", "log_every"])
def test_sizes_must_be_positive(name):
    with pytest.raises(UserError, match=rf"train\.{name} is 0"):
        dataclasses.replace(TrainConfig(), **{name: 0})


SECTIONS = {
    "folder": FolderConfig,
    "data": DataConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    **{f"model {name}": find_model(name).config_class for name in MODELS},
}
NUMBERS = [
    (section, entry.name, entry.type)
    for section, kind in SECTIONS.items()
    for entry in dataclasses.fields(kind)
    if entry.type in (int, float)
]


@pytest.mark.parametrize(("section", "name", "kind"), NUMBERS)
def test_every_number_has_a_range_that_is_checked(section, name, kind):
    wrong = [-1, -1e-9, float("nan"), float("-inf"), True, "3", None] if kind is float else [-1, 1.5, True, "3", 2**63]
    for value in wrong:
        with pytest.raises(UserError) as raised:
            SECTIONS[section](**{name: value})
        assert str(raised.value).startswith(f"{section.split()[0]}.{name} is {value!r}; it must be ")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (TrainConfig, {"learning_rate": 0.0}, "train.learning_rate is 0.0; it must be above 0"),
        (TrainConfig, {"learning_rate": float("inf")}, "train.learning_rate is inf; it must be finite"),
        (TrainConfig, {"device": "gpu"}, "train.device is 'gpu'; it must be one of auto, cpu, cuda"),
        (TrainConfig, {"cuda_graph": 1}, "train.cuda_graph is 1; it must be true or false"),
        (TrainConfig, {"decay_steps": 9, "learning_rate": 1e-5}, "train.min_learning_rate is 0.0001; with train.decay"),
        (RNNConfig, {"likelihood": 3}, "model.likelihood is 3; it must be a text"),
        (FolderConfig, {"valid_fraction": 1.5}, "folder.valid_fraction is 1.5; it must be at most 1"),
        (FolderConfig, {"max_seconds": 0.02}, "folder.max_seconds is 0.02; it must be above 0.025"),
    ],
)
def test_what_is_wrong_with_a_setting_is_said(kind, settings, message):
    with pytest.raises(UserError) as raised:
        kind(**settings)
    assert message in str(raised.value)


def test_a_gradient_need_not_be_clipped():
    assert TrainConfig(clip_norm=float("inf")).clip_norm == float("inf")


def test_a_setting_out_of_range_in_a_file_is_named_with_the_file(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(RunConfig(), path)
    path.write_text(path.read_text().replace("patience: 2", "patience: -2"))
    with pytest.raises(UserError, match=r"config\.yaml: train\.patience is -2; it must be at least 0"):
        read_config(path)


def test_the_settings_of_a_model_of_another_package_are_checked_too():
    @dataclasses.dataclass
    class OwnConfig(ModelConfig):
        width: int = setting(3, least=2)

    assert OwnConfig(width=2).width == 2
    with pytest.raises(UserError, match=r"model\.width is 1; it must be at least 2"):
        OwnConfig(width=1)


def of_version_1(model: dict[str, object]) -> str:
    """The text of a configuration as it was before models had settings of their own."""
    settings = {**dataclasses.asdict(ZForcingConfig()), "smoothing": True, "residual_posterior": True, **model}
    sections = {name: dataclasses.asdict(part) for name, part in vars(RunConfig()).items()}
    return yaml.safe_dump({**sections, "model": settings})


def test_a_configuration_of_version_1_is_read_without_the_settings_that_its_model_does_not_have(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(of_version_1({"name": "rnn", "hidden_size": 7, "head": "factorised"}))
    assert read_config(path) == RunConfig(model=RNNConfig(hidden_size=7))


def test_a_configuration_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(RunConfig(), path)
    path.write_text(path.read_text().replace("format_version: 2", "format_version: 3"))
    with pytest.raises(UserError, match="format_version 3 is of a newer zfaudio"):
        read_config(path)


def test_settings_lie_on_top_of_their_base_and_of_its_base(tmp_path):
    (tmp_path / "first.yaml").write_text("model: {name: vrnn, hidden_size: 5}\ntrain: {max_steps: 7, seed: 1}")
    (tmp_path / "second.yaml").write_text("base: first.yaml\ntrain: {seed: 2}")
    (tmp_path / "third.yaml").write_text("base: second.yaml\ndata: {dequantize: false}")
    assert read_settings(tmp_path / "third.yaml") == {
        "model": {"name": "vrnn", "hidden_size": 5},
        "train": {"max_steps": 7, "seed": 2},
        "data": {"dequantize": False},
    }


def test_a_base_in_a_circle_or_missing_is_a_users_mistake(tmp_path):
    (tmp_path / "first.yaml").write_text("base: second.yaml")
    (tmp_path / "second.yaml").write_text("base: first.yaml")
    with pytest.raises(UserError, match=r"second\.yaml: its base leads back to itself"):
        read_settings(tmp_path / "first.yaml")
    (tmp_path / "third.yaml").write_text("base: nothing.yaml")
    with pytest.raises(UserError, match=r"nothing\.yaml: no such file"):
        read_settings(tmp_path / "third.yaml")


def test_another_model_on_top_drops_what_it_does_not_have(tmp_path):
    (tmp_path / "default.yaml").write_text("model: {hidden_size: 5, latent_size: 3, auxiliary: none}")
    (tmp_path / "row.yaml").write_text("base: default.yaml\nmodel: {name: rnn}")
    assert read_settings(tmp_path / "row.yaml") == {"model": {"name": "rnn", "hidden_size": 5}}


def test_a_setting_that_the_model_does_not_have_is_named(tmp_path):
    path = tmp_path / "row.yaml"
    path.write_text("model: {name: rnn, latent_size: 999}")
    with pytest.raises(UserError, match=r"row\.yaml: model rnn has no setting latent_size; it has .*hidden_size"):
        read_settings(path)


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 10000 values"),
        (MERGE_BOMB, "more than 10000 values"),
        ("train: &t [*t]", "more than 10000 values"),
        ("[" * 100_000, "recursion"),
        ("train: {seed: 2001-01-01}", "a value of type timestamp"),
        ("train: !!python/name:os.system {}", "a value of type python/name:os.system"),
        ("train: {seed: !!int x}", "not YAML"),
        ("train: {seed: " + "9" * 5000 + "}", "not YAML"),
        ("train: 1\n---\ntrain: 2", "not YAML"),
        ("? [1]\n: 2", "not YAML"),
        ("3: {a: 1}", "not a configuration"),
        ("x: {}", "no section x"),
        ("format_version: [1]", "format_version is '[1]', not a version"),
        ("format_version: 0", "format_version is '0', not a version"),
        ("base: [1]", "base is '[1]', not the path of a file"),
        ("model: {name: [1]}", "model.name is '[1]'; it must be a text"),
        ("#" * 1_000_001, "larger than 1000000 bytes"),
    ],
)
def test_hostile_yaml_is_refused_at_once(tmp_path, text, message):
    (tmp_path / "row.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        read_settings(tmp_path / "row.yaml")
    assert str(raised.value).startswith(f"{tmp_path / 'row.yaml'}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pipe_or_folder_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UserError, match=rf"{name}\.yaml: not a file"):
            read_settings(tmp_path / f"{name}.yaml")


def test_the_configuration_of_a_checkpoint_opens_no_other_file(tmp_path):
    write_config(RunConfig(), tmp_path / "other.yaml")
    (tmp_path / "config.yaml").write_text("base: other.yaml")
    assert read_settings(tmp_path / "config.yaml")["train"]["seed"] == 0
    with pytest.raises(UserError, match=r"config\.yaml: not a configuration that a run wrote: it has a base"):
        read_config(tmp_path / "config.yaml")


def test_any_value_of_a_configuration_may_be_of_another_type(tmp_path):
    path = tmp_path / "config.yaml"
    write_config(RunConfig(), path)
    good = yaml.safe_load(path.read_text())
    others = [None, -1, 2**70, float("nan"), "text", [], {}, True, [[1]], {"name": "x"}]
    for section, settings in good.items():
        for name in settings if isinstance(settings, dict) else [None]:
            for value in others:
                changed = {**good, section: value if name is None else {**settings, name: value}}
                path.write_text(yaml.safe_dump(changed))
                try:
                    read_config(path)
                except UserError as error:
                    message = str(error)
                else:
                    message = f"{path}: "
                assert message.startswith(f"{path}: ")
                assert "\n" not in message


# The command line of training


def options_of(*arguments: str) -> ModelConfig:
    """The model's settings that a command line of training gives."""
    models = []

    @functools.wraps(train)
    def catch(data, model, objective, train, **others):
        models.append(model)

    command, words = with_model_settings(catch, list(arguments))
    run_command(command, words, prog="zfaudio train")
    return models[0]


def test_options_win_over_files_and_later_files_over_earlier_ones(tmp_path):
    (tmp_path / "first.yaml").write_text("model: {hidden_size: 5, latent_size: 3}")
    (tmp_path / "second.yaml").write_text("model: {latent_size: 4}")
    files = ("--config", str(tmp_path / "first.yaml"), f"--config={tmp_path / 'second.yaml'}")
    assert options_of("--model.hidden_size", "6", *files) == ZForcingConfig(hidden_size=6, latent_size=4)


def test_a_model_on_the_command_line_keeps_those_settings_of_a_file_that_it_has(tmp_path):
    (tmp_path / "file.yaml").write_text("model: {hidden_size: 5, latent_size: 3}")
    assert options_of("--config", str(tmp_path / "file.yaml"), "--model.name=rnn") == RNNConfig(hidden_size=5)


def test_a_file_may_say_that_the_gradient_is_not_clipped(tmp_path):
    (tmp_path / "file.yaml").write_text("train: {clip_norm: .inf}")
    settings = []

    @functools.wraps(train)
    def catch(data, model, objective, train, **others):
        settings.append(train)

    command, words = with_model_settings(catch, ["--config", str(tmp_path / "file.yaml")])
    run_command(command, words, prog="zfaudio train")
    assert settings[0].clip_norm == float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model.name", "rnn", "--model.latent_size", "999"), "--model.latent_size: model rnn has no setting"),
        (("--model.hiden_size=3",), "--model.hiden_size: model zforcing has no setting hiden_size; it has auxiliary"),
        (("--model.name", "lstm"), f"model.name is 'lstm'; choose {', '.join(MODELS)}, or give an imp"),
        (("--model.name", "no_such_package.Model"), "Python finds no module 'no_such_package'"),
        (("--model.name", "zfaudio.models.rnn.GRU"), "module 'zfaudio.models.rnn' has no 'GRU'"),
        (("--model.name", "pathlib.Path"), "'pathlib.Path', which is not a subclass of zfaudio.models.base.FrameModel"),
        (("--config", "nothing.yaml"), "nothing.yaml: no such file"),
        (("--config",), "--config needs a value"),
    ],
)
def test_a_mistake_in_the_options_of_training_is_one_line(arguments, message):
    with pytest.raises(UserError) as raised:
        with_model_settings(train, list(arguments))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {max_steps: 3}", "row.yaml: there is no section trian; sections are model, objective, data, train"),
        ("train: {max_stps: 3}", "row.yaml: train has no setting max_stps; it has adam_eps, batch_size"),
        ("train: 3", "row.yaml: not a configuration"),
        ("- train", "row.yaml: not a configuration"),
    ],
)
def test_what_a_file_holds_beside_settings_is_named(tmp_path, text, message):
    (tmp_path / "row.yaml").write_text(text)
    with pytest.raises(UserError) as raised:
        read_settings(tmp_path / "row.yaml")
    assert message in str(raised.value)
