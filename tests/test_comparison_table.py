"""The table of `zfaudio compare`: printed, as CSV, and on a report page."""

import csv
import shutil
from dataclasses import replace

import pytest
from compare_fixtures import result_of, rows_of, write

from zfaudio.command import run_command
from zfaudio.errors import UserError
from zfaudio.evaluation.comparison import compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.reporting.comparison_table import compare, describe, tabulate_comparison
from zfaudio.reporting.report import report


def test_the_command_prints_a_table_and_writes_it_as_csv(trained, tmp_path, capsys):
    arguments = [str(trained / name) for name in ("rnn-0", "zforcing", "rnn-1")]
    returned = compare(arguments, group_seeds=True)
    capsys.readouterr()
    run_command(compare, [*arguments, "--group-seeds", "--csv", str(tmp_path / "t/t.csv")], prog="compare")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("test: 3 utterances, 194 frames of 20 samples")
    assert next(line for line in printed if line.startswith("zforcing")).split()[:5] == [
        *("zforcing", "zforcing", "Gaussian", "elbo", ">=")
    ]
    assert any(line.startswith("FLAC") for line in printed)
    with (tmp_path / "t/t.csv").open(newline="") as file:
        rnn, zforcing = csv.DictReader(file)
    rows = {row.name: row for row in returned.rows}
    assert (rnn["name"], rnn["seeds"], rnn["difference"], rnn["kl_per_frame"]) == ("rnn", "0 1", "", "")
    assert float(zforcing["nats_per_frame"]) == rows["zforcing"].nats_per_frame
    assert float(zforcing["difference_ci95_high"]) == rows["zforcing"].difference_ci95[1]
    assert float(rnn["seed_range_low"]) == rows["rnn"].seed_range[0]
    assert zforcing["seed_range_low"] == ""


def test_names_that_mean_something_to_a_terminal_a_plot_or_a_spreadsheet_are_only_shown(exps, capsys):
    """Also on the page, where a name between dollar signs was drawn as a formula."""
    names = ["=1+2", "+a", "-b", "@c", "$\\frac{1$", "$x$", "\x1b[31mred", "caf\udce9", "two\nlines"]
    for name in names:
        shutil.copytree(exps / "rnn-0", exps / "odd" / name, symlinks=True)
    folders = [exps / "odd" / name for name in names]
    write(folders[0], replace(result_of(folders[0]), model="=model"))
    run_command(compare, [str(exps / "zforcing"), *map(str, folders), "--csv", str(exps / "t.csv")], prog="compare")
    shown = ["=1+2", "+a", "-b", "@c", "$\\frac{1$", "$x$", r"\x1b[31mred", r"caf\xe9", r"two\nlines"]
    printed = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    with (exps / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    report(exps / "zforcing", compare=tuple(folders))
    page = (exps / "zforcing/report.html").read_text(encoding="utf-8")
    assert "\x1b" not in page
    for name, row in zip(shown, rows[1:], strict=True):
        assert f"odd/{name}" in printed
        assert row["name"] == f"odd/{name}"
        assert f">odd/{name}</text>" in page  # of the plot
        assert f"<td>odd/{name}<small>" in page  # of the table
    assert rows[1]["model"] == "'=model"
    compare(folders, csv=exps / "t.csv")  # in a folder of their own, the names begin the cells
    with (exps / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"'{name}" if name[0] in "=+-@" else name for name in shown]
    assert float(rows[0]["nats_per_frame"]) == result_of(folders[0]).nats_per_frame  # negative, and no formula


def test_a_model_of_another_package_has_a_row_without_likelihood(exps):
    change = {"model": "my_package.MyModel", "likelihood": None, "head": None}
    write(exps / "biased", replace(result_of(exps / "biased"), **change))
    comparison = compare_experiments([exps / "rnn-0", exps / "biased"])
    assert comparison.rows[1].likelihood is None
    (line,) = [line for line in describe(tabulate_comparison(comparison)).splitlines() if line.startswith("biased")]
    assert line.split()[:3] == ["biased", "my_package.MyModel", "elbo"]


def test_columns_of_the_table_line_up(trained):
    table = tabulate_comparison(compare_experiments([trained / "rnn-0", trained / "zforcing"]))
    lines = describe(table).splitlines()
    titles, rule, *rows = lines[2 : 4 + len(table.rows)]
    ends = [end for end in range(1, len(rule) + 1) if rule[end - 1] == "-" and rule[end : end + 1] != "-"]
    assert len(ends) == len(table.columns)
    for row in (titles, *rows):
        assert all(row[end : end + 2].strip() == "" for end in ends)


def test_nothing_to_compare(trained):
    with pytest.raises(UserError, match="give experiments"):
        compare([])


def test_the_report_shows_the_table_beside_the_experiment(exps):
    page = exps / "rnn-0/report.html"
    report(exps / "rnn-0", compare=(exps / "zforcing", exps / "biased"))
    html = page.read_text()
    assert '<section id="comparison">' in html
    row = rows_of(exps / "rnn-0", exps / "zforcing")["zforcing"]
    assert f"{row.difference:+.2f}".replace("-", "−") in html
    assert 'aria-label="Bits per 16-bit sample' in html
    report(exps / "rnn-0")
    assert '<section id="comparison">' not in page.read_text()


def test_the_report_says_why_there_is_no_table(exps):
    (exps / "zforcing/results/test.json").unlink()
    report(exps / "rnn-0", compare=(exps / "zforcing",))
    assert f"Missing: {exps}/zforcing: no result on test" in (exps / "rnn-0/report.html").read_text()


def test_without_dequantization_the_picture_is_of_nats(exps):
    for name in ("rnn-0", "zforcing"):
        evaluate(exps / name, json=exps / name / "results/test.json", device="cpu", draws=1, dequantize=False)
    report(exps / "rnn-0", compare=(exps / "zforcing",))
    html = (exps / "rnn-0/report.html").read_text()
    assert 'aria-label="Nats per frame' in html
    assert 'aria-label="Bits' not in html
