"""A playbook's graph as a picture: text with rails for a terminal, DOT, Mermaid, and SVG that needs nothing else.

In: a `Plan`. Out: text. Sections are lanes in the order in which they open; forensics and the wait for authority stand side
by side, because they go on side by side. An edge that others imply is not drawn.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine import layers, words
from engine.look import Style, cells, cut, pad
from engine.plan import Plan
from engine.playbook import SECTIONS, WALKED, Step


@dataclass(frozen=True)
class Box:
    """One thing in the picture. `kind`: step, gate (a section opens), rescue, always, end (of a block), keys, message."""

    id: str
    kind: str
    lane: str
    label: str
    module: str = ""
    notes: tuple[str, ...] = ()
    at: str = ""
    chosen: bool = True
    depth: int = 0


@dataclass(frozen=True)
class Picture:
    """What is drawn: lanes by section, in order, and edges from earlier to later. A gate's id is its section's name."""

    title: str
    about: str
    lanes: Mapping[str, tuple[Box, ...]]
    says: Mapping[str, str]
    edges: tuple[tuple[str, str], ...]

    @property
    def boxes(self) -> dict[str, Box]:
        """Every box by its id."""
        return {box.id: box for lane in self.lanes.values() for box in lane}


def picture(plan: Plan) -> Picture:
    """The plan as boxes and edges; sections without steps are left out, and what stood before them leads past them."""
    book = plan.playbook
    lanes: dict[str, list[Box]] = {section: [] for section in SECTIONS}
    for node in plan.nodes.values():
        lanes[node.section].append(
            _step(plan, node.step, node.chosen) if node.step else _gate(plan, node.id, node.kind, node.section)
        )
    order = {name: i for i, name in enumerate(plan.nodes)}
    edges = sorted(((str(a), str(b)) for a, b in plan.outline().edges), key=lambda edge: (order[edge[0]], order[edge[1]]))
    mode, roles = book.authority.mode, book.authority.roles
    if mode != "automatic":
        notes = (f"from {' and '.join(roles)}", f"within {words.span(book.authority.expires)}")
        lanes["authority"].append(Box("authority", "keys", "authority", mode, "", notes))
        edges += [("forensics", "authority"), ("authority", "execution")]
    lanes["communications"] = [_message(step) for step in book.section("communications")]
    for section in (s for s in WALKED if len(lanes[s]) == 1):
        edges = _past(edges, section)
        lanes[section] = []
    hosts = (
        f", {words.plural(len(plan.hosts), 'host')} ({words.some([row.name for row in plan.hosts])})" if plan.hosts else ""
    )
    about = f"{book.strategy} rollback of {book.hosts}{hosts}"
    says = {section: row.says for section, row in SECTIONS.items()}
    if book.trigger_mode == "any":
        says["trigger"] += ": any of these"
    found = {section: tuple(boxes) for section, boxes in lanes.items() if boxes}
    return Picture(book.name, about, found, says, tuple(dict.fromkeys(edges)))


def _gate(plan: Plan, name: str, kind: str, section: str) -> Box:
    """A section's gate, or where a block's remedy, clean-up or end stands."""
    block = plan.playbook.blocks.get(name.rpartition(".")[0])
    short = name.partition("/")[2].rpartition(".")[0]
    label = {"rescue": f"if {short} failed", "always": f"always after {short}", "end": f"end of {short}"}.get(
        kind, f"{section} opens"
    )
    return Box(name, kind, section, label, depth=len(block.around) if block else 0)


def _past(edges: list[tuple[str, str]], gate: str) -> list[tuple[str, str]]:
    """The edges without `gate`: what led to it leads on."""
    before, after = [a for a, b in edges if b == gate], [b for a, b in edges if a == gate]
    return [edge for edge in edges if gate not in edge] + [(a, b) for a in before for b in after]


def _step(plan: Plan, step: Step, chosen: bool) -> Box:
    marks = {
        "no undo": plan.undo.get(step.id) is False and step.section == "execution",
        "once for all hosts of a batch": step.run_once,
        "for each item": step.loop is not None,
        f"when {' and '.join(step.when)}": bool(step.when),
        f"until {step.until}": bool(step.until),
        {"continue": "goes on after a failure", "undo": "a failure is undone"}.get(step.on_failure, ""): step.on_failure
        != "stop",
        "not chosen by the tags": not chosen,
    }
    notes = tuple(note for note, holds in marks.items() if holds)
    return Box(step.id, "step", step.section, step.name, step.module, notes, str(step.place()), chosen, len(step.arms))


def _message(step: Step) -> Box:
    return Box(step.id, "message", step.section, step.name, step.module, (f"on {', '.join(step.on)}",), str(step.place()))


# ------------------------------------------------------------------------------------------------- text
_ASCII = str.maketrans({"│": "|", "─": "-", "├": "+", "╮": ".", "╯": "'", "┬": "-", "┴": "-", "┼": "|", "●": "*", "○": "o"})


def text(plan: Plan, look: Style) -> str:
    """The graph with rails, one row a step. Without glyphs, for a screen reader, rows have numbers and name those before."""
    shown = picture(plan)
    title = textwrap.wrap(shown.title, look.width) + textwrap.wrap(shown.about, look.width)
    lines = [look.paint(title[0], "bold"), *title[1:]]
    rails, number = (
        _Rails(shown.edges),
        {box.id: i for i, box in enumerate((b for b in shown.boxes.values() if b.kind != "gate"), 1)},
    )
    for section, lane in shown.lanes.items():
        says = look.paint(cut(shown.says[section], look.width - cells(section) - 2), "quiet")
        lines += ["", f"{look.paint(section, 'bold')}  {says}"]
        rails.open(section)
        made: list[tuple[str, str]] = []
        for box in (box for box in lane if box.kind != "gate"):
            rows = _described(box, look)
            if not look.glyphs:
                after = [str(number[a]) for a, b in shown.edges if b == box.id and a in number]
                made += [
                    (str(number[box.id]), rows[0] + (f", after {', '.join(after)}" if after else "")),
                    *(("", row) for row in rows[1:]),
                ]
            elif box.kind in ("message", "keys"):
                made += [("○", rows[0]), *(("", row) for row in rows[1:])]
            else:
                made += rails.row(box, rows)
        widest = max((len(side) for side, _ in made), default=0)
        lines += [cut(f"{side:{widest}} {row}".rstrip(), look.width) for side, row in made]
    result = "\n".join(lines) + "\n"
    return result.translate(_ASCII) if look.ascii else result


def _described(box: Box, look: Style) -> list[str]:
    """A box in one line where the screen is wide; what is worth noting about it is below."""
    inside = "  " * box.depth
    if box.kind not in ("step", "message"):
        return [f"{inside}{box.label}" + (f"  {', '.join(box.notes)}" if box.notes else "")]
    ident = inside + box.id.partition("/")[2]
    wide = look.width >= 100
    row = (
        f"{pad(cut(ident, 36), 36)} {pad(cut(box.module, 20), 20)} {box.label}"
        if wide
        else f"{cut(ident, 40)}  {box.module}"
    )
    return [row, *(f"{inside}  {note}" for note in box.notes)]


class _Rails:
    """The rails to the left of a section's rows: one for each edge that has begun and not yet ended."""

    def __init__(self, edges: Iterable[tuple[str, str]]) -> None:
        self.after: dict[str, list[str]] = {}
        self.leads: list[str | None] = []  # what each rail leads to; None: a free place
        for a, b in edges:
            if "/" in b:  # that a section's last steps lead to the next section is said by the order of the sections
                self.after.setdefault(a, []).append(b)

    def open(self, gate: str) -> None:
        """A section opens: a rail for each step that may begin at once."""
        self.leads = [*self.after.get(gate, [])]

    def row(self, box: Box, rows: Sequence[str]) -> list[tuple[str, str]]:
        """The box's rows with the rails beside them, and lines where rails meet before it and part after it."""
        first, *others = [i for i, name in enumerate(self.leads) if name == box.id]
        made = [(self._joint(first, others, "╯", "┴"), "")] if others else []
        self.leads = [None if i in others else name for i, name in enumerate(self.leads)]
        mark = "●" if box.kind == "step" and box.chosen else "○"
        made.append((self._rails({first: mark}), rows[0]))
        after = self.after.get(box.id, [])
        self.leads[first] = after[0] if after else None
        made += [(self._rails({}), row) for row in rows[1:]]
        new = []
        for name in after[1:]:
            free = next((i for i in range(first + 1, len(self.leads)) if self.leads[i] is None), len(self.leads))
            self.leads[free : free + 1] = [name]
            new.append(free)
        return [*made, (self._joint(first, new, "╮", "┬"), "")] if new else made

    def _rails(self, marks: Mapping[int, str]) -> str:
        return " ".join(marks.get(i) or ("│" if name else " ") for i, name in enumerate(self.leads)).rstrip()

    def _joint(self, here: int, others: Sequence[int], corner: str, tee: str) -> str:
        """One line that joins the rail `here` with `others` to its right."""
        last, made = max(others), ""
        for i, name in enumerate(self.leads):
            sign = "│" if name else " "
            if here <= i <= last:
                sign = "├" if i == here else corner if i == last else tee if i in others else "┼" if name else "─"
            made += sign + ("─" if here <= i < last else " ")
        return made.rstrip()


