"""`zfaudio report`: an experiment on one HTML page that needs no other file."""

from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.files import write_text
from zfaudio.hub import on_hub
from zfaudio.reporting.gather import gather_page
from zfaudio.reporting.page import render_page


def report(
    exp: str | Path,
    *,
    compare: tuple[str | Path, ...] = (),
    group_seeds: bool = False,
    shards: str | Path = "",
    out: str | Path | None = None,
) -> Path:
    """Write an HTML page about an experiment: result, speech, training curves, configuration, command lines.

    Pictures and sound are inside the page. The page names what the experiment lacks.

    Args:
        exp: folder of the experiment.
        compare: experiments to compare it with in a table, as zfaudio compare does.
        group_seeds: in that table, average experiments that differ only in train.seed.
        shards: folder or address of the shards, of which real speech is shown; by default those that the model was
            trained on, if they were named on this machine before.
        out: file to write the page to; by default EXP/report.html.

    Returns:
        The file of the page.

    Raises:
        UserError: the folder is not an experiment.
    """
    exp = Path(exp)
    if on_hub(exp):
        raise UserError(f"{exp}: a model on the hub, whose page is its card; a report is of an experiment")
    if not exp.is_dir():
        raise UserError(f"{exp}: no such folder; give an experiment (the --exp of zfaudio train)")
    page = gather_page(exp, [Path(experiment) for experiment in compare], group_seeds, str(shards))
    if not (page.checkpoint or page.training_plots or page.scores or page.generated):
        raise UserError(f"{exp}: not an experiment (no checkpoint, metrics.csv, results or samples)")
    path = exp / "report.html" if out is None else Path(out)
    write_text(path, render_page(page))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    for messages in page.missing.values():
        print(*(f"    {message}" for message in messages), sep="\n")
    return path
