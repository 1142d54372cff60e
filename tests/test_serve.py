"""`zfaudio serve`: what its buttons do, the server, and the page in a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from experiment import FRAME_SIZE, RATE, make_experiment
from speech import speech

import zfaudio
from zfaudio.errors import UserError
from zfaudio.web import play
from zfaudio.web.experiments import Experiments
from zfaudio.web.uploads import MOST_SECONDS, read_upload

pytest.importorskip("gradio", reason="gradio is an extra: pip install 'zfaudio[web]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def exps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Experiments by the name of their model."""
    return {name: str(make_experiment(tmp_path_factory.mktemp(name), model=name)) for name in ("zforcing", "rnn")}


@pytest.fixture(scope="module")
def model(exps: dict[str, str]) -> play.SpeechModel:
    return zfaudio.load(exps["zforcing"], device="cpu")


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Half a second of speech at another rate than the model's, in stereo."""
    path = tmp_path / "recording.wav"
    waveform = speech(4000, rate=8000)
    soundfile.write(path, np.stack([waveform, waveform], 1), 8000)
    return str(path)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.wav"
    path.write_text("no sound\n")
    return str(path)


# What the buttons do


def test_a_sample_is_that_of_the_model_with_a_picture(model: play.SpeechModel) -> None:
    played = play.sample(model, 0.5, 0.8, seed=3)
    assert np.array_equal(played.waveform, model.sample(seconds=0.5, temperature=0.8, seed=3).waveforms[0])
    assert played.rate == RATE
    assert "data:image/png;base64," in played.picture
    assert re.search(
        r"Sample: 0\.50 s, ≥\s-?\d+\.\d nats per frame, ≤\s\d+\.\d\d bits per 16-bit sample", played.picture
    )


def test_a_continuation_follows_the_recording(model: play.SpeechModel, recording: str) -> None:
    played = play.continue_upload(model, recording, 0.5, 1.0, seed=0)
    heard = play.hear(model, recording)
    assert len(heard) == RATE // 2
    assert np.array_equal(played.waveform[: len(heard)], heard)
    assert len(played.waveform) == RATE


