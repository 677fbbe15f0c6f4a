"""The report: one page, Markdown, JSON and events, all from the journal alone."""

import hashlib
import io
import json
import re
import threading
from html.parser import HTMLParser

import pytest
from journals import make

from engine import account, report, story
from engine.journal import Entry
from modules.contract import Secret

SCENES = [scene.__name__ for scene in make.SCENES]
VOID = {"meta", "wbr", "br", "link", "line", "rect", "circle", "polyline", "path"}
HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[2J‮"
SECRET = "Bearer abcdefghijklmnopqrstuvwxyz0123"


class Page(HTMLParser):
    """What a page consists of: tags, ids, links, text; that every tag is closed where it belongs is checked on the way."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.links, self.words, self.open = [], [], [], [], []
        self.feed(text)
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def told(name: str) -> story.Story:
    return story.tell(make.fleet().entries if name == "fleet" else make.load(name))


def entry(kind: str, body: dict, host: str = "", step: str = "", seq: int = 1) -> Entry:
    return Entry("RB-1", seq, make.START + seq, kind, host, step, json.dumps(body))


@pytest.mark.parametrize("name", [*SCENES, "fleet"])
def test_the_page_is_whole_and_alone(name: str) -> None:
    """Every tag is closed, ids are unique, links stay on the page, and nothing is loaded or run."""
    page = Page(report.html(told(name)))
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not {"script", "iframe", "img", "link", "object", "form"} & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags for attr in attrs if attr.startswith("on") or attr == "style"]
    assert "default-src 'none'" in next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))


@pytest.mark.parametrize("name", [*SCENES, "fleet"])
def test_every_entry_has_an_anchor_and_a_utc_date(name: str) -> None:
    """Whoever names an entry of the journal can point to it on the page; folded ones too."""
    one = told(name)
    text = report.html(one)
    assert {f"e{each.seq}" for each in one.entries} <= set(Page(text).ids)
    assert "2026-11-23 03:09:02Z" in text


@pytest.mark.parametrize("name", [*SCENES, "fleet"])
def test_a_report_made_again_is_the_same_to_the_byte(name: str) -> None:
    """Nothing but the journal goes in: no clock, no order of memory."""
    first, second = told(name), told(name)
    for made in (report.html, report.markdown, report.json_document):
        assert made(first) == made(second) == made(first)


@pytest.mark.parametrize("scene", SCENES)
def test_the_five_facts_come_first(scene: str) -> None:
    """What happened, who was affected, how long, who decided, is it over: before anything else."""
    text = report.html(told(scene))
    places = [text.index(f"<dt>{name}</dt>") for name, _ in account.facts(told(scene))]
    assert sorted(places) == places
    assert places[-1] < text.index("<svg") < text.index('id="timeline"')


def test_the_facts_of_a_rollback_are_its_facts() -> None:
    """A risk officer reads who decided, on what, when, and what serves now."""
    facts = dict(account.facts(told("rollback")))
    assert "fraud_precision was 0.71, below 0.9 for 5m. Changed: execution/alias (version 47 → 46)" in facts["What happened"]
    assert "1 host: fraud-eu. The metric was at worst 0.7084 (alarm below 0.9)." == facts["Who was affected"]
    who = "mira asked for it. Keys from ana as ml-oncall (03:09:57Z), kofi as fraud-risk (03:11:42Z): approved."
    assert facts["Who decided"].startswith(who)
    assert "Yes. 1 thing left for people." == facts["Is it over?"]
    assert "SUCCEEDED in 13m36s: version 47 → 46 and 1 other change, 3 of 3 checks met" == account.headline(told("rollback"))


def part(name: str, key: str) -> account.Part:
    return next(one for one in account.parts(told(name)) if one.key == key)


def test_the_decision_shows_what_signers_were_shown_and_who_was_not_counted() -> None:
    """Digest, keys with role, reason and fingerprint, the facts that were shown, and the key that does not count."""
    decision = part("rollback", "decision")
    assert any("What the signers were shown: back to: 46; because: precision 0.71" in line for line in decision.lead)
    rows = [row.cells for row in decision.rows]
    assert ["ana", "mira", "kofi"] == [cells[1] for cells in rows]
    assert "not counted: mira asked for this run, and who asks never counts" == rows[1][3]
    assert "payments confirm good customers hit" == rows[2][4]


def test_when_the_run_began_is_shown_to_the_signer_as_a_time() -> None:
    """And not as seconds since 1970, cut to four figures."""
    one = told("rollback")
    one.asked = {**one.asked, "facts": {"began": 1795836679.25}}
    lead = next(part for part in account.parts(one) if part.key == "decision").lead
    assert any("What the signers were shown: began: 2026-11-28 03:31:19Z" == line for line in lead), lead


def test_changes_are_shown_from_what_to_what_with_their_undo() -> None:
    """Before, after, outcome, and whether it was put back, can be, or never can."""
    rows = [row.cells for row in part("rollback", "changes").rows]
    assert ("execution/alias", "fraud-eu", "version", "47", "46", "changed", "automatic, not used") in rows
    assert "NONE" == next(cells[-1] for cells in rows if cells[0] == "execution/purge_cache")
    assert "undone" == part("undone", "changes").rows[0].cells[-1]
    failed = part("failed", "changes")
    assert ("Not reached: execution/purge_cache.",) == failed.lead
    assert "playbooks/fraud-scorer.yml:45:7" in next(row.cells[5] for row in failed.rows if row.tone == "bad")


def test_what_was_skipped_is_there_with_its_reason() -> None:
    """A skip is a row, not a silence."""
    assert any("skipped: when: cache.enabled is false" in row.cells for row in part("held", "changes").rows)


def test_checks_have_value_limit_and_verdict() -> None:
    """Each check says what was measured against what; what was not reached says so."""
    rows = [row.cells for row in part("held", "verification").rows]
    assert ("verification/golden_set", "fraud-eu", "NOT MET", "0.902", "at least 0.97") == rows[0][:5]
    assert ("verification/latency", "", "not reached") == rows[1][:3]


def test_the_evidence_is_listed_by_its_digests() -> None:
    """Each kept file with its size and the whole of its sha256, under the run's own folder."""
    rows = [row.cells for row in part("rollback", "evidence").rows]
    digest = hashlib.sha256(b"wrongfraud-eu").hexdigest()
    assert ("evidence/fraud-eu/wrong-requests.jsonl", "fraud-eu", "184233", digest, "forensics/keep_wrong") == rows[0][:5]
    assert "clock offset unknown: its capture met no other clock" == rows[0][5]
    assert digest in report.markdown(told("rollback"))


def test_the_candidates_are_shown_with_their_reasons() -> None:
    """Why this version and no other: every candidate has a verdict, the chosen one stands out."""
    choice = part("rollback", "choice")
    assert ["serves now", "is chosen"] == [row.cells[3] for row in choice.rows][:2]
    assert ["46"] == [row.cells[1] for row in choice.rows if row.tone == "decision"]


def test_a_fleet_makes_a_page_that_can_be_read() -> None:
    """Three hundred hosts: those that are well share rows that can be unfolded, those in trouble have their own."""
    timeline = part("fleet", "timeline")
    assert len(timeline.rows) < 20
    assert ["svc-044, execution/serve", "svc-174, execution/serve", "svc-300, execution/serve"] == [
        row.cells[2] for row in timeline.rows if row.tone == "bad" and "svc" in row.cells[2]
    ]
    assert 297 == next(len(row.more) for row in timeline.rows if row.cells[2] == "297 hosts, execution/alias")
    assert len(report.html(told("fleet"))) < 120_000


def test_an_intent_without_an_outcome_is_in_the_timeline() -> None:
    """Where the run was cut off, the last thing it was about to do is told."""
    said = [row.cells[1:] for row in part("interrupted", "timeline").rows]
    assert ("intent", "execution/serve", "about to change: version 47 → 46") in said


def hostile() -> story.Story:
    change = {"before": {"version": HOSTILE}, "after": {"version": "1"}}
    reading = {"met": True, "_why": HOSTILE, "_query": HOSTILE, "_series": [[make.START, 1.0]], "_below": 2.0}
    bodies = [
        ("run.started", {**dict.fromkeys(("name", "playbook", "requester", "digest"), HOSTILE), "hosts": [HOSTILE]}, "", ""),
        ("step.outcome", {"outcome": "unchanged", "reading": reading, "seconds": 1.0}, HOSTILE, "trigger/" + HOSTILE),
        ("step.outcome", {"outcome": "changed", "change": change, "at": HOSTILE}, HOSTILE, "execution/" + HOSTILE),
        ("step.outcome", {"outcome": "failed", "why": HOSTILE, "hint": HOSTILE, "at": HOSTILE}, HOSTILE, "execution/b"),
        ("key.asked", {"facts": {HOSTILE: HOSTILE}, "roles": [HOSTILE], "keys": 1, "expires": make.START}, "", ""),
        ("key.given", {"person": HOSTILE, "role": HOSTILE, "statement": {"reason": HOSTILE}}, "", ""),
        ("note", {"text": HOSTILE * 100, "by": HOSTILE}, "", ""),
        ("run.ended", {"outcome": "failed", "exit": 1, "why": HOSTILE}, "", ""),
    ]
    return story.tell(entry(kind, body, host, step, i) for i, (kind, body, host, step) in enumerate(bodies, 1))


def test_what_comes_from_outside_is_text() -> None:
    """Markup, quotes, control and bidirectional characters of a host, a step or a person are shown and do nothing."""
    text = report.html(hostile())
    page = Page(text)
    assert "img" not in {tag for tag, _ in page.tags}
    assert not set("\x1b‮") & set(text)
    assert "<img src=x onerror=alert(1)>" in "".join(page.words)
    marked = report.markdown(hostile())
    assert "<img" not in re.sub(r"\\<", "", marked)
    assert not set("\x1b‮") & set(marked)


def test_a_long_text_is_cut() -> None:
    """A note of thirty thousand characters takes a few lines of the page."""
    lengths = [len(report.html(story.tell([entry("note", {"text": "x" * many})]))) for many in (1000, 30_000)]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    "value",
    [
        {"password": "hunter2hunter2"},
        {"API_KEY": "hunter2hunter2"},
        {"x": {"auth_token": "hunter2hunter2"}},
        {"x": "https://me:hunter2hunter2@example.org/x"},
        {"x": "Authorization: Basic hunter2hunter2"},
        {"x": ["curl -H 'bearer hunter2hunter2'"]},
        {"x": "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2hunter2\n-----END OPENSSH PRIVATE KEY-----"},
        {"x": Secret("hunter2hunter2")},
    ],
)
def test_what_looks_like_a_secret_is_not_shown(value: dict) -> None:
    """By type, by name or by shape: three stars stand where it was, and the rest is kept."""
    shown = json.dumps(report.redacted(value))
    assert "hunter2" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "value", [{"key": "abc"}, {"token_count": 5}, {"x": "https://a.org/a:b"}, {"tokens": "no"}, {"secret": ""}]
)
def test_what_is_no_secret_is_left_as_it_is(value: dict) -> None:
    """Redaction that hides facts would hide what happened."""
    assert value == report.redacted(value)


