"""The documents are true: examples run, command lines parse, and files, links, settings and names exist."""

import dataclasses
import functools
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import yaml
from documents import (
    INDENTED,
    LINK,
    PAGES,
    README,
    RECIPES,
    ROOT,
    Block,
    blocks,
    command_lines,
    files_of_pages,
    inline_code,
    name_of,
    read,
    shell_lines,
)
from experiment import make_experiment
from speech import speech, write_corpus

import data_prep
import zfaudio
from zfaudio import cli
from zfaudio.config import DataConfig, ModelConfig, ObjectiveConfig, TrainConfig
from zfaudio.experiment.config_file import read_settings
from zfaudio.experiment.results import EvaluationResult
from zfaudio.models import MODELS, find_model

with_examples = [page for page in PAGES if blocks(page, "python")]
each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
each_document = pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=name_of)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the pages show, from which Python imports."""
    for name, text in files_of_pages().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(data_prep, "__path__", [*data_prep.__path__, str(tmp_path / "data_prep")])
    yield tmp_path
    shown = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files_of_pages()}
    for name in shown:
        sys.modules.pop(name, None)


# Examples


@pytest.fixture
def workplace(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples assume: a trained model, recordings and shards."""
    make_experiment(packages / "recipes/demo")
    soundfile.write(packages / "recording.flac", speech(16000), 16000)
    write_corpus(packages / "recordings", suffix="flac")
    zfaudio.shard(packages / "recordings", packages / "shards")
    monkeypatch.chdir(packages)
    return packages


