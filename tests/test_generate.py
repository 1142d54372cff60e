import json

import numpy as np
import pytest
import soundfile
import torch
from experiment import FRAME_SIZE, RATE, make_experiment
from speech import speech

from zfaudio.corpus.audio import read_audio
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import load_checkpoint
from zfaudio.generation.batch_sizes import BATCH_SIZES, REFERENCE_SIZE, plan_batches
from zfaudio.generation.generate import generate
from zfaudio.generation.recordings import read_recording
from zfaudio.generation.samples import read_sample_list
from zfaudio.generation.sampling import Temperatures, join_blocks, sample_speech, to_blocks, trial_of


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("model"))


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "recording.wav"
    soundfile.write(path, speech(1234, seed=5), RATE)
    return path


def wav(path):
    samples, rate = read_audio(path)
    assert rate == RATE
    assert samples.shape[1] == 1
    return samples[:, 0]


def waveforms(exp, **options):
    trained = load_checkpoint(exp)
    settings = {"samples": 400, "temperatures": Temperatures(), "seed": 0, "count": 4} | options
    return list(sample_speech(trained.model, trained.manifest, **settings))


def test_writes_wavs_pictures_and_their_description(exp, tmp_path, capsys):
    generate(exp, out=tmp_path / "out", num=2, seconds=0.05, seed=3)
    listed = json.loads((tmp_path / "out/samples.json").read_text())["samples"]
    assert [sample["file"] for sample in listed] == ["sample-000.wav", "sample-001.wav"]
    for sample in listed:
        waveform = wav(tmp_path / "out" / sample["file"])
        assert len(waveform) == 0.05 * RATE
        assert sample["peak"] == np.abs(waveform.astype(int)).max() > 0
        assert sample["seed"] == 3
        assert sample["checkpoint_step"] == 500
        assert (tmp_path / "out" / sample["file"]).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "s of computing per second of speech" in capsys.readouterr().out


def test_a_seed_gives_the_same_samples_and_another_seed_others(exp):
    assert np.array_equal(waveforms(exp, seed=1)[0].waveform, waveforms(exp, seed=1)[0].waveform)
    assert not np.array_equal(waveforms(exp, seed=1)[0].waveform, waveforms(exp, seed=2)[0].waveform)


def test_torchs_random_state_plays_no_part(exp):
    torch.manual_seed(0)
    one = waveforms(exp)[0].waveform
    torch.manual_seed(1)
    assert np.array_equal(one, waveforms(exp)[0].waveform)


def test_a_sample_depends_on_its_number_but_not_on_how_many_are_made(exp, tmp_path):
    generate(exp, out=tmp_path / "few", num=1, seconds=0.02)
    generate(exp, out=tmp_path / "many", num=3, seconds=0.02)
    many = [wav(tmp_path / f"many/sample-{index:03d}.wav").tobytes() for index in range(3)]
    assert wav(tmp_path / "few/sample-000.wav").tobytes() == many[0]
    assert len(set(many)) == len(many)


@pytest.mark.parametrize("model", ["zforcing", "rnn", "vrnn", "srnn"])
def test_products_in_bfloat16_make_nearly_the_same_speech(tmp_path, model):
    exp = make_experiment(tmp_path, model=model)
    generated = []
    for precision, num in (("fp32", 2), ("bf16", 1), ("bf16", 2)):
        out = tmp_path / f"{precision}-{num}"
        generate(exp, out=out, num=num, seconds=0.05, precision=precision)
        generated.append(wav(out / "sample-000.wav").astype(float))
    exact, alone, beside_another = generated
    assert np.array_equal(alone, beside_another)
    assert not np.array_equal(exact, alone)
    assert np.abs(exact - alone).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("prompted", [False, True])
def test_any_number_of_samples_made_together_are_the_same(exp, prompted):
    options = {"samples": 2000, "prompt": speech(300, seed=1) if prompted else None}
    most = waveforms(exp, count=BATCH_SIZES[-1] + 3, **options)
    assert len(most) == BATCH_SIZES[-1] + 3
    for count in (1, 2, 3, 5, 17, 33, BATCH_SIZES[-1]):
        some = waveforms(exp, count=count, **options)
        assert len(some) == count
        for one, same in zip(some, most, strict=False):
            assert np.array_equal(one.waveform, same.waveform)


