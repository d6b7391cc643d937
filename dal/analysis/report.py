"""Write a report: a page, figures and tables made of run directories alone."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pandas as pd

from dal.analysis.figures import figures_of, figures_over_settings
from dal.analysis.look import Look
from dal.analysis.page import Chapter, page
from dal.analysis.rendering import Drawing, render_all
from dal.analysis.runs import Runs
from dal.analysis.statistics import SETTING, warnings_about_seeds
from dal.analysis.tables import Tables, make_tables
from dal.analysis.verdict import verdict
from dal.files import make_folder, unwritable

WRITTEN = ".written"  # names of what a report wrote, for the next to remove
OWN = {"figures": (".png", ".pdf"), "tables": (".csv",)}


def write_report(
    runs: Runs,
    out: Path,
    *,
    metric: str = "test/accuracy",
    reference: str = "random",
    targets: Sequence[float] | None = None,
    refresh: float | None = None,
    on_figure: Callable[[int, int], None] | None = None,
) -> Tables:
    """Write `index.html`, `summary.csv`, `tables/` and `figures/`.

    Every file is replaced as a whole, the page last. What an earlier report wrote into `figures/`
    and `tables/` and this one does not have is removed, and nothing else.

    Args:
        runs: what was read.
        out: the folder; made if it is missing.
        metric: the column to compare; higher is better.
        reference: the strategy to compare with.
        targets: values that labels are counted to; None for some that are in reach.
        refresh: seconds after which a browser loads the page again; None: never.
        on_figure: called with the figures drawn and their number.

    Returns:
        The tables.

    Raises:
        ValueError: if no round has the metric, less of it is better, or a file cannot be written.
    """
    if not runs.n_finished:
        raise ValueError(f"none of {runs.begun} runs is finished; --watch waits for them")
    tables = make_tables(runs, metric=metric, reference=reference, targets=targets)
    files = {
        f"{'' if name == 'summary' else 'tables/'}{name}.csv": table.to_csv(index=False).encode()
        for name, table in tables.files().items()
    }
    look = Look(_best_first(tables.summary), reference)
    chapters = _draw(runs, tables, files, look, metric=metric, on_figure=on_figure)
    files["index.html"] = page(
        chapters,
        state=_state(runs, metric),
        warnings=warnings_about_seeds(tables.summary, reference),
        problems=tables.problems,
        reference=reference,
        refresh=refresh,
    ).encode()
    _write(out, files)
    return tables


def _draw(
    runs: Runs,
    tables: Tables,
    files: dict[str, bytes],
    look: Look,
    *,
    metric: str,
    on_figure: Callable[[int, int], None] | None,
) -> list[Chapter]:
    """Draw all figures, add their files, and give the page's chapters."""
    settings = [*runs.rounds[SETTING].drop_duplicates().itertuples(index=False, name=None)]
    folders = _folders(settings)
    over_all, lines = figures_over_settings(tables, look)
    drawings: list[Drawing] = []
    for names in settings:
        rounds = runs.rounds[(runs.rounds[SETTING] == [*names]).all(axis=1)]
        of_it = tables.of(names)
        drawings += figures_of(rounds, of_it, look, metric=metric, folder=folders[names])
    drawings += over_all
    pictures: dict[str, list[tuple[Drawing, str]]] = {}
    for number, (drawing, made) in enumerate(zip(drawings, render_all(drawings), strict=True)):
        pictures.setdefault(drawing.folder, []).append((drawing, made.pop("svg").decode()))
        place = f"figures/{drawing.folder}/" if drawing.folder else "figures/"
        files |= {f"{place}{drawing.name}.{kind}": made[kind] for kind in made}
        if on_figure:
            on_figure(number + 1, len(drawings))
    chapters = []
    for names in settings:
        summary, wanted = tables.of(names).summary, tables.targets.get(names, ())
        said = verdict(summary, look.reference, wanted)
        chapters.append(Chapter(_title(names), said, summary, wanted, pictures[folders[names]]))
    chapters.append(Chapter("Over settings", "", pd.DataFrame(), (), pictures.get("", []), lines))
    return chapters


def _best_first(summary: pd.DataFrame) -> list[str]:
    """Order strategies by their mean rank over settings."""
    ranks = summary.groupby(SETTING)["aubc_mean"].rank(ascending=False, pct=True)
    return [*ranks.groupby(summary["strategy"]).mean().sort_values(kind="stable").index]


def _title(names: Sequence[str]) -> str:
    experiment, dataset, model = names
    return f"{dataset}-{model} ({experiment})"


def _state(runs: Runs, metric: str) -> str:
    now = datetime.now(timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{runs.n_finished} of {runs.begun} runs finished; {metric}; written {now}"


def _folders(settings: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name a folder for each setting, of characters that any file system takes."""
    found: dict[tuple[str, ...], str] = {}
    for names in settings:
        plain = re.sub(r"[^\w.=+-]", "_", "-".join(names))
        while plain in found.values():
            plain += "_"
        found[names] = plain
    return found


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Replace files one by one, in order, and remove what an earlier report wrote."""
    file = out / WRITTEN
    try:
        there = file.read_text(errors="replace").splitlines() if file.is_file() else []
        old = [name for name in there if name not in files and _is_own(name)]
        _replace(file, "\n".join([*old, *files]).encode())  # killed on the way, none is forgotten
        for name, content in files.items():
            file = out / name
            _replace(file, content)
        for name in old:
            file = out / name
            file.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                file.parent.rmdir()
        file = out / WRITTEN
        _replace(file, "\n".join(files).encode())
    except OSError as error:
        raise unwritable(file, error) from error


def _replace(file: Path, content: bytes) -> None:
    make_folder(file.parent)
    partial = file.with_name(f".{file.name.removeprefix('.')}.partial")
    partial.write_bytes(content)
    partial.replace(file)


def _is_own(name: str) -> bool:
    """Say whether a name, which anybody may have changed, is one that reports give to files."""
    place = PurePosixPath(name)
    return ".." not in place.parts and place.suffix in OWN.get(name.partition("/")[0], ())
