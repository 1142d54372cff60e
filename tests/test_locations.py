"""An experiment from a stranger opens nothing outside itself that the user did not name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from experiment import make_experiment
from speech import make_shards

from zfaudio.data import known_shards
from zfaudio.data.known_shards import choose_shards, remember_shards
from zfaudio.errors import UserError
from zfaudio.evaluation.comparison import compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents
from zfaudio.evaluation.quality import quality
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.generation.generate import generate
from zfaudio.generation.samples import read_sample_list
from zfaudio.reporting.report import report


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine on which no shards were named yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(known_shards, "_named_here", set())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment with all that a report shows."""
    exp = make_experiment(tmp_path_factory.mktemp("made"))
    evaluate(exp, json=exp / "results/test.json", device="cpu", draws=1)
    latents(exp, device="cpu")
    generate(exp, out=exp / "samples", num=1, seconds=0.05)
    (exp / "commands.txt").write_text("zfaudio train\n")
    return exp


def strangers(made: Path, folder: Path, shards: str) -> Path:
    """A copy of the experiment whose configurations name other shards."""
    exp = shutil.copytree(made, folder)
    for path in (exp / "config.yaml", find_checkpoint(exp) / "config.yaml"):
        config = yaml.safe_load(path.read_text())
        config["data"]["shards"] = shards
        path.write_text(yaml.safe_dump(config))
    return exp


def page_of(exp: Path, **options: object) -> str:
    report(exp, **options)
    return (exp / "report.html").read_text()


# Shards


def test_shards_that_were_never_named_are_not_opened(made, tmp_path, nobody):
    shards = make_shards(tmp_path / "shards", frames=60)
    exp = strangers(made, tmp_path / "exp", shards)
    said = (
        f"exp: its configuration names the shards {shards}, which were never named on this machine.*--shards {shards}"
    )
    for command in (evaluate, latents, quality):
        with pytest.raises(UserError, match=said):
            command(exp)
    page = page_of(exp)
    assert "Real <span" in page
    assert "never named on this machine" in page
    assert page.count('src="data:audio/wav') == 1  # the sample


def test_shards_are_opened_once_they_were_named(made, tmp_path, nobody):
    shards = make_shards(tmp_path / "shards", frames=60)
    exp = strangers(made, tmp_path / "exp", shards)
    assert page_of(exp, shards=shards).count('src="data:audio/wav') == 4  # with three utterances
    evaluate(exp, device="cpu", draws=1)
    assert "never named" not in page_of(exp)


def test_training_names_the_shards_that_it_reads(tmp_path, nobody):
    exp = make_experiment(tmp_path)  # as training leaves it
    evaluate(exp, device="cpu", draws=1)


def test_where_a_command_runs_does_not_matter(tmp_path, monkeypatch, nobody):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    remember_shards("a/shards/")
    assert choose_shards("", "a/shards", tmp_path / "exp") == "a/shards"
    assert choose_shards("", str(tmp_path / "a/shards"), tmp_path / "exp") == str(tmp_path / "a/shards")
    monkeypatch.chdir(tmp_path / "a")
    assert choose_shards("", "shards", tmp_path / "exp") == "shards"
    with pytest.raises(UserError, match="never named"):
        choose_shards("", "a/shards", tmp_path / "exp")
    remember_shards("http://host/shards/")
    assert choose_shards("", "http://host/shards", tmp_path / "exp") == "http://host/shards"
    with pytest.raises(UserError, match="never named"):
        choose_shards("", "http://host/other", tmp_path / "exp")


def test_shards_inside_an_experiment_may_be_opened_and_links_are_not_inside(tmp_path, nobody):
    exp = tmp_path / "exp"
    exp.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (exp / "link").symlink_to(tmp_path / "elsewhere")
    assert choose_shards("", str(exp / "shards"), exp) == str(exp / "shards")
    for location in (exp / "link", exp / "../elsewhere"):
        with pytest.raises(UserError, match="never named"):
            choose_shards("", str(location), exp)
    with pytest.raises(UserError, match="does not say where the shards are; give --shards"):
        choose_shards("", "", exp)


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch, nobody):
    (tmp_path / "state").write_text("not a folder")
    remember_shards("/data/shards")
    assert choose_shards("", "/data/shards", tmp_path) == "/data/shards"


def test_a_damaged_list_of_locations_counts_as_far_as_it_can_be_read(tmp_path, nobody):
    remember_shards("/data/\udcff\n")
    with (tmp_path / "state/zfaudio/shards.txt").open("ab") as file:
        file.write(b'\xff\xfe{"\n[1]\n"/data/more"\n"/data/ha')
    known_shards._named_here.clear()
    for location in ("/data/\udcff\n", "/data/more"):
        assert choose_shards("", location, tmp_path) == location
    with pytest.raises(UserError, match="never named"):
        choose_shards("", "/data/ha", tmp_path)


