import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfaudio.config import DataConfig, RunConfig, TrainConfig, ZForcingConfig
from zfaudio.errors import UserError
from zfaudio.experiment.config_file import read_config, write_config


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