def test_batch_sizes_that_round_differently_are_not_used(exp):
    """A step whose result depends on how many rows it has, except that 4 and 16 of them agree."""
    model = load_checkpoint(exp).model

    def step(frame, *arguments):
        distribution, state = model.step(frame, *arguments)
        distribution.mean += 0.0 if len(frame) in (4, REFERENCE_SIZE) else 1e-6 * len(frame)
        return distribution, state

    with torch.inference_mode():
        assert list(plan_batches(3, trial_of(model, step, None))) == [(0, 4)]
        assert list(plan_batches(23, trial_of(model, step, None))) == [(0, 16), (16, 16)]


def test_a_longer_sample_begins_like_a_shorter_one(exp):
    short, long = waveforms(exp, samples=405)[0].waveform, waveforms(exp, samples=3000)[0].waveform
    assert len(short) == 405
    assert np.array_equal(long[:405], short)


def test_temperature_zero_leaves_nothing_to_chance(exp):
    frozen = Temperatures(0.0, 0.0)
    assert np.array_equal(
        waveforms(exp, seed=1, temperatures=frozen)[0].waveform, waveforms(exp, seed=2, temperatures=frozen)[3].waveform
    )


@pytest.mark.parametrize("temperatures", [Temperatures(0.0, 1.0), Temperatures(1.0, 0.0)])
def test_each_temperature_rules_its_own_draws(exp, temperatures):
    assert not np.array_equal(
        waveforms(exp, seed=1, temperatures=temperatures)[0].waveform,
        waveforms(exp, seed=2, temperatures=temperatures)[0].waveform,
    )


def test_a_single_temperature_can_be_set_apart(exp, tmp_path):
    generate(exp, out=tmp_path, num=1, seconds=0.01, temperature=0.7, latent_temperature=0.2)
    (sample,) = read_sample_list(tmp_path).values()
    assert (sample.latent_temperature, sample.observation_temperature) == (0.2, 0.7)


def test_a_continuation_keeps_its_prompt_bit_for_bit(exp, tmp_path, recording):
    generate(exp, out=tmp_path / "out", num=2, seconds=0.05, prompt=recording)
    sample = read_sample_list(tmp_path / "out")["continuation-001.wav"]
    waveform = wav(tmp_path / "out" / sample.file)
    assert np.array_equal(waveform[:1234], wav(recording))
    assert len(waveform) == 1234 + 800
    assert sample.starts_at == 1234 / RATE
    assert sample.source == str(recording)