@pytest.mark.parametrize("page", with_examples, ids=name_of)
def test_the_examples_of_a_page_run_one_after_another(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {"zfaudio": zfaudio}
    for block in blocks(page, "python"):
        run(block, names)


def run(block: Block, names: dict[str, object]) -> None:
    """Run an example, or the tests of a file of tests. Other files are imported by the examples that use them."""
    code = compile(block.text, f"{block.page.name}: {block.title or 'example'}", "exec")
    if block.title is None:
        exec(code, names)
    elif Path(block.title).name.startswith("test_"):
        own: dict[str, object] = {}
        exec(code, own)
        tests = [value for name, value in own.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            assert callable(test)
            test()


def test_the_example_in_the_docstring_of_the_package_runs(workplace: Path) -> None:
    (example,) = INDENTED.findall(inspect.cleandoc(zfaudio.__doc__ or "").replace("\n\n    ", "\n    "))
    exec(inspect.cleandoc("\n" + example), {})


def test_every_file_that_a_page_shows_is_used_by_its_examples(workplace: Path) -> None:
    for name in files_of_pages():
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        importlib.import_module(module)


def test_yaml_examples_are_configurations(packages: Path) -> None:
    shutil.copy(ROOT / "recipes/timit/conf/default.yaml", packages / "default.yaml")
    examples = [block for page in PAGES for block in blocks(page, "yaml")]
    assert examples
    for block in examples:
        path = packages / "example.yaml"
        path.write_text(block.text)
        assert read_settings(path)["model"]["name"]


# Command lines


@pytest.mark.parametrize("line", command_lines("zfaudio", [*PAGES, *RECIPES]))
def test_command_lines_are_understood(line: str, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse(line, monkeypatch)


def parse(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse `zfaudio LINE` without running the command. An option that the command does not have fails the test."""
    for name in zfaudio.__all__:
        getattr(zfaudio, name)  # which the package keeps from then on: it must not be a function of this test
    called = []

    def recorder(function: object) -> object:
        @functools.wraps(function)  # type: ignore[arg-type]
        def record(*args: object, **kwargs: object) -> None:
            called.append((args, kwargs))

        return record

    words = shlex.split(line.replace("COMMAND", "evaluate"))
    if words[0] in cli.COMMANDS:
        module, name, _ = cli.COMMANDS[words[0]]
        module = importlib.import_module(module)
        monkeypatch.setattr(module, name, recorder(getattr(module, name)))
    if len(words) == 1 and words[0] in cli.COMMANDS:
        return  # the text names the command only
    monkeypatch.setattr(cli, "prepare_environment", lambda: None)
    monkeypatch.setattr(sys, "argv", ["zfaudio", *words])
    monkeypatch.chdir(ROOT)
    if {"--help", "--version"} & set(words):
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 0
    else:
        cli.main()
        assert called


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_recipes_have_the_options_that_the_documents_give_them(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = recipe.parent / "run.sh"
    usage = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    lines = command_lines(name_of(script), [*PAGES, *RECIPES])
    assert lines
    for line in lines:
        own, _, training = f"{line} ".partition(" -- ")
        for option in re.findall(r"--[\w-]+", own):
            assert option in usage or option == "--help", f"{script}: {line}"
        if training.strip():
            parse(f"train {training}", monkeypatch)


def test_python_modules_have_the_options_that_the_documents_give_them() -> None:
    for line in command_lines("python -m", [*PAGES, *RECIPES]):
        module, *words = shlex.split(line)
        if module == "pytest":
            continue
        usage = ""
        if any(word.startswith("--") for word in words):
            command = [sys.executable, "-m", module, "--help"]
            usage = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        file = f"{module.replace('.', '/')}.py"
        assert (ROOT / file).is_file() or file in files_of_pages(), line
        for option in re.findall(r"--[\w.-]+", line):
            assert option.replace("-", "_").replace("__", "--", 1) in usage, line


def test_make_has_the_targets_that_the_documents_name() -> None:
    makefile = read(ROOT / "Makefile")
    for line in {line for page in PAGES for line in shell_lines(page) if re.fullmatch(r"make [a-z]+", line)}:
        assert re.search(rf"^{line.removeprefix('make ')}:", makefile, re.M), line


# Names


@each_document
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(read(page)):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@each_document
def test_files_that_are_named_exist(page: Path) -> None:
    place = re.compile(r"(?:zfaudio|recipes|tests|benchmarks|data_prep|docs|\.ci)/[\w./-]*")
    made = re.compile(r"recipes/\w+/(?:data|exp)\b")
    for code in inline_code(page):
        for name in place.findall(code) if place.match(code) else []:
            placeholder = Path(name).stem in ("NAME", "SPLIT")
            if not (placeholder or made.match(name) or name in files_of_pages()):
                assert (ROOT / name).exists(), name


@each_document
def test_python_names_exist(page: Path, packages: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"zfaudio(\.\w+)+(\(.*\))?", code):
            assert resolve(code.partition("(")[0]) is not None


def resolve(dotted: str) -> object:
    """The module, or the attribute of a module, that a dotted name means."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[end:], found)
    raise AssertionError(dotted)


@each_document
def test_settings_that_are_named_exist(page: Path) -> None:
    models = [find_model(name).config_class for name in MODELS]
    sections: dict[str, list[type]] = {
        "model": [ModelConfig, *models],
        "objective": [ObjectiveConfig],
        "data": [DataConfig],
        "train": [TrainConfig],
    }
    for code in inline_code(page):
        if Path(code).suffix in (".txt", ".safetensors"):
            continue
        for section, setting in re.findall(r"(?:^|--)(model|objective|data|train)\.(\w+)(?![\w(])", code):
            own = {field.name for config in sections[section] for field in dataclasses.fields(config)}
            assert setting in own, code


@each_page
def test_options_that_are_named_exist(page: Path) -> None:
    options = {"help", "version", "stage", "stop-stage", "corpus", "name", "list"}
    options |= {"data", "exp", "conf", "config", "rows", "jobs"}
    for module, name, _ in cli.COMMANDS.values():
        options |= set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    known = {option.replace("-", "_") for option in options}
    for code in inline_code(page):
        for option in re.findall(r"(?:^|\s)--([a-z][\w-]*)(?!\S*\.)", code):
            assert option.replace("-", "_") in known, code


def test_the_table_of_the_result_has_its_fields() -> None:
    fields = {field.name for field in dataclasses.fields(EvaluationResult)}
    rows = re.findall(r"^\| (`.*?) \| ", read(ROOT / "docs/results.md"), re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named
    assert named <= fields


# As a whole


def test_the_readme_is_short() -> None:
    assert len(read(README).split()) < 900


def test_the_navigation_has_every_page() -> None:
    navigation = yaml.safe_load(read(ROOT / "mkdocs.yml"))["nav"]
    pages: list[str] = re.findall(r"[\w-]+\.md", str(navigation))
    assert sorted(pages) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_changelog_and_citation_are_of_this_version() -> None:
    latest = re.search(r"^## \[([\d.]+)\]", read(ROOT / "CHANGELOG.md"), re.M)
    assert latest
    citation = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert zfaudio.__version__ == latest[1] == citation["version"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
