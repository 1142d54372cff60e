import io
import re
import xml.etree.ElementTree as ElementTree

import librosa
import matplotlib.image
import numpy as np
import pytest
from speech import speech

from zfaudio.figures import (
    Curve,
    Estimate,
    draw_curves,
    draw_intervals,
    draw_scored_speech,
    draw_speech,
    envelope,
    spectrogram,
    value_limits,
)


@pytest.mark.parametrize("samples", [1, 5, 300, 16000])
def test_speech_of_any_length_can_be_drawn(samples):
    file = io.BytesIO()
    draw_speech(speech(samples), 16000, deviation=900.0, mark=0.01).savefig(file)
    file.seek(0)
    assert matplotlib.image.imread(file).shape == (384, 768, 4)


def test_a_waveform_stuck_beyond_the_picture_lies_at_its_edge():
    figure = draw_speech(np.full(400, 32767, np.int16), 16000, deviation=900.0)
    (filled,) = figure.axes[0].collections
    heights = filled.get_paths()[0].vertices[:, 1]
    assert set(heights) == {figure.axes[0].get_ylim()[1]}


@pytest.mark.parametrize("nats", [[], [3.0], [1.0, float("nan"), -1e9, 2.0, 1.5]])
def test_log_likelihoods_stand_at_their_frames_below_the_speech(nats):
    figure = draw_scored_speech(speech(120), 16000, 900.0, np.array(nats), frame_size=20, mark=0.001)
    figure.savefig(io.BytesIO())
    (curve, _) = figure.axes[2].get_lines()
    assert curve.get_xdata() == pytest.approx((np.arange(6 - len(nats), 6) + 0.5) * 20 / 16000)


def test_white_noise_of_the_corpus_deviation_stands_at_0_db():
    power = 10 ** (spectrogram(np.random.default_rng(0).standard_normal(32000), 16000) / 10)
    assert power[5:-5, 5:-5].mean() == pytest.approx(1, rel=0.05)


def test_a_tone_stands_at_its_frequency():
    tone = np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000)
    decibels = spectrogram(tone, 16000)
    assert decibels[:, 100].argmax() == round(2000 / 8000 * (len(decibels) - 1))


@pytest.mark.parametrize("samples", [1, 400, 511, 16000])
def test_a_spectrogram_is_the_short_time_fourier_transform(samples):
    waveform = speech(samples).astype(np.float32)
    padded = np.pad(waveform / 900, (0, max(0, 512 - samples)))
    power = np.abs(librosa.stft(padded, n_fft=512, win_length=400, hop_length=80)) ** 2
    window = librosa.filters.get_window("hann", 400)
    expected = 10 * np.log10(power / np.square(window).sum() + 1e-10)[:, : 1 + samples // 80]
    np.testing.assert_allclose(spectrogram(waveform, 16000, deviation=900), expected, atol=0.01)


def test_an_hour_is_drawn_in_no_more_columns_than_a_minute():
    assert spectrogram(np.zeros(100 * 16000), 16000).shape[1] <= 2002
    low, high = envelope(np.arange(10000.0))
    assert len(low) == len(high) == 2000
    assert (low[0], high[-1]) == (0, 9999)


def test_curves_are_an_svg_element_in_the_color_of_the_page():
    svg = draw_curves("nats per frame", [Curve("train", [1, 2, 3], [0.1, 0.2, 0.3]), Curve("valid", [2], [0.5])])
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "currentColor" in svg
    assert "train" in svg
    assert "valid" in svg


def test_curves_without_values_are_drawn_as_an_empty_plot():
    assert ElementTree.fromstring(draw_curves("rate", [Curve("train", [], [])], log=True)) is not None


def test_a_few_terrible_values_do_not_flatten_the_axis():
    values = np.concatenate([[-4000.0], np.linspace(0, 300, 99)])
    low, high = value_limits(values)
    assert -100 < low < 20
    assert 300 < high < 350


def test_all_values_are_shown_where_they_are_alike():
    low, high = value_limits(np.linspace(-10, 10, 50))
    assert low < -10 < 10 < high
    low, high = value_limits(np.ones(3))
    assert low < 1 < high


def test_a_formula_in_a_name_is_drawn_as_it_is_spelled():
    svg = draw_intervals(
        "A $\\frac{1$ title", [Estimate("$x$ \x1b[31m", 1.0, (0.5, 1.5)), Estimate("alone", 2.0, None)], 0.0, "$y$"
    )
    for text in ("$x$ \\x1b[31m", "alone", "$y$"):
        assert f">{text}</text>" in svg
    assert 'aria-label="A $\\frac{1$ title"' in svg
    assert ElementTree.fromstring(svg) is not None


def test_minor_ticks_of_a_logarithmic_axis_are_as_large_as_major_ones():
    """Less than a decade has labels at minor ticks."""
    svg = draw_curves("norm", [Curve("train", [1, 2, 3], [20.0, 30.0, 45.0])], log=True)
    sizes = set(re.findall(r"font-size: *([\d.]+)px|font: ([\d.]+)px", svg))
    assert {size for pair in sizes for size in pair if size} <= {"8", "5.6"}  # 5.6: exponents
