"""The page of a report: one file of HTML that asks for nothing outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from dal.analysis.labels_to_target import show_labels
from dal.analysis.rendering import Drawing

STYLE = """
:root { color-scheme: light dark; --ink: #1b1c1d; --muted: #6b6f73; --rule: #dcddde;
  --paper: #fff; --sheet: #f6f6f4; --warm: #9a4d00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e9e6; --muted: #9fa3a7; --rule: #3a3c3e;
  --paper: #161718; --sheet: #1e2021; --warm: #f0a860; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p, li { max-width: 46rem; }
a { color: inherit; }
.quiet, figcaption { color: var(--muted); font-size: .85rem; line-height: 1.4; }
.verdict { background: var(--sheet); border-left: 4px solid #0072B2; padding: .8rem 1rem;
  margin: .8rem 0; }
.verdict p { margin: .2rem 0; font-size: 1.05rem; }
.warning { border-left-color: #E69F00; }
.figures { display: grid; gap: 2.2rem 2rem; margin-top: 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; max-width: 46rem; }
figcaption { margin-top: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.reference td { font-weight: 600; }
code { font-size: .9em; }
"""
DEFINITIONS = """
<dl>
<dt>Area under the curve</dt><dd>Trapezoids over the label axis, divided by its width: the mean
accuracy over the budgets that most runs of a setting cover. A run that does not cover them is in
no mean.</dd>
<dt>Difference</dt><dd>Mean over the seeds that a strategy and the reference share; equal seeds
start from equal labels and weights. Interval and p: paired t. Effect: mean over standard deviation
of the differences. Holm corrects p for the number of strategies of the setting.</dd>
<dt>Enough seeds</dt><dd>Five paired seeds to claim a difference from the reference, ten to order
strategies; with fewer, chance decides rankings.</dd>
<dt>Labels to a target</dt><dd>The first measured budget at which a run reaches it, the median over
seeds; a run that does not reach it counts as never. Saving: labels over the reference's, geometric
mean over the seeds; below 1 is fewer. Where one of both never gets there the last budget stands for
it and the ratio is a bound; where neither does in half of the seeds or more, nothing is said.</dd>
</dl>
<p class="quiet">The figures are in <code>figures/</code> as PNG and PDF, the tables in
<code>summary.csv</code> and <code>tables/</code>.</p>
"""


@dataclass(frozen=True)
class Chapter:
    """A part of the page.

    Args:
        title: above it.
        verdict: what it found, in words.
        summary: its rows of the table, or none.
        targets: those of the summary to show.
        figures: drawings and their SVG.
        lines: what else is to be said.
    """

    title: str
    verdict: str
    summary: pd.DataFrame
    targets: Sequence[float]
    figures: Sequence[tuple[Drawing, str]]
    lines: Sequence[str] = ()


def page(
    chapters: Sequence[Chapter],
    *,
    state: str,
    warnings: Sequence[str],
    problems: Sequence[str],
    reference: str,
    refresh: float | None = None,
) -> str:
    """Write the page.

    Args:
        chapters: one per setting, and what is over all.
        state: what was read, and when.
        warnings: about too few seeds.
        problems: what is missing.
        reference: the strategy compared with.
        refresh: seconds after which a browser loads it again; None: never.
    """
    again = f'<meta http-equiv="refresh" content="{refresh:.0f}">' if refresh else ""
    missing = (
        f'<p class="quiet"><a href="#missing">{len(problems)} thing{"s" * (len(problems) != 1)} '
        f"missing or unlike</a></p>"
        if problems
        else ""
    )
    body = [
        f"<h1>Which strategy?</h1><p class='quiet'>{escape(state)}</p>",
        *(
            f'<div class="verdict"><h3>{escape(chapter.title)}</h3>'
            f"<p>{escape(chapter.verdict)}</p></div>"
            for chapter in chapters
            if chapter.verdict
        ),
        _list("verdict warning", warnings),
        missing,
        *(_chapter(chapter, reference) for chapter in chapters),
        '<h2 id="missing">What is missing</h2>',
        _list("", problems) or "<p>Nothing: all runs that were begun are finished and alike.</p>",
        f"<h2>What the words mean</h2>{DEFINITIONS}",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{again}<title>Which strategy?</title><style>{STYLE}</style></head><body>"
    )
    return head + "\n".join(body) + "</body></html>\n"


def _chapter(chapter: Chapter, reference: str) -> str:
    figures = "".join(
        f"<figure><h3>{escape(drawing.title)}</h3>{svg}"
        f"<figcaption>{escape(drawing.note)}</figcaption></figure>"
        for drawing, svg in chapter.figures
    )
    return (
        f"<h2>{escape(chapter.title)}</h2>{_table(chapter, reference)}"
        f'{_list("quiet", chapter.lines)}<div class="figures">{figures}</div>'
    )


def _list(style: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="{style}"><ul>{items}</ul></div>'


def _table(chapter: Chapter, reference: str) -> str:
    if chapter.summary.empty:
        return ""
    rows = [row_of(line, chapter.targets) for _, line in chapter.summary.iterrows()]
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = "".join(
        f"<tr{' class=reference' * (row['strategy'] == reference)}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row.values())
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def row_of(line: pd.Series, targets: Sequence[float]) -> Mapping[str, str]:
    """Write a row of the summary for people: what a column is called -> its text."""

    def number(name: str, form: str) -> str:
        return "" if pd.isna(line[name]) else format(line[name], form)

    sd, gain = number("aubc_sd", ".3f"), number("aubc_diff", "+.3f")
    interval = f" [{line.ci_low:+.3f}, {line.ci_high:+.3f}]" if pd.notna(line.ci_low) else ""
    p = "< 0.001" if line.p_holm < 0.001 else number("p_holm", ".3f")
    cells = {
        "strategy": str(line.strategy),
        "seeds": str(line.n_seeds)
        if line.n_seeds == line.n_runs
        else f"{line.n_seeds} of {line.n_runs}",
        "area": number("aubc_mean", ".3f") + (f" ± {sd}" if sd else ""),
        "difference [95 %]": gain + interval,
        "effect": number("effect_size", "+.2f"),
        "p (Holm)": p,
        "at the end": number("final_mean", ".3f"),
    }
    for target in targets:
        cells[f"labels to {target:g}"] = show_labels(line[f"labels_to_{target:g}"])
        bound = str(line[f"saving_bound_{target:g}"])
        saving = number(f"saving_{target:g}", ".2f")
        cells[f"saving to {target:g}"] = f"{bound} {saving}".strip() if saving else ""
    return cells