def test_no_secret_gets_into_any_form() -> None:
    """A secret that a module let slip into the journal is in no page, no Markdown, no JSON, no event."""
    body = {"outcome": "failed", "why": f"refused: Authorization: {SECRET}", "reading": {"password": "hunter2hunter2"}}
    one = story.tell([entry("step.outcome", body, "h", "execution/x")])
    out = io.StringIO()
    report.Events(out, "0").add(one.entries[0])
    for shown in (report.html(one), report.markdown(one), report.json_document(one), out.getvalue()):
        assert "abcdefghijklmnop" not in shown
        assert "hunter2" not in shown


def test_the_json_document_is_complete() -> None:
    """The document names its format and has every step with its reading and every section with its rows."""
    document = json.loads(report.json_document(told("rollback")))
    state = document["state"]
    assert ("lastgood.report/1", "SUCCEEDED", 0) == (document["format"], state["word"], state["exit"])
    assert 10 == len(document["steps"])
    assert "46" == next(step["reading"]["version"] for step in document["steps"] if step["key"] == "execution/alias")
    assert {"Person", "Reason", "Verdict"} <= set(next(s for s in document["sections"] if s["key"] == "decision")["rows"][0])


def test_no_cell_of_markdown_breaks_its_table() -> None:
    """Bars and line ends in texts are escaped: each row of a table has as many cells as its head."""
    body = {"outcome": "failed", "why": "a | b\n| c |", "reading": {}}
    text = report.markdown(story.tell([entry("step.outcome", body, "h|1", "execution/x")]))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) > 2
    for rows in tables:
        assert 1 == len({len(re.findall(r"(?<!\\)\|", row)) for row in rows})