# Other files


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("config.yaml", "Missing: {exp}/config.yaml: a link out of the folder"),
        ("commands.txt", "Missing: {exp}/commands.txt: a link out of the folder"),
        ("metrics.csv", "Missing: {exp}/metrics.csv: a link out of the folder"),
        ("results/test.json", "Missing: {exp}/results/test.json: a link out of the folder"),
        ("results", "Missing: {exp}/results: a link out of the folder"),
        ("latents.json", "Missing: {exp}/latents.json: a link out of the folder"),
        ("quality.json", "Missing: {exp}/quality.json: a link out of the folder"),
        ("samples", "Missing: {exp}/samples: a link out of the folder"),
        ("samples/samples.json", "Missing: {exp}/samples/samples.json: a link out of the folder"),
        ("samples/sample-000.wav", "Missing: {exp}/samples/sample-000.wav: a link out of the folder"),
    ],
)
def test_links_out_of_an_experiment_are_not_followed(made, tmp_path, name, part):
    """A report that followed them would show the reader's own files to whoever sees the page."""
    exp = shutil.copytree(made, tmp_path / "exp")
    outside = tmp_path / "outside" / name
    outside.parent.mkdir(parents=True)
    if (exp / name).exists():
        (exp / name).rename(outside)
    else:
        outside.write_text("SECRET\n")
    (exp / name).symlink_to(outside)
    assert part.format(exp=exp) in page_of(exp)


def test_links_inside_an_experiment_are_followed(made, tmp_path):
    exp = shutil.copytree(made, tmp_path / "exp")
    (exp / "commands.txt").rename(exp / "other.txt")
    (exp / "commands.txt").symlink_to("other.txt")
    (tmp_path / "link").symlink_to(exp)
    assert "out of the folder" not in page_of(tmp_path / "link")


def test_a_comparison_follows_no_link_out_of_an_experiment(made, tmp_path):
    exp = shutil.copytree(made, tmp_path / "exp")
    (exp / "results/test.json").rename(tmp_path / "test.json")
    (exp / "results/test.json").symlink_to(tmp_path / "test.json")
    with pytest.raises(UserError, match="a link out of the folder"):
        compare_experiments([exp])
    assert compare_experiments([tmp_path / "test.json", made]).rows  # the user names it


@pytest.mark.parametrize("name", ["commands.txt", "metrics.csv", "results/test.json", "latents.json", "config.yaml"])
def test_a_pipe_in_an_experiment_is_not_waited_for(made, tmp_path, name):
    exp = shutil.copytree(made, tmp_path / "exp")
    (exp / name).unlink(missing_ok=True)
    os.mkfifo(exp / name)
    assert f"{exp / name}: not a file but a pipe" in page_of(exp)


def test_files_of_a_killed_command_are_no_results(made, tmp_path):
    exp = shutil.copytree(made, tmp_path / "exp")
    (exp / "results/.part-1-test.json").write_text("{")
    assert ".part-" not in page_of(exp)


def test_the_source_of_a_sample_is_not_opened(made, tmp_path):
    exp = shutil.copytree(made, tmp_path / "exp")
    fields = json.loads((exp / "samples/samples.json").read_text())
    os.mkfifo(tmp_path / "source.wav")
    fields["samples"][0]["source"] = str(tmp_path / "source.wav")
    (exp / "samples/samples.json").write_text(json.dumps(fields))
    assert read_sample_list(exp / "samples")
    assert "source.wav" in page_of(exp)


PROGRAM = """
import sys
outside, *commands = sys.argv[1:]
def watch(event, arguments):
    inside = event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(outside)
    if inside or event == "socket.connect":
        print("OPENED", event, arguments[:1], flush=True)
sys.addaudithook(watch)
from zfaudio.cli import main
for command in commands:
    sys.argv[1:] = command.split()
    try:
        main()
    except SystemExit:
        pass
"""


@pytest.mark.parametrize("location", ["{outside}", "http://127.0.0.1:9/shards"])
def test_no_command_opens_what_an_experiment_names(made, tmp_path, nobody, location):
    outside = make_shards(tmp_path / "outside", frames=60)
    exp = strangers(made, tmp_path / "exp", location.format(outside=outside))
    commands = [f"evaluate {exp}", f"latents {exp}", f"quality {exp}", f"report {exp}", f"compare {exp}"]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, outside, *commands], capture_output=True, text=True, check=True
    )
    assert "OPENED" not in ran.stdout
    assert ran.stderr.count("never named on this machine") == 3
    named = subprocess.run(
        [sys.executable, "-c", PROGRAM, outside, f"report {exp} --shards {outside}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "OPENED" in named.stdout
