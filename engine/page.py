"""A report as one HTML file: no script, no outside asset, legible in the dark, on a phone and in grey print.

In: the parts of an account and the pictures. Out: the text of the page. Everything that came from outside is escaped here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from engine import diagnostics
from engine.account import Part, Row

_STYLE = """
:root { --ink: #1b1f24; --quiet: #57606a; --paper: #fff; --panel: #f6f8fa; --line: #d0d7de; --good: #1a7f37; --bad: #b42318;
  --warn: #8a5a00; --curve: #0b57d0; --zone: #b423180d; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --quiet: #9aa7b4; --paper: #0f1419; --panel: #171d24;
  --line: #38424d; --good: #4ac26b; --bad: #ff8a80; --warn: #e3b341; --curve: #79b8ff; --zone: #ff8a8014; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.2rem 4rem; max-width: 64rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
a { color: var(--curve); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .2rem 0 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
.over { color: var(--quiet); margin: 0; }
.outcome { font-size: 1.15rem; font-weight: 600; margin: .8rem 0 1.2rem; padding: .6rem .9rem; background: var(--panel);
  border-left: .4rem solid var(--bad); }
.outcome.good { border-color: var(--good); }
.outcome.warn { border-color: var(--warn); }
.facts { display: grid; grid-template-columns: minmax(9rem, auto) 1fr; gap: .5rem 1.2rem; margin: 0; }
.facts dt { font-weight: 600; }
.facts dd { margin: 0; }
nav { margin: 1.6rem 0 0; font-size: .9rem; }
nav a { margin-right: .9rem; white-space: nowrap; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--quiet); font-weight: 600; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em; }
.short { white-space: nowrap; }
.time { white-space: nowrap; font-variant-numeric: tabular-nums; }
td, th { overflow-wrap: break-word; }
.digest { font: .8rem ui-monospace, "Liberation Mono", monospace; overflow-wrap: anywhere; }
tr.bad td:first-child { box-shadow: -.6rem 0 0 var(--paper), -.8rem 0 0 var(--bad); }
tr.warn td:first-child { box-shadow: -.6rem 0 0 var(--paper), -.8rem 0 0 var(--warn); }
tr.decision td:first-child { box-shadow: -.6rem 0 0 var(--paper), -.8rem 0 0 var(--curve); }
tr.bad .word { color: var(--bad); font-weight: 600; }
tr.warn .word { color: var(--warn); font-weight: 600; }
tr.decision .word { font-weight: 600; }
tr:has(:target), li:has(:target) { background: var(--panel); outline: 2px solid var(--curve); }
summary { cursor: pointer; color: var(--quiet); }
details ul { columns: 12rem; margin: .3rem 0; padding-left: 1.1rem; }
figure { margin: 2rem 0 0; }
figcaption { font-size: .9rem; }
figcaption p { margin: .2rem 0; color: var(--quiet); }
figcaption ol { margin: .6rem 0; padding-left: 1.6rem; }
figcaption li { padding-left: .3rem; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
.narrow { display: none; }
svg.picture { display: block; max-width: 100%; height: auto; font: 12px system-ui, "Liberation Sans", sans-serif; }
svg text { fill: var(--ink); }
svg .tick, svg .note { fill: var(--quiet); }
svg .name, svg .label, svg .section { font-weight: 600; }
svg .section { font-size: 11px; fill: var(--quiet); }
svg .plot { fill: none; stroke: var(--line); }
svg .zone { fill: var(--zone); }
svg .grid { stroke: var(--line); stroke-width: .6; }
svg .rule { stroke: var(--line); }
svg .mark { stroke: var(--quiet); stroke-dasharray: 2 3; }
svg .lead { stroke: var(--quiet); }
svg .number { fill: var(--ink); }
svg .numeral { fill: var(--paper); font-weight: 700; font-size: 11px; }
svg .curve { fill: none; stroke: var(--curve); stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
svg .other { stroke-width: 1; opacity: .45; }
svg .limit { stroke-width: 1.4; }
svg .limit.alarm { stroke: var(--bad); stroke-dasharray: 7 4; }
svg .limit.wanted { stroke: var(--good); stroke-dasharray: 10 3 2 3; }
svg .label.alarm { fill: var(--bad); }
svg .label.wanted { fill: var(--good); }
svg .label.value { fill: var(--curve); }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg .bar { stroke-width: 1.4; }
svg .good { fill: var(--good); stroke: var(--good); }
svg .warn { fill: var(--warn); stroke: var(--warn); }
svg .quiet { fill: var(--quiet); stroke: var(--quiet); }
svg .bad { stroke: var(--bad); }
svg .hatch { stroke: var(--bad); stroke-width: 3; }
svg .hollow, svg .dotted, svg .hatch-paper { fill: var(--paper); }
svg .dotted { stroke: var(--ink); stroke-dasharray: 2 2; }
@media (max-width: 44rem) {
  h1 { font-size: 1.35rem; }
  .wide { display: none; }
  .narrow { display: block; }
  .facts { grid-template-columns: 1fr; gap: .1rem; }
  .facts dd { margin-bottom: .7rem; }
  thead { position: absolute; left: -9999px; }
  table, tbody, tr, td { display: block; }
  tr { padding: .5rem 0 .5rem .6rem; border-bottom: 1px solid var(--line); border-left: .25rem solid transparent; }
  td { border: 0; padding: .05rem 0; }
  td:empty { display: none; }
  td[data-name]::before { content: attr(data-name) " "; color: var(--quiet); font-size: .8rem; }
  tr td:first-child { box-shadow: none !important; }
  tr.bad { border-left-color: var(--bad); }
  tr.warn { border-left-color: var(--warn); }
  tr.decision { border-left-color: var(--curve); }
}
@media print {
  :root { --ink: #000; --quiet: #333; --paper: #fff; --panel: #fff; --line: #999; --good: #333; --bad: #000; --warn: #555;
    --curve: #000; --zone: #0001; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  a { text-decoration: none; color: inherit; }
  tr, figure { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def text(value: str, limit: int = 600) -> str:
    """Text from anywhere: control and invisible characters shown as such, cut, escaped."""
    return html.escape(diagnostics.printable(value, limit))


def document(
    title: str,
    over: str,
    outcome: tuple[str, str],
    facts: Sequence[tuple[str, str]],
    figure: str,
    parts: Sequence[Part],
    foot: str,
) -> str:
    """The whole page. `outcome`: the line and its tone (good, bad, warn); `figure`: trusted markup from `picture`."""
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(said, 2000)}</dd>" for name, said in facts)
    links = "".join(f'<a href="#{part.key}">{text(part.title)}</a> ' for part in parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{text(over)}: {text(outcome[0])}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">
<style>{_STYLE}</style>
</head>
<body>
<header><p class="over">{text(over)}</p><h1>{text(title)}</h1></header>
<main>
<p class="outcome {outcome[1]}">{text(outcome[0])}</p>
<dl class="facts">{listed}</dl>
<nav aria-label="Sections">{links}</nav>
{figure}
{"".join(_section(part) for part in parts)}</main>
<footer>{text(foot, 1000)}</footer>
</body>
</html>
"""


def _section(part: Part) -> str:
    lead = "".join(f"<p>{text(said, 2000)}</p>" for said in part.lead)
    body = table(part.columns, part.rows, part.key == "timeline") if part.rows else ""
    return f'<section aria-labelledby="{part.key}"><h2 id="{part.key}">{text(part.title)}</h2>{lead}{body}</section>\n'


def table(columns: Sequence[str], rows: Sequence[Row], anchors: bool = False) -> str:
    """A table that becomes a list of cards on a narrow screen. `anchors`: its rows are where the entries stand; the rows of
    other tables only point there."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    body = "".join(_row(columns, row, anchors) for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


# The name of a column -> the class of its cells.
_KINDS = {
    **dict.fromkeys(("Time (UTC)", "Written", "Made (UTC)"), "time"),
    **dict.fromkeys(("Outcome", "Verdict", "State"), "word"),
    "What": "word short",
    **dict.fromkeys(("sha256", "Version or digest", "SSH key"), "digest"),
    **dict.fromkeys(("As", "Person"), "short"),
}


def _row(columns: Sequence[str], row: Row, anchors: bool) -> str:
    cells = []
    for i, (name, cell) in enumerate(zip(columns, row.cells, strict=True)):
        # Names of steps are long words: they may be broken where they have a joint.
        shown = text(cell).replace("/", "/<wbr>").replace("_", "_<wbr>")
        if i == 0 and row.seq:
            shown = f'{_anchors(row.seq) if anchors else ""}<a href="#e{row.seq[-1]}">{shown}</a>'
        if row.more and i == len(row.cells) - 1:
            items = "".join(f"<li>{_anchors(seqs)}{text(said)}</li>" for seqs, said in row.more)
            shown += f"<details><summary>all {len(row.more)}</summary><ul>{items}</ul></details>"
        cells.append(f'<td{_attribute("class", _KINDS.get(name, ""))} data-name="{text(name)}">{shown}</td>')
    return f"<tr{_attribute('class', row.tone)}>{''.join(cells)}</tr>"


def _anchors(seqs: Sequence[int]) -> str:
    return "".join(f'<a id="e{seq}"></a>' for seq in seqs)


def _attribute(name: str, value: str) -> str:
    return f' {name}="{value}"' if value else ""
