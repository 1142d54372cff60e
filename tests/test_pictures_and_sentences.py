"""What models of pixels and of words generate: pictures and sentences."""

import io
import json

import numpy as np
import pytest
import torch
from experiment import make_experiment
from frame_sources import WORDS, bit_shards, sentence_shards
from PIL import Image
from small_runs import run_here, small_run
from speech import speech

import zfaudio
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import load_checkpoint
from zfaudio.generation.generate import generate
from zfaudio.generation.interpolate import interpolate, name_of
from zfaudio.generation.latent_paths import decode, mix, read_latents, stretch
from zfaudio.generation.pictures import BORDER, GIVEN, SCALE, grid

PIXELS = {"model__likelihood": "bernoulli", "data__score_first_frame": True}
TOKENS = {"model__likelihood": "categorical", "model__encoder": "lookup", "data__score_first_frame": True}
SHORT = {"train__max_steps": 3, "train__validate_every": 3, "train__save_every": 3, "train__batch_size": 4}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    run_here(small_run(bit_shards(folder / "shards"), "zforcing", **PIXELS, **SHORT), folder / "exp")
    return folder / "exp"


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    run_here(small_run(sentence_shards(folder / "shards"), "zforcing", **TOKENS, **SHORT), folder / "exp")
    return folder / "exp"


@pytest.fixture(scope="module")
def without_latents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    run_here(small_run(bit_shards(folder / "shards"), "rnn", **PIXELS, **SHORT), folder / "exp")
    return folder / "exp"


def pixels(path):
    return np.asarray(Image.open(path))


def lines(path):
    return path.read_text().splitlines()


def shards_of(exp):
    return exp.parent / "shards"


def test_samples_of_pixels_are_pictures(pictures, tmp_path):
    generate(pictures, out=tmp_path, num=5, seed=1)
    drawn = np.load(tmp_path / "samples.npy")
    assert drawn.shape == (5, 6, 4)
    assert set(np.unique(drawn)) == {0, 1}
    assert len({picture.tobytes() for picture in drawn}) > 1
    (listed,) = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert (listed["file"], listed["kind"], listed["seed"]) == ("samples.png", "sample", 1)
    board = pixels(tmp_path / "samples.png")[1::SCALE, 1::SCALE]
    assert np.array_equal(board[1:7, 1:5], drawn[0] * 255)


def test_a_picture_does_not_depend_on_how_many_are_drawn(pictures, tmp_path):
    for num in (2, 5):
        generate(pictures, out=tmp_path / str(num), num=num)
    few, many = (np.load(tmp_path / str(num) / "samples.npy") for num in (2, 5))
    assert np.array_equal(few, many[:2])


def test_the_first_half_of_given_pictures_is_kept(pictures, tmp_path):
    generate(pictures, out=tmp_path, num=3, prompt="test")
    drawn = np.load(tmp_path / "continuations.npy")
    real = [one.frames for one, _ in zip(read_utterances(shards_of(pictures), "test"), range(3), strict=False)]
    assert np.array_equal(drawn[:, :3], np.stack(real)[:, :3])
    shown = pixels(tmp_path / "continuations.png")[1::SCALE, 1::SCALE]
    assert np.array_equal(shown[1:7, 1:5], real[0] * 255)  # the real one first
    assert np.array_equal(shown[1:4, 6:10], real[0][:3] * GIVEN)


def test_a_picture_file_is_continued(pictures, tmp_path):
    real = np.tile([[255, 0, 255, 0]], (6, 1)).astype(np.uint8)
    Image.fromarray(real).save(tmp_path / "real.png")
    generate(pictures, out=tmp_path / "out", num=4, prompt=tmp_path / "real.png")
    drawn = np.load(tmp_path / "out/continuations.npy")
    assert drawn.shape == (4, 6, 4)
    assert (drawn[:, :3] == real[:3] // 255).all()
    assert len({picture.tobytes() for picture in drawn}) > 1


def test_pictures_are_reconstructed(pictures, tmp_path):
    generate(pictures, out=tmp_path, num=2, reconstruct="test")
    assert np.load(tmp_path / "reconstructions.npy").shape == (2, 6, 4)


def test_samples_of_words_are_sentences(sentences, tmp_path, capsys):
    generate(sentences, out=tmp_path, num=6, words=9)
    written = lines(tmp_path / "samples.txt")
    assert len(written) == 6
    for sentence in written:
        words = sentence.split()
        assert len(words) <= 9
        assert set(words) <= set(WORDS) - {"</s>"}
    assert written[0] in capsys.readouterr().out


def test_a_sentence_goes_on_from_its_first_words(sentences, tmp_path, capsys):
    generate(sentences, out=tmp_path, num=3, prompt="A good novel")
    assert all(sentence.startswith("a good <unk>") for sentence in lines(tmp_path / "continuations.txt"))
    assert "read as <unk>: novel" in capsys.readouterr().err


def test_a_reconstruction_stands_after_its_sentence(sentences, tmp_path):
    generate(sentences, out=tmp_path, num=2, reconstruct="a good film")
    assert all(line.startswith("a good film\t") for line in lines(tmp_path / "reconstructions.txt"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seconds": 1.0}, "--seconds is for speech"),
        ({"prompt": "no-such.png"}, "no-such.png: no such picture"),
        ({"prompt": "test:999"}, "split test has no number 999; it has 60"),
    ],
)
def test_what_does_not_fit_pictures_is_refused(pictures, tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        generate(pictures, out=tmp_path, **option)


def test_a_picture_of_another_size_is_refused(pictures, tmp_path):
    Image.new("L", (5, 6)).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match=r"wide\.png: 6 x 5 pixels; the model knows pictures of 6 x 4"):
        generate(pictures, out=tmp_path, prompt=tmp_path / "wide.png")


def test_a_file_that_is_no_picture_is_refused(pictures, tmp_path):
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match=r"text\.png: not a picture"):
        generate(pictures, out=tmp_path, prompt=tmp_path / "text.png")