def test_a_continuation_depends_on_its_prompt(exp):
    frozen = Temperatures(0.0, 0.0)
    one, other = (waveforms(exp, temperatures=frozen, prompt=speech(1000, seed=seed))[0].waveform for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_a_prompt_is_resampled_and_mixed_to_one_channel(exp, tmp_path):
    path = tmp_path / "stereo.flac"
    soundfile.write(path, np.stack([speech(441), speech(441)], 1), 44100)
    generate(exp, out=tmp_path / "out", num=1, seconds=0.01, prompt=path)
    assert read_sample_list(tmp_path / "out")["continuation-000.wav"].starts_at == 160 / RATE


def test_a_reconstruction_is_as_long_as_its_recording_which_lies_beside_it(exp, tmp_path, recording):
    generate(exp, out=tmp_path / "out", num=1, reconstruct=recording)
    assert len(wav(tmp_path / "out/reconstruction-000.wav")) == 1234
    assert np.array_equal(wav(tmp_path / "out/recording.wav"), wav(recording))
    assert read_sample_list(tmp_path / "out")["recording.wav"].kind == "recording"


def test_a_reconstruction_hears_its_recording_through_the_latents_alone(exp, tmp_path, recording):
    other = tmp_path / "other.wav"
    soundfile.write(other, speech(1234, seed=6), RATE)
    for path in (recording, other):
        generate(exp, out=tmp_path / path.stem, num=1, temperature=0, reconstruct=path)
    one, two = (wav(tmp_path / name / "reconstruction-000.wav") for name in ("recording", "other"))
    assert not np.array_equal(one, two)


def test_clipped_samples_are_counted(tmp_path, capsys):
    exp = make_experiment(tmp_path, bias=1e5)
    generate(exp, out=tmp_path / "out", num=2, seconds=0.05)
    content = json.loads((tmp_path / "out/samples.json").read_text())
    assert [sample["clipped_samples"] for sample in content["samples"]] == [800, 800]
    assert content["clipped_samples"] == 1600
    assert (wav(tmp_path / "out/sample-000.wav") == 32767).all()
    assert "1600 samples at full scale" in capsys.readouterr().out


def test_clipped_samples_past_the_end_do_not_count(exp):
    manifest = load_checkpoint(exp).manifest
    frames = [torch.full((2, FRAME_SIZE), 1e9), torch.zeros(2, FRAME_SIZE)]
    assert join_blocks(to_blocks(frames, 25, manifest), 25, 2)[0].clipped == FRAME_SIZE
    assert join_blocks(to_blocks(frames[::-1], 25, manifest), 25, 2)[0].clipped == 5


def test_samples_at_full_scale_count_also_if_nothing_lay_beyond(exp):
    """A discretized likelihood draws no sample beyond 16 bits."""
    manifest = load_checkpoint(exp).manifest
    samples = torch.tensor([[32767, 32766, -32768, -32767, 0, 32767.4]])
    frames = (torch.nn.functional.pad(samples, (0, FRAME_SIZE - 6)) - manifest.mean) / manifest.deviation
    assert join_blocks(to_blocks([frames], FRAME_SIZE, manifest), FRAME_SIZE, 1)[0].clipped == 3


def test_a_sample_that_diverges_is_told_apart_from_the_others(exp):
    manifest = load_checkpoint(exp).manifest
    frames = torch.zeros(3, 4, FRAME_SIZE)
    frames[1, 2, 5] = float("nan")
    generated = join_blocks(to_blocks(frames.unbind(), 60, manifest), 60, 4)
    assert [one.diverged_at for one in generated[1:4]] == [None, FRAME_SIZE + 5, None]


def test_diverged_samples_are_named_and_never_written(tmp_path, capsys):
    exp = make_experiment(tmp_path, bias=float("inf"))
    with pytest.raises(UserError, match="every sample diverged"):
        generate(exp, out=tmp_path / "out", num=2, seconds=0.05)
    assert "sample-001.wav: diverged after 0.00 s, left out" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.wav"))


def test_files_of_earlier_calls_stay_listed(exp, tmp_path, recording):
    out = tmp_path / "out"
    generate(exp, out=out, num=2, seconds=0.01, seed=1)
    generate(exp, out=out, num=1, seconds=0.01, seed=2)
    generate(exp, out=out, num=1, seconds=0.01, prompt=recording)
    (out / "sample-001.wav").unlink()
    assert {name: sample.seed for name, sample in read_sample_list(out).items()} == {
        "continuation-000.wav": 0,
        "sample-000.wav": 2,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "--num 0"),
        ({"seconds": 0.0}, "--seconds 0"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"temperature": -1.0}, "temperature -1"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(exp, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        generate(exp, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_prompt_and_reconstruct_exclude_each_other(exp, tmp_path, recording):
    with pytest.raises(UserError, match="one of them"):
        generate(exp, out=tmp_path, prompt=recording, reconstruct=recording)


def test_a_prompt_must_be_there_and_as_long_as_a_frame(exp, tmp_path):
    with pytest.raises(UserError, match=r"absent\.wav: no such file"):
        generate(exp, out=tmp_path, prompt=tmp_path / "absent.wav")
    soundfile.write(tmp_path / "short.wav", speech(FRAME_SIZE - 1), RATE)
    with pytest.raises(UserError, match="shorter than one frame"):
        generate(exp, out=tmp_path, prompt=tmp_path / "short.wav")
    soundfile.write(tmp_path / "short.wav", speech(FRAME_SIZE), RATE)
    generate(exp, out=tmp_path, num=1, seconds=0.01, prompt=tmp_path / "short.wav")


def test_python_may_give_a_waveform_and_its_rate_and_gets_the_samples(exp, tmp_path, recording):
    """The same continuation as of the file, whatever form its samples come in."""
    generate(exp, out=tmp_path / "file", num=1, seconds=0.02, prompt=str(recording))
    samples = wav(recording)
    forms = [samples, samples / 32768, np.stack([samples, samples], 1), torch.from_numpy(samples / 32768).float()]
    for number, form in enumerate(forms):
        out = tmp_path / str(number)
        (sample,) = generate(str(exp), out=str(out), num=1, seconds=0.02, prompt=(form, RATE))
        assert np.array_equal(wav(out / sample.file), wav(tmp_path / "file" / sample.file))
        assert read_sample_list(out) == {sample.file: sample}
        assert sample.source == ""


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (np.zeros(99), "an audio file, or a tuple"),
        ((np.zeros(99), 0), "sample rate is 0"),
        ((np.zeros(99), 0.5), "sample rate is 0.5"),
        ((np.zeros((2, 99)), RATE), r"the shape \[2, 99\]"),
        ((np.zeros((1, 2, 99)), RATE), r"the shape \[1, 2, 99\]"),
        ((np.zeros(99, np.int32), RATE), "int32; give int16"),
        ((np.full(99, np.nan), RATE), "NaN or values far outside"),
        ((np.full(99, 3000.0), RATE), "NaN or values far outside"),
        ((np.zeros(FRAME_SIZE - 1), RATE), "19 samples at 16000 Hz, shorter than one frame"),
        ((np.zeros(0), RATE), "0 samples at 16000 Hz, shorter than one frame"),
    ],
)
def test_a_waveform_that_cannot_be_heard_is_refused(recording, message):
    with pytest.raises(UserError, match=message):
        read_recording(recording, RATE, FRAME_SIZE)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no checkpoint there"):
        generate(tmp_path / "nowhere", out=tmp_path / "out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_refused(exp, tmp_path):
    with pytest.raises(UserError, match="no CUDA GPU"):
        generate(exp, out=tmp_path, device="cuda")


def test_a_broken_list_of_samples_is_not_overwritten(exp, tmp_path):
    (tmp_path / "samples.json").write_text("[]")
    with pytest.raises(UserError, match=r"samples\.json: not a result of this version of zfaudio generate"):
        generate(exp, out=tmp_path, num=1)


def samples_json(folder, **changes):
    """Write samples.json of one sample, as the first versions of zfaudio did, with some changes to its fields."""
    sample = {"kind": "sample", "file": "sample-000.wav", "index": 0, "seconds": 3, **changes}
    (folder / "samples.json").write_text(json.dumps({"clipped_samples": 0, "samples": [sample]}))


def test_a_list_of_samples_without_a_version_is_read(tmp_path):
    samples_json(tmp_path)
    assert read_sample_list(tmp_path) == {}
    (tmp_path / "sample-000.wav").touch()
    assert read_sample_list(tmp_path)["sample-000.wav"].seconds == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "song"}, r"samples\[0\].kind is 'song'"),
        ({"peak": 1.5}, r"samples\[0\].peak is 1.5"),
        ({"pitch": 100}, r"samples\[0\].pitch is unknown"),
        ({"file": "../sample-000.wav"}, r"'../sample-000.wav' is not the name of a file"),
    ],
)
def test_a_wrong_field_in_a_list_of_samples_is_named(tmp_path, changes, message):
    samples_json(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read_sample_list(tmp_path)


def test_a_list_of_samples_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "samples.json").write_text(json.dumps({"format_version": 2, "clipped_samples": 0, "samples": []}))
    with pytest.raises(UserError, match="format_version is 2"):
        read_sample_list(tmp_path)