def test_a_reconstruction_is_shown_beside_the_recording(model: play.SpeechModel, recording: str) -> None:
    made, given = play.reconstruct_upload(model, recording, 1.0, seed=0)
    assert made.waveform.shape == given.waveform.shape == (RATE // 2,)
    assert "Reconstruction: " in made.picture
    assert "Recording: " in given.picture


def test_an_interpolation_takes_samples_for_missing_ends(model: play.SpeechModel, recording: str) -> None:
    assert play.interpolate_uploads(model, recording, recording, 1.0, 0).shape == (play.MIXTURES, RATE // 2)
    assert play.interpolate_uploads(model, recording, None, 1.0, 0).shape == (play.MIXTURES, 3 * RATE)


def test_an_exact_likelihood_is_shown_without_a_bound(exps: dict[str, str]) -> None:
    picture = play.sample(zfaudio.load(exps["rnn"], device="cpu"), 0.5, 1.0, 0).picture
    assert "≥" not in picture
    assert "nats per frame" in picture


# Uploads


def test_what_is_no_recording_is_a_users_mistake_that_names_the_file_alone(model: play.SpeechModel, text: str) -> None:
    with pytest.raises(UserError, match=r"^text\.wav: "):
        read_upload(text)
    with pytest.raises(UserError, match="give a recording"):
        read_upload(None)


def test_recordings_that_are_too_long_or_too_wide_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    long, wide, short = tmp_path / "long.flac", tmp_path / "wide.flac", tmp_path / "short.flac"
    soundfile.write(long, np.zeros(8000 * (MOST_SECONDS + 1), np.int16), 8000)
    with pytest.raises(UserError, match=r"^long\.flac: 61 s long"):
        read_upload(str(long))
    soundfile.write(wide, np.zeros((192_000 * 45, 3), np.int16), 192_000)
    with pytest.raises(UserError, match=r"^wide\.flac: 3 channels"):
        read_upload(str(wide))
    soundfile.write(short, np.zeros(8000 * MOST_SECONDS, np.int16), 8000)
    assert len(read_upload(str(short))[0]) == 8000 * MOST_SECONDS


def test_a_recording_of_less_than_two_frames_is_a_users_mistake(model: play.SpeechModel, tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    for samples in (FRAME_SIZE - 1, FRAME_SIZE):
        soundfile.write(path, speech(samples), RATE)
        with pytest.raises(UserError, match="give a longer recording"):
            play.reconstruct_upload(model, str(path), 1.0, 0)


# Experiments


def test_one_model_at_a_time_is_in_memory(exps: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = zfaudio.load
    monkeypatch.setattr("zfaudio.web.experiments.load", lambda name, device: loaded.append(name) or load(name, device))
    experiments = Experiments([exps["rnn"], exps["zforcing"], exps["rnn"]], "cpu")
    assert experiments.names == [exps["rnn"], exps["zforcing"]]
    for name in ("rnn", "rnn", "zforcing", "rnn"):
        assert experiments.model(exps[name]).checkpoint.config.model.name == name
    assert loaded == [exps["rnn"], exps["zforcing"], exps["rnn"]]
    with pytest.raises(UserError, match="no such experiment"):
        experiments.model("/etc")


def test_models_of_pictures_and_missing_experiments_are_refused(
    exps: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Experiments([exps["rnn"], str(tmp_path / "nowhere")], "cpu")
    monkeypatch.setattr("zfaudio.web.experiments.read_manifest", lambda path: SimpleNamespace(kind="binary"))
    with pytest.raises(UserError, match="a model of binary frames, but the page plays speech"):
        Experiments([exps["rnn"]], "cpu")


# The command


def test_the_package_and_its_help_do_without_gradio() -> None:
    program = (
        "import sys, zfaudio; from zfaudio.cli import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "finally: print('gradio' in sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "serve" in finished.stdout
    assert finished.stderr.strip() == "False"


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'zfaudio[web]'")):
        zfaudio.serve(["exp"])


def test_a_port_in_use_and_an_address_of_another_machine_are_users_mistakes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: in use on 127.0.0.1"):
            zfaudio.serve(["exp"], port=port)
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.1"):
        zfaudio.serve(["exp"], host="192.0.2.1")
    with pytest.raises(UserError, match="--port 70000"):
        zfaudio.serve(["exp"], port=70000)
    with pytest.raises(UserError, match="at least one experiment"):
        zfaudio.serve([])


@pytest.fixture(scope="module")
def address(exps: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server in a process of its own, which Ctrl-C stops cleanly, although a browser has the page open."""
    folder = tmp_path_factory.mktemp("server")
    log = folder / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "zfaudio", "serve", exps["zforcing"], exps["rnn"], "--port", "0", "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # Processes in the background of a shell ignore Ctrl-C, and would pass that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+) in a browser; Ctrl-C stops", line)
    if found is None:
        process.kill()
        raise AssertionError(line + log.read_text())
    yield found[1]
    assert list(folder.glob("zfaudio-serve-*"))
    said = log.read_text()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert log.read_text() == said
    assert not list(folder.glob("zfaudio-serve-*"))  # uploads are deleted


def test_a_client_gets_sound_and_a_message_for_a_bad_file(
    address: str, exps: dict[str, str], recording: str, text: str
) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    name = exps["zforcing"]
    path, picture = client.predict(name, 0.5, 1, 0, api_name="/sample")
    samples, rate = soundfile.read(path, dtype="int16")
    assert np.array_equal(samples, zfaudio.load(name, device="cpu").sample(seconds=0.5).waveforms[0])
    assert rate == RATE
    assert "nats per frame" in picture
    with pytest.raises(gradio_client.exceptions.AppError, match=r"text\.wav: "):
        client.predict(name, gradio_client.handle_file(text), 0.5, 1, 0, api_name="/continue")
    path, _ = client.predict(name, gradio_client.handle_file(recording), 0.5, 1, 0, api_name="/continue")
    assert len(soundfile.read(path)[0]) == RATE
    path, _, given = client.predict(name, gradio_client.handle_file(recording), 1, 0, api_name="/reconstruct")
    assert len(soundfile.read(path)[0]) == RATE // 2
    assert "Recording: " in given
    half, _ = client.predict(name, None, None, "50 %", 1, 0, api_name="/interpolate")
    whole, _ = client.predict(name, "100 %", api_name="/mixture")
    assert not np.array_equal(soundfile.read(half)[0], soundfile.read(whole)[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((1e9, 1, 0), "maximum"), ((0.5, 1, -1), "minimum"), ((0.5, 1, None), "seed"), ((0.5, -1, 0), "minimum")],
)
def test_what_the_page_does_not_offer_is_refused(
    address: str, exps: dict[str, str], arguments: tuple[float, float, int | None], said: str
) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    with pytest.raises(gradio_client.exceptions.AppError, match=said):
        client.predict(exps["rnn"], *arguments, api_name="/sample")


def test_large_files_are_refused(address: str, tmp_path: Path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    path = tmp_path / "large.wav"
    path.write_bytes(bytes(21 << 20))
    with pytest.raises(Exception, match=r"413|large|exceed"):
        client.predict("rnn", gradio_client.handle_file(str(path)), 0.5, 1, 0, api_name="/continue")


def test_browsers_are_told_to_stay_on_the_host(address: str) -> None:
    with urllib.request.urlopen(address) as response:
        assert response.headers["content-security-policy"].startswith("default-src 'self'")


# In a browser


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_the_buttons_make_sound(
    address: str, exps: dict[str, str], recording: str, text: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is an extra: pip install 'zfaudio[dev]'")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 375, "height": 740})
        page.set_default_timeout(60_000)
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)

        page.get_by_role("button", name="Sample", exact=True).click()
        assert heard_length(page) == pytest.approx(3, abs=0.05)
        assert page.evaluate("document.documentElement.scrollWidth") == 375  # nothing is wider than a phone

        page.get_by_role("tab", name="Continue").click()
        upload(page, text)
        page.get_by_role("button", name="Continue", exact=True).click()
        message = page.get_by_test_id("toast-body")
        message.wait_for()
        assert "text.wav: not readable as audio" in message.inner_text()
        page.get_by_test_id("toast-close").click()

        page.get_by_role("button", name="Clear").filter(visible=True).first.click()
        upload(page, recording)
        page.get_by_role("button", name="Continue", exact=True).click()
        assert heard_length(page) == pytest.approx(3.5, abs=0.05)

        page.get_by_label("Experiment").click()
        page.get_by_role("option", name=exps["rnn"]).click()
        page.get_by_text("It has no latents").wait_for()
        assert page.get_by_role("tab", name="Reconstruct").is_disabled()
        browser.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in requested)


def upload(page: object, path: str) -> None:
    """Give a file to the first place for one on the tab that is shown."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(path)
    time.sleep(1)


def heard_length(page: object) -> float:
    """Seconds of sound, which is not silence, in the player beside the picture."""
    panel = page.locator("[role=tabpanel]:visible")
    panel.locator("figure img").wait_for()
    return page.evaluate(
        """async () => {
            const shown = [...document.querySelectorAll("[role=tabpanel]")].find((panel) => panel.offsetParent);
            const source = [...shown.querySelectorAll("a[download]")].pop().href;
            const bytes = await (await fetch(source)).arrayBuffer();
            const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes);
            return sound.getChannelData(0).some((sample) => sample !== 0) ? sound.duration : 0;
        }"""
    )