def test_a_grid_has_a_border_around_each_picture():
    board = grid([np.full((2, 3), 255, np.uint8)] * 3, 2)[::SCALE, ::SCALE]
    assert board.shape == (7, 9)
    assert (board[1:3, 1:4] == 255).all()
    assert (board[0] == BORDER).all()
    assert (board[4:6, 5:8] == BORDER).all()  # there is no fourth


# Interpolation


def test_mixed_paths_begin_with_one_and_end_with_the_other():
    first, last = torch.randn(5, 3), torch.randn(5, 3)
    paths = mix(first, last, 4)
    assert paths.shape == (4, 5, 3)
    assert torch.allclose(paths[0], first)
    assert torch.allclose(paths[-1], last)
    assert torch.allclose(paths[1], first + (last - first) / 3)


def test_a_stretched_path_keeps_its_ends():
    path = torch.randn(4, 2)
    longer = stretch(path, 7)
    assert torch.allclose(longer[[0, 2, 4, 6]], path)
    assert torch.allclose(longer[1], (path[0] + path[1]) / 2)


@pytest.mark.parametrize("model", ["zforcing", "vrnn", "srnn"])
def test_a_step_with_given_latents_is_the_step_that_draws_them(tmp_path, model):
    run_here(small_run(bit_shards(tmp_path / "shards"), model, **PIXELS, **SHORT), tmp_path / "exp")
    trained = load_checkpoint(tmp_path / "exp").model
    frame, state = torch.ones(1, trained.frame_size), trained.initial_state(1)
    with torch.no_grad():
        drawn, after = trained.step(frame, state, noise=torch.zeros(1, trained.latent_size))
        latents = trained.prior(state[0]).mean if model == "zforcing" else after[2]
        given, _ = trained.step(frame, state, latents=latents)
        other, _ = trained.step(frame, state, latents=latents + 3)
    assert torch.equal(given.log_prob(frame), drawn.log_prob(frame))
    assert not torch.equal(other.log_prob(frame), drawn.log_prob(frame))


def test_decoding_the_latents_of_a_sequence_ends_with_as_many_frames(pictures):
    trained = load_checkpoint(pictures)
    values = next(read_utterances(shards_of(pictures), "test")).frames.ravel()
    path = read_latents(trained.model, trained.manifest, values)
    assert path.shape == (6, trained.model.latent_size)
    frames = list(decode(trained.model, path.expand(3, -1, -1), 0.0, seed=0))
    assert len(frames) == 6
    assert frames[0].shape == (3, 4)
    assert (frames[0] == frames[0][:1]).all()  # equal latents, equal pictures


def test_pictures_are_interpolated_side_by_side(pictures, tmp_path):
    (sample,) = interpolate(pictures, out=tmp_path, first="test:0", last="test:1", steps=5)
    assert sample.kind == "interpolation"
    assert sample.source == "test:0 to test:1"
    assert pixels(tmp_path / sample.file).shape == (SCALE * 8, SCALE * (5 * 5 + 1))


def test_sentences_are_interpolated_line_by_line(sentences, tmp_path):
    interpolate(sentences, out=tmp_path, first="a good film", last="film", steps=4)
    assert len(lines(tmp_path / "interpolations.txt")) == 4


def test_samples_of_the_model_are_interpolated_by_default(pictures, tmp_path):
    (sample,) = interpolate(pictures, out=tmp_path, steps=3)
    assert sample.source == "a sample to a sample"


def test_a_model_without_latents_cannot_interpolate(without_latents, tmp_path):
    with pytest.raises(UserError, match="rnn has no latents"):
        interpolate(without_latents, out=tmp_path)


def test_an_interpolation_names_its_ends():
    assert [name_of(end) for end in (None, "test:3", (np.zeros(9, np.int16), 16000))] == [
        *("a sample", "test:3", "a waveform")
    ]


# In Python


