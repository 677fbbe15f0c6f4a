"""The picture of a playbook: the same steps and edges in all four forms, and each form sound in itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine import drawing, look, plan
from engine.cli import main, opening
from engine.diagnostics import Diagnostic
from engine.layout import Options
from engine.look import Style
from engine.plan import Plan

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
#: Every kind of node there is, and names that are syntax in one of the forms.
FULL = """\
name: 'A "quoted" & <marked> {{name}} \\ with | everything; #1'
strategy: version
hosts: scoring
trigger:
  any:
    - {name: One, prometheus.metric: {server: http://x.example, query: a, below: 1}}
    - {name: Two, prometheus.metric: {server: http://x.example, query: b, below: 1}}
forensics:
  - {name: Keep a, http.capture: {url: http://x.example/a, as: a.txt}}
  - {name: Keep b, http.capture: {url: http://x.example/a, as: b.txt}, needs: []}
  - {name: Keep c, http.capture: {url: http://x.example/a, as: c.txt}, needs: [keep_a, keep_b]}
authority: {mode: two-key, roles: [ml-oncall, fraud-risk], expires: 30m}
execution:
  - name: Choose
    last_good: {of: directory.current, with: {path: reg}}
    register: target
  - name: 'Say "no" to <b>others</b> & wait \\n; drop]'
    id: freeze
    http.resource: {url: http://x.example/freeze, fields: {frozen: "yes"}}
    needs: []
  - name: Move
    block:
      - {name: Point at it, directory.current: {path: reg, version: "{{ target.version }}"}}
      - name: Load it
        v2.model: {url: http://x.example, model: m, version: "{{ target.version }}", probe: [[1]]}
        when: target.version != "3"
    rescue:
      - {name: Restart, command: {argv: [restart], once: true}}
    always:
      - {name: Wait for it, wait: {for: 1s}}
  - {name: Warm a, command: {argv: [warm], creates: a}, needs: [move, freeze], on_failure: continue}
  - {name: Warm b, command: {argv: [warm], creates: b}, needs: [move]}
  - name: Flush
    command: {argv: [flush, "{{ item }}"], creates: "c{{ item }}"}
    loop: [one, two]
    run_once: true
    needs: [warm_a, warm_b, choose]
verification:
  - {name: Golden, golden.predictions: {url: http://x.example, data: g.jsonl, metric: accuracy, at_least: 0.9, model: m}}
  - {name: Fast, benchmark.latency: {url: http://x.example, probe: [[1]], p99_below: 1s, model: m}, needs: []}
communications:
  - {name: Tell, on: [failed, succeeded], notify: {to: chat, message: hi}}
"""


def _plan(folder: Path, text: str, options: Options | None = None) -> Plan:
    file = folder / "playbook.yml"
    file.write_text(text)
    modules, found = opening.catalog(file), list[Diagnostic]()
    book = opening.read(file, modules, found)
    assert book is not None
    made = plan.check(book, modules, (), options or Options(), found)
    assert [] == found
    return made


def _chain(folder: Path, *needs: str) -> Plan:
    """A playbook of file steps: `a`, `b:a` (b needs a), `c:` (c needs nothing)."""
    steps = ""
    for word in needs:
        name, colon, before = word.partition(":")
        steps += (
            f"  - {{name: {name}, file: {{path: {name}, content: x}}" + (f", needs: [{before}]" if colon else "") + "}\n"
        )
    return _plan(folder, f"name: n\nstrategy: configuration\nhosts: all\nexecution:\n{steps}")


@pytest.fixture
def full(tmp_path: Path) -> Plan:
    return _plan(tmp_path, FULL)


STEPS = [
    *("trigger/one", "trigger/two", "forensics/keep_a", "forensics/keep_b", "forensics/keep_c"),
    *("execution/choose", "execution/freeze", "execution/point_at_it", "execution/load_it", "execution/restart"),
    *("execution/wait_for_it", "execution/warm_a", "execution/warm_b", "execution/flush"),
    *("verification/golden", "verification/fast", "communications/tell"),
]


# ------------------------------------------------------------------------------------------------- what is in it
def test_every_step_is_a_box_in_the_lane_of_its_section(full: Plan) -> None:
    """Sections in their order, authority among them, messages without edges."""
    shown = drawing.picture(full)
    assert ["trigger", "forensics", "authority", "execution", "verification", "communications"] == list(shown.lanes)
    boxes = [box for lane in shown.lanes.values() for box in lane]
    assert STEPS == [box.id for box in boxes if box.kind in ("step", "message")]
    assert all(box.id.partition("/")[0] == box.lane for box in boxes if "/" in box.id)
    assert not [edge for edge in shown.edges if "communications/tell" in edge]
    assert {"authority"} == {b for a, b in shown.edges if a == "forensics" and "/" not in b}
    assert ("authority", "execution") in shown.edges


def test_only_edges_that_no_others_imply_are_drawn(full: Plan) -> None:
    """`flush` needs three steps, but `choose` has long been done when the other two are."""
    edges = drawing.picture(full).edges
    assert {"execution/warm_a", "execution/warm_b"} == {a for a, b in edges if b == "execution/flush"}
    assert {"execution/choose", "execution/freeze"} == {a for a, b in edges if b == "execution/point_at_it"}
    assert ("execution/freeze", "execution/warm_a") not in edges


def test_what_is_worth_noting_stands_at_the_step(full: Plan) -> None:
    """No undo, conditions, loops, what a failure means."""
    boxes = drawing.picture(full).boxes
    assert ("no undo", "goes on after a failure") == boxes["execution/warm_a"].notes
    assert ("no undo", "once for all hosts of a batch", "for each item") == boxes["execution/flush"].notes
    assert ('when target.version != "3"',) == boxes["execution/load_it"].notes
    assert () == boxes["execution/point_at_it"].notes
    assert ("on failed, succeeded",) == boxes["communications/tell"].notes
    assert "if move failed" == boxes["execution/move.rescue"].label
    assert boxes["execution/load_it"].at.endswith("playbook.yml:24:9")


def test_steps_that_the_tags_leave_out_are_marked(tmp_path: Path) -> None:
    """They stay in the picture, as what they are."""
    text = "name: n\nstrategy: configuration\nhosts: all\nexecution:\n"
    text += "  - {name: a, file: {path: a, content: x}, tags: [fast]}\n  - {name: b, file: {path: b, content: x}}\n"
    made = _plan(tmp_path, text, Options(tags=("fast",)))
    boxes = drawing.picture(made).boxes
    assert boxes["execution/a"].chosen
    assert not boxes["execution/b"].chosen
    assert "not chosen by the tags" in boxes["execution/b"].notes
    assert "○ b" in drawing.text(made, Style(width=80))


def test_a_section_without_steps_is_no_lane_and_no_break_in_the_way(tmp_path: Path) -> None:
    """With execution alone nothing leads from nowhere to nowhere."""
    shown = drawing.picture(_chain(tmp_path, "a", "b"))
    assert ["execution"] == list(shown.lanes)
    assert (("execution", "execution/a"), ("execution/a", "execution/b")) == shown.edges


# ------------------------------------------------------------------------------------------------- text
def test_rails_part_and_meet_again(tmp_path: Path) -> None:
    """A diamond, and beside it a step that waits for nothing."""
    shown = drawing.text(_chain(tmp_path, "a:", "b:a", "c:a", "d:b,c", "e:"), Style(width=80))
    assert [
        "execution  what is changed",
        "● │   a  file",
        "├─┼─╮",
        "● │ │ b  file",
        "│ │ ● c  file",
        "├─┼─╯",
        "● │   d  file",
        "  ●   e  file",
    ] == shown.splitlines()[3:]


def test_a_chain_is_one_rail(tmp_path: Path) -> None:
    """Nothing but the steps, one below the other."""
    assert ["● a  file", "● b  file", "● c  file"] == drawing.text(_chain(tmp_path, *"abc"), Style(width=80)).splitlines()[
        4:
    ]


def test_a_rail_goes_past_a_step_that_it_does_not_lead_to(tmp_path: Path) -> None:
    """`d` waits for `a` alone, over `b` and `c`."""
    lines = drawing.text(_chain(tmp_path, "a:", "b:a", "c:b", "d:a"), Style(width=80)).splitlines()[4:]
    assert ["●   a  file", "├─╮", "● │ b  file", "● │ c  file", "  ● d  file"] == lines


@pytest.mark.parametrize("width", [40, 80, 120])
def test_text_keeps_to_the_screen(full: Plan, width: int) -> None:
    """No line is wider, and every step is there, if need be cut."""
    lines = drawing.text(full, Style(width=width)).splitlines()
    assert max(map(look.cells, lines)) <= width
    for name in STEPS:
        assert any(re.search(rf"[●○] .*{name.partition('/')[2][:9]}", line) for line in lines), name


def test_text_without_glyphs_says_what_follows_what(full: Plan) -> None:
    """Numbered rows for a screen reader: no rail, no glyph."""
    shown = drawing.text(full, Style(width=100, glyphs=False))
    assert re.search(r"^5 keep_c .*, after 3, 4$", shown, re.MULTILINE)
    assert not set("●○│├╮╯─") & set(shown)


def test_text_for_ascii_terminals_has_rails_too(tmp_path: Path) -> None:
    """The same picture in other characters."""
    shown = drawing.text(_chain(tmp_path, "a:", "b:a", "c:a", "d:b,c"), Style(width=80, ascii=True))
    assert ["*   a  file", "+-.", "* | b  file", "| * c  file", "+-'", "*   d  file"] == shown.splitlines()[4:]


# ------------------------------------------------------------------------------------------------- DOT, Mermaid
_STRING = r'"(?:[^"\\]|\\.)*"'


def test_dot_holds_the_same_graph_and_quotes_every_name(full: Plan) -> None:
    """Its strings are closed, its braces are balanced, and its nodes and edges are the picture's."""
    made, shown = drawing.dot(full), drawing.picture(full)
    bare = re.sub(_STRING, "S", made)
    assert '"' not in bare
    assert bare.count("{") == bare.count("}")
    nodes = re.findall(rf"^    ({_STRING}) \[", made, re.MULTILINE)
    assert [f'"{name}"' for name in shown.boxes] == nodes
    edges = re.findall(rf"^  ({_STRING}) -> ({_STRING});$", made, re.MULTILINE)
    assert [(f'"{a}"', f'"{b}"') for a, b in shown.edges] == edges
    assert 'label="Say \\"no\\" to <b>others</b> & wait \\\\n; drop]\\nhttp.resource"' in made


def test_mermaid_holds_the_same_graph_and_only_harmless_labels(full: Plan) -> None:
    """A label holds letters, digits, plain punctuation and entity codes; names are numbers."""
    made, shown = drawing.mermaid(full), drawing.picture(full)
    head, _, body = made.partition("flowchart TB\n")
    assert 'title: "A \\"quoted\\" & <marked> {{name}} \\\\ with | everything; #1"' in head
    for label in re.findall(r'"(.*)"', body):
        assert re.fullmatch(r"(?:[\w .,:/-]|#\d+;|<br/>)*", label), label
    number = {name: f"n{i}" for i, name in enumerate(shown.boxes)}
    assert [(number[a], number[b]) for a, b in shown.edges] == re.findall(r"^  (n\d+) --> (n\d+)$", body, re.MULTILINE)
    assert len(shown.boxes) == len(re.findall(r"^    n\d+\W", body, re.MULTILINE))
    assert "Say #34;no#34; to #60;b#62;others#60;/b#62; #38; wait #92;n#59; drop#93;" in body


# ------------------------------------------------------------------------------------------------- SVG
def _rects(root: ElementTree.Element, kind: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of the rectangles of a class."""
    found = []
    for rect in root.iter(f"{SVG}rect"):
        if kind in rect.get("class", "").split():
            x, y, width, height = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def test_the_svg_is_sound_and_needs_nothing_else(full: Plan) -> None:
    """Well-formed, no script, no address, every name as text."""
    made = drawing.svg(full)
    root = ElementTree.fromstring(made)
    assert f"{SVG}svg" == root.tag
    assert not [one for one in root.iter() if one.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}use", f"{SVG}foreignObject")]
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"https?://[^\"\s<]*", made)
    assert not re.search(r"\bon\w+=|href=|@import|url\((?!#)", made)
    said = " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))
    for name in ("Keep c", 'Say "no" to', "<b>others</b>", "two-key", "end of move", "no undo", "on failed, succeeded"):
        assert name in said
    tips = [one.findtext(f"{SVG}title", "") for one in root.iter(f"{SVG}g")]
    assert any(re.fullmatch(r"execution/load_it .*playbook\.yml:24:9", tip) for tip in tips)


@pytest.mark.parametrize("name", ["full", *(file.name for file in sorted((ROOT / "playbooks").glob("*.yml")))])
def test_boxes_stand_in_their_lanes_and_nothing_overlaps(name: str, tmp_path: Path) -> None:
    """Lanes are inside the page, boxes inside lanes, and no two boxes or lanes share a place."""
    made = _plan(tmp_path, FULL if name == "full" else (ROOT / "playbooks" / name).read_text())
    root = ElementTree.fromstring(drawing.svg(made))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    lanes, boxes = _rects(root, "lane"), _rects(root, "box")
    assert len(boxes) == len([box for box in drawing.picture(made).boxes.values() if box.kind != "gate"])
    for left, top, right, bottom in lanes:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    for box in boxes:
        inside = [lane for lane in lanes if lane[0] < box[0] and lane[1] < box[1] and lane[2] > box[2] and lane[3] > box[3]]
        assert 1 == len(inside)
    for group in (lanes, boxes):
        for i, a in enumerate(group):
            assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in group[:i])


def test_long_names_are_wrapped_into_their_box(tmp_path: Path) -> None:
    """No line of a label is longer than the box is wide, wide characters included."""
    text = "name: n\nstrategy: configuration\nhosts: all\nexecution:\n"
    text += f"  - {{name: {'a long name for a step ' * 5}, id: a, file: {{path: a, content: x}}}}\n"
    text += f"  - {{name: {'不正な取引のモデル' * 6}, id: b, file: {{path: a, content: x}}}}\n"
    text += f"  - {{name: {'x' * 110}, id: c, file: {{path: a, content: x}}}}\n"
    root = ElementTree.fromstring(drawing.svg(_plan(tmp_path, text)))
    lines = ["".join(one.itertext()) for one in root.iter(f"{SVG}text") if one.get("text-anchor") == "middle"]
    assert len(lines) > 12
    assert max(map(look.cells, lines)) <= 33


# ------------------------------------------------------------------------------------------------- the same every time
def test_the_pictures_do_not_depend_on_hash_seeds(tmp_path: Path) -> None:
    """Two processes with different seeds draw the same."""
    (tmp_path / "p.yml").write_text(FULL)
    forms = ("text", "dot", "mermaid", "svg")
    code = f"from engine.cli import main; [main.run(['graph', 'p.yml', '--format', form]) for form in {forms}]"
    made = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(made[0]) > 5000
    assert made[0] == made[1]


# ------------------------------------------------------------------------------------------------- the verb
def test_the_form_follows_the_files_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out FILE.svg draws SVG, FILE.mmd Mermaid; what is printed names the file and the next command."""
    file = tmp_path / "p.yml"
    file.write_text(FULL)
    for name, start in (("x.svg", "<svg "), ("x.dot", "digraph "), ("x.mmd", "---\n"), ("x.txt", "A ")):
        assert 0 == main.run(["graph", str(file), "--out", str(tmp_path / name)])
        assert (tmp_path / name).read_text().startswith(start)
        assert f"next: engine plan {file} -i INVENTORY" == capsys.readouterr().out.splitlines()[-1]
    assert 2 == main.run(["graph", str(file), "--out", str(tmp_path / "nowhere" / "x.svg")])
    assert "cannot be written" in capsys.readouterr().err


def test_machine_forms_have_standard_output_for_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next command goes to standard error, so that the picture can be piped."""
    file = tmp_path / "p.yml"
    file.write_text(FULL)
    assert 0 == main.run(["graph", str(file), "--format", "svg"])
    captured = capsys.readouterr()
    ElementTree.fromstring(captured.out)
    assert captured.err.startswith("next: engine plan")


def test_an_invalid_playbook_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3, with the mistakes."""
    file = tmp_path / "p.yml"
    file.write_text(FULL.replace("needs: [move]", "needs: [mov]"))
    assert 3 == main.run(["graph", str(file)])
    captured = capsys.readouterr()
    assert "" == captured.out
    assert "LG048" in captured.err