# ------------------------------------------------------------------------------------------------- DOT and Mermaid
def dot(plan: Plan) -> str:
    """For Graphviz (https://graphviz.org/doc/info/lang.html): one cluster a section."""
    shown = picture(plan)
    lines = [
        f"digraph {_quoted(shown.title)} {{",
        f"  label={_quoted(shown.title + chr(10) + shown.about)}; labelloc=t;",
        '  fontname="sans-serif"; rankdir=TB;',
        '  node [fontname="sans-serif", fontsize=11, shape=box, style=rounded]; edge [arrowsize=0.7];',
    ]
    for section, lane in shown.lanes.items():
        label = _quoted(f"{section}: {shown.says[section]}")
        lines.append(f"  subgraph cluster_{section} {{ label={label}; color=gray;")
        lines += [f"    {_quoted(box.id)} [{_dot_look(box)}];" for box in lane]
        lines.append("  }")
    lines += [f"  {_quoted(a)} -> {_quoted(b)};" for a, b in shown.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_look(box: Box) -> str:
    shape = {"gate": "circle", "keys": "hexagon", "message": "note"}.get(box.kind, "oval" if box.kind != "step" else "box")
    if box.kind == "gate":
        return f'shape=circle, width=0.12, label="", tooltip={_quoted(box.label)}'
    style = "" if box.chosen else ", style=dashed"
    return f"shape={shape}, label={_quoted(chr(10).join(_said(box)))}{style}"


def _said(box: Box) -> list[str]:
    return [box.label, *([box.module] if box.module else []), *box.notes]


def _quoted(value: str) -> str:
    """A DOT string: a backslash in it is only a backslash, and a line break only that."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def mermaid(plan: Plan) -> str:
    """For Mermaid (https://mermaid.js.org/syntax/flowchart.html), which GitHub and GitLab draw in Markdown."""
    shown = picture(plan)
    number = {name: f"n{i}" for i, name in enumerate(shown.boxes)}
    around = {"step": '["{}"]', "gate": '(("{}"))', "keys": '{{{{"{}"}}}}', "message": '>"{}"]'}
    around |= dict.fromkeys(("rescue", "always", "end"), '(["{}"])')
    lines = ["---", f"title: {_plain(shown.title)}", "---", "flowchart TB"]
    for section, lane in shown.lanes.items():
        lines.append(f'  subgraph s_{section} ["{_escaped(f"{section}: {shown.says[section]}")}"]')
        for box in lane:
            said = "<br/>".join(_escaped(one) for one in _said(box)) if box.kind != "gate" else " "
            lines.append(f"    {number[box.id]}{around[box.kind].format(said)}")
        lines.append("  end")
    return "\n".join([*lines, *(f"  {number[a]} --> {number[b]}" for a, b in shown.edges)]) + "\n"


def _escaped(value: str) -> str:
    """Text inside a quoted Mermaid label: everything that it could take for syntax as an entity code."""
    return "".join(c if c.isalnum() or c in " .,:/_-" else f"#{ord(c)};" for c in value)


def _plain(value: str) -> str:
    """A title in the front matter, as a YAML text in double quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ------------------------------------------------------------------------------------------------- SVG
_WIDTH, _GAP, _LINE = 236.0, (26.0, 30.0), 16.0
_PAD, _HEAD = 18.0, 42.0  # inside a lane: at its sides and below, and above for its name
_ROWS = (("trigger",), ("forensics", "authority"), ("execution",), ("verification",), ("communications",))
_STYLE = """
svg{--ink:#1c2733;--quiet:#5b6770;--line:#8a96a0;--lane:#f4f6f8;--box:#fff;--bad:#a61b1b;--page:#fff}
@media (prefers-color-scheme:dark){
svg{--ink:#e6ebef;--quiet:#a9b4bd;--line:#6f7c87;--lane:#1c242c;--box:#26303a;--bad:#ff9c8f;--page:#12181e}}
text{font:13px system-ui,sans-serif;fill:var(--ink)}.title{font-size:18px;font-weight:600}
.name{font-weight:600;font-size:14px}
.quiet{fill:var(--quiet);font-size:12px;font-weight:400}.module{font:12px ui-monospace,monospace;fill:var(--quiet)}
.bad{fill:var(--bad);font-size:12px;font-weight:600}.page{fill:var(--page)}.tip{fill:var(--line)}
.lane{fill:var(--lane);stroke:var(--line);stroke-width:.75}.box{fill:var(--box);stroke:var(--ink)}.off{stroke-dasharray:4 3}
.edge{fill:none;stroke:var(--line);stroke-width:1.5;marker-end:url(#tip)}
"""
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>'
)


def svg(plan: Plan) -> str:
    """The picture as one SVG file without scripts, fonts or addresses: it follows the reader's light or dark."""
    shown = picture(plan)
    placed = {section: _placed(lane, shown.edges) for section, lane in shown.lanes.items()}
    wide = {section: one.width + 2 * _PAD for section, one in placed.items()}
    rows = [row for row in ([s for s in row if s in placed] for row in _ROWS) if row]
    width = max(sum(wide[s] for s in row) + _GAP[0] * (len(row) - 1) for row in rows)
    width = max(width, 9 * cells(shown.title), 6.5 * cells(shown.about), 420.0)
    parts, y, above = [], 74.0, list[layers.Point]()
    for row in rows:
        height, x, starts = max(placed[s].height for s in row) + _HEAD + _PAD, _PAD, list[layers.Point]()
        for section in row:
            own = wide[section] if section != row[0] else width - sum(wide[s] + _GAP[0] for s in row[1:])
            parts.append(_lane(shown, section, placed[section], (x, y, own, height)))
            starts.append((x + own / 2, y))
            x += own + _GAP[0]
        if row != ["communications"]:  # messages hang on events, not on the sections above them
            parts += [_edge((end, start)) for end in above for start in starts]
            above = [(middle, y + height) for middle, _ in starts]
        y += height + _GAP[1]
    whole = f"{width + 2 * _PAD:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{y:.0f}" viewBox="0 0 {whole} {y:.0f}" role="img">'
        f'<title>{_xml(shown.title)}</title><style>{_STYLE}</style>{_TIP}<rect class="page" width="100%" height="100%"/>'
        f'<text class="title" x="{_PAD}" y="34">{_xml(shown.title)}</text>'
        f'<text class="quiet" x="{_PAD}" y="56">{_xml(shown.about)}</text>{"".join(parts)}</svg>\n'
    )


def _placed(lane: Sequence[Box], edges: Iterable[tuple[str, str]]) -> layers.Placed:
    sizes = {box.id: (_WIDTH, len(_lines(box)) * _LINE + 14) for box in lane if box.kind != "gate"}
    first = {box.id: i // 3 for i, box in enumerate(lane) if box.kind == "message"}
    return layers.place(sizes, [(a, b) for a, b in edges if a in sizes and b in sizes], _GAP, first)


def _lines(box: Box) -> list[tuple[str, str]]:
    """(class, text) of every line in the box."""
    if box.kind not in ("step", "message", "keys"):
        return [("quiet", line) for line in _wrapped(box.label, 32)]
    lines = [("name" if box.kind == "keys" else "", line) for line in _wrapped(box.label, 29)]
    lines += [("module", line) for line in _wrapped(box.module, 29) if line]
    return lines + [("bad" if note == "no undo" else "quiet", line) for note in box.notes for line in _wrapped(note, 33)]


def _wrapped(value: str, columns: int) -> list[str]:
    """The text in lines that fit a box, no more than needed and about as long as each other; wide characters count twice."""
    most = max(columns * len(value) // max(cells(value), 1), 6)
    needed = len(textwrap.wrap(value, most))
    return next((lines for width in range(6, most + 1) if len(lines := textwrap.wrap(value, width)) == needed), [""])


def _lane(shown: Picture, section: str, placed: layers.Placed, frame: tuple[float, float, float, float]) -> str:
    """A lane with its boxes; `frame` is its place on the page (x, y, width, height)."""
    x, y, width, height = frame
    dx, dy = x + (width - placed.width) / 2, y + _HEAD
    off = " off" if section == "communications" else ""
    says = f'<tspan class="quiet" dx="8">{_xml(shown.says[section])}</tspan>' if width > 330 else ""
    boxes = [_box(box, placed.spots[box.id], dx, dy) for box in shown.lanes[section] if box.id in placed.spots]
    return (
        f'<rect class="lane{off}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
        f'<text class="name" x="{x + 14:.1f}" y="{y + 23:.1f}">{section}{says}</text>'
        + "".join(_edge([(px + dx, py + dy) for px, py in way]) for way in placed.ways.values())
        + "".join(boxes)
    )


def _box(box: Box, spot: layers.Spot, dx: float, dy: float) -> str:
    x, y = spot.x + dx, spot.y + dy
    corner = {"step": 4.0, "message": 4.0, "keys": 12.0}.get(box.kind, spot.height / 2)
    off = " off" if box.kind == "message" or not box.chosen else ""
    texts = "".join(
        f'<text class="{name}" x="{x:.1f}" y="{y + 19 + i * _LINE:.1f}" text-anchor="middle">{_xml(line)}</text>'
        for i, (name, line) in enumerate(_lines(box))
    )
    return (
        f"<g><title>{_xml(f'{box.id} {box.at}'.strip())}</title>"
        f'<rect class="box{off}" x="{x - spot.width / 2:.1f}" y="{y:.1f}" width="{spot.width:.1f}"'
        f' height="{spot.height:.1f}" rx="{corner:.1f}"/>{texts}</g>'
    )


def _edge(points: Sequence[layers.Point]) -> str:
    """A smooth line downwards through the points."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (ax, ay), (bx, by) in pairwise(points):
        half = (by - ay) / 2
        bend = f"C{ax:.1f} {ay + half:.1f} {bx:.1f} {by - half:.1f} {bx:.1f} {by:.1f}"
        path += f"L{bx:.1f} {by:.1f}" if abs(ax - bx) < 0.5 else bend
    return f'<path class="edge" d="{path}"/>'


def _xml(value: str) -> str:
    """Text for XML: escaped, and without the control characters that XML cannot hold."""
    return html.escape("".join(c if c.isprintable() else " " for c in value))