@pytest.fixture(scope="module")
def painter(pictures):
    return zfaudio.load(pictures, device="cpu")


@pytest.fixture(scope="module")
def writer(sentences):
    return zfaudio.load(sentences, device="cpu")


def real_picture(exp):
    return next(read_utterances(shards_of(exp), "test")).frames


def test_pictures_are_arrays_and_those_of_the_command(pictures, painter, tmp_path):
    drawn = painter.sample(num=3, seed=1)
    assert isinstance(drawn, np.ndarray)
    assert (drawn.shape, drawn.dtype) == ((3, 6, 4), np.uint8)
    generate(pictures, out=tmp_path, num=3, seed=1)
    assert np.array_equal(drawn, np.load(tmp_path / "samples.npy"))


def test_a_notebook_shows_pictures(painter, tmp_path):
    drawn = painter.sample(num=3)
    shown = np.asarray(Image.open(io.BytesIO(drawn._repr_png_())))
    assert np.array_equal(shown[1::SCALE, 1::SCALE][1:7, 1:5], drawn[0] * 255)
    assert [part._repr_png_() for part in (drawn[0], drawn[:0], drawn / 2)] == [None] * 3
    drawn.save(tmp_path / "drawn.png")
    assert np.array_equal(pixels(tmp_path / "drawn.png"), shown)


def test_a_picture_is_an_array_a_file_or_one_of_a_split(pictures, painter, tmp_path):
    real = real_picture(pictures)
    Image.fromarray((real * 255).astype(np.uint8)).save(tmp_path / "real.png")
    given = (real, real.astype(bool), real.tolist(), tmp_path / "real.png", "test:0")
    assert len({painter.score(one).nats for one in given}) == 1
    for method in (painter.continue_from, painter.reconstruct):
        first, *rest = (method(one, num=2, seed=3) for one in given[:4])
        assert first.shape == (2, 6, 4)
        assert all(np.array_equal(one, first) for one in rest)
    assert np.array_equal(painter.continue_from("test", num=3)[0, :3], real[:3])


def test_the_score_of_a_picture_is_that_of_evaluate(pictures, painter):
    result = zfaudio.evaluate(pictures, device="cpu")
    scores = [painter.score(f"test:{index}").nats for index in range(result.utterances)]
    assert np.mean(scores) == pytest.approx(result.nats_per_utterance, abs=0.05)  # other draws
    assert painter.score("test:0").bits_per_sample is None


def test_sentences_are_text(sentences, writer, tmp_path):
    written = writer.sample(num=4, seed=2, words=9)
    generate(sentences, out=tmp_path, num=4, seed=2, words=9)
    assert written == lines(tmp_path / "samples.txt")
    assert all(text.startswith("a good") for text in writer.continue_from("a good", num=3))
    assert len(writer.reconstruct("a good film", num=2)) == 2
    score = writer.score("a good film")
    assert score.frame_nats.shape == (4,)  # with the end
    assert score.nats == pytest.approx(4 * score.nats_per_frame)


def test_interpolations_go_from_one_to_another(painter, writer):
    between = painter.interpolate("test:0", "test:1", steps=5)
    assert between.shape == (5, 6, 4)
    assert np.array_equal(painter.interpolate(steps=3), painter.interpolate(steps=3))
    assert len(writer.interpolate("a good film", "film", steps=4)) == 4


def test_speech_is_interpolated_too(tmp_path):
    model = zfaudio.load(make_experiment(tmp_path), device="cpu")
    between = model.interpolate((speech(800), 16000), (speech(1200), 16000), steps=3)
    assert between.waveforms.shape == (3, 1200)
    assert np.array_equal(model.interpolate("test:0", "test:1", steps=2).waveforms.shape, (2, 1200))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.sample(seconds=1.0), "seconds is for speech"),
        (lambda model: model.score(np.zeros((6, 5))), r"shape \[6, 5\]; the model knows pictures of \[6, 4\]"),
        (lambda model: model.score(np.full((6, 4), 255)), "other values than 0 and 1"),
        (lambda model: model.score((np.zeros(99), 16000)), "the model is of binary frames; give a picture"),
        (lambda model: model.sample_rate, "hold binary frames"),
        (lambda model: model.interpolate(steps=1), "steps 1: must be 2 or more"),
    ],
)
def test_what_a_model_of_pictures_cannot_do_is_said(painter, call, message):
    with pytest.raises(UserError, match=message):
        call(painter)


def test_a_beginning_as_long_as_a_sentence_may_be_is_refused(sentences, tmp_path):
    with pytest.raises(UserError, match="3 words are given, and a sentence may have 3; give more --words"):
        generate(sentences, out=tmp_path, prompt="a good film", words=3)


@pytest.mark.parametrize("option", ["prompt", "reconstruct"])
def test_a_sentence_without_words_is_refused(sentences, tmp_path, option):
    with pytest.raises(UserError, match="a sentence without words is given"):
        generate(sentences, out=tmp_path, **{option: "  "})