def test_events_are_json_lines_that_name_their_format_first() -> None:
    """One object a line; the first says which format follows; entries are as the journal has them."""
    out = io.StringIO()
    events = report.Events(out, "0.1.0")
    for each in make.load("rollback"):
        events.add(each)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {"kind": "stream.started", "format": "lastgood.events/1", "engine": "0.1.0"} == rows[0]
    first = make.load("rollback")[0]
    for name in ("kind", "seq", "at", "hash", "body"):
        assert getattr(first, name) == rows[1][name]
    assert "2026-11-23 03:09:02Z" == rows[1]["time"]
    assert len(rows) == 1 + len(make.load("rollback"))


def test_events_hold_no_character_that_acts() -> None:
    """A stream that is looked at on a terminal cannot redraw it."""
    out = io.StringIO()
    report.Events(out, "0").add(entry("note", {"text": HOSTILE}))
    assert out.getvalue().isascii()
    assert "\x1b" not in out.getvalue()
    assert HOSTILE == json.loads(out.getvalue().splitlines()[1])["body"]["text"]


def test_an_empty_stream_has_its_first_line() -> None:
    """A run that never begins still gives a stream that parses."""
    out = io.StringIO()
    report.Events(out, "0")
    assert 1 == len([json.loads(line) for line in out.getvalue().splitlines()])


def test_events_from_many_threads_are_whole_lines() -> None:
    """Hosts run side by side; no line is broken by another."""
    out = io.StringIO()
    events = report.Events(out, "0")

    def say() -> None:
        for _ in range(100):
            events.add(entry("note", {"text": "x" * 500}))

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 801 == len([json.loads(line) for line in out.getvalue().splitlines()])


def test_a_run_that_has_only_begun_has_a_report() -> None:
    """Asked for too early, the report says what there is."""
    one = story.tell(make.load("rollback")[:1])
    assert "RUNNING" in report.html(one)
    assert "RUNNING" in report.markdown(one)
    Page(report.html(story.Story()))
