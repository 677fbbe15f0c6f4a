"""A run for people and machines: one HTML file, Markdown, a JSON document, and the stream of events.

In: a `Story` that kept its entries, or entries one by one. Out: text, from the journal alone: a report that is made again is
the same to the byte. The only door to structlog; what looks like a secret is redacted here once more, whatever was recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any, TextIO

from engine import account, diagnostics, page, picture, standing, words
from engine.account import Part, Row
from engine.journal import Entry
from engine.story import Story
from modules.contract import Json, Secret

#: The first line of a stream names what follows; a change that is not an addition gets a new number.
EVENTS, REPORT = "lastgood.events/1", "lastgood.report/1"
_WIDE, _NARROW = 960, 340
_POINTS = 240

_NAMES = re.compile(r"(?i)(^|[_-])(password|passwd|passphrase|secret|token|api_?key|authorization|credentials?)$")
# What a secret looks like -> what is shown of it.
_SHAPES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), "***"),
    (re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)"), "***"),  # user and password of an address
    (re.compile(r"(?i)(\bauthorization:\s*\w+\s+|\bbearer\s+)[\w.~+/=-]{12,}"), r"\1***"),
    (re.compile(r"\b(?:A[KS]IA[0-9A-Z]{16}|gh[pousr]_\w{30,}|hf_\w{30,}|xox[abprs]-[\w-]{10,})\b"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+"), "***"),  # a JSON web token
)

#: Some part of every name and shape above: a text without any of them holds nothing to redact.
_MARKS = (
    *("pass", "secret", "token", "apikey", "api_key", "authoriz", "credential", "bearer", "private key", "akia", "asia"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "hf_", "xox", "eyj"),
)


def _suspect(text: str) -> bool:
    """Whether a walk through it may find anything: hardly any entry holds something to redact."""
    low = text.lower()
    return any(mark in low for mark in _MARKS) or ("://" in low and "@" in low)


def redacted(value: Json, name: str = "") -> Json:
    """The value with secrets shown as ``***``: by type, by the name of their key, by their shape."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, Mapping):
        return {str(key): redacted(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(one) for one in value]
    if isinstance(value, str):
        if _NAMES.search(name) and value:
            return "***"
        for shape, shown in _SHAPES:
            value = shape.sub(shown, value)
    return value


# ------------------------------------------------------------------------------------------------- for people
def html(story: Story) -> str:
    """The report as one self-contained page."""
    story = _clean(story)
    stand = standing.of(story)
    tone = {0: "good", None: "warn", 5: "warn", 130: "warn"}.get(stand.exit, "bad")
    tone = "warn" if stand.word in ("RECOVERED", "UNDONE", "CANCELLED") else tone
    foot = (
        f"Made from {len(story.entries)} journal entries of {story.run} alone; `engine report {story.run}` makes it again."
    )
    over = f"Rollback report {story.run}"
    return page.document(
        story.name, over, (account.headline(story), tone), account.facts(story), _figure(story), account.parts(story), foot
    )


def _figure(story: Story) -> str:
    """The picture in two widths, of which the screen shows one, its marks as text, and both as tables."""
    wide, narrow = picture.svg(story, _WIDE), picture.svg(story, _NARROW)
    if not wide:
        return ""
    marks = "".join(
        f'<li><a href="#e{mark.seq}"><span class="time">{words.utc(mark.at)}</span></a> {page.text(mark.text, 200)}</li>'
        for mark in picture.marks(story)
    )
    legend = "Filled bars changed something, hollow ones only looked, dotted ones waited for people, hatched ones failed."
    return (
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption><p>{legend}</p><ol>{marks}</ol>"
        f"<details><summary>The same as tables</summary>{_tables(story)}</details></figcaption></figure>"
    )


def _tables(story: Story) -> str:
    bars = [
        Row((bar.key, *("" if at is None else words.utc(at) for at in (bar.begin, bar.end)), bar.note))
        for bar in picture.bars(story)
    ]
    told = page.table(("Step", "From (UTC)", "To (UTC)", "In words"), bars)
    series = picture.main_series(story)
    if series:
        limits = ", ".join(limit.label for limit in series.limits)
        points = [Row((words.utc(at), words.brief(value))) for at, value in series.curve[-_POINTS:]]
        told += f"<p>{page.text(series.query, 300)} ({page.text(limits)})</p>" + page.table(("Time (UTC)", "Value"), points)
    return told


def markdown(story: Story) -> str:
    """The report as Markdown, for an issue or a chat."""
    story = _clean(story)
    lines = [f"# {_flat(story.name)}", "", f"{story.run}: **{_flat(account.headline(story))}**", ""]
    lines += [f"- **{name}** {_flat(said)}" for name, said in account.facts(story)]
    seen = picture.marks(story)
    if seen:
        lines += ["", "## Marks", "", *(f"{i}. {words.utc(mark.at)} {_flat(mark.text)}" for i, mark in enumerate(seen, 1))]
    for part in account.parts(story):
        lines += ["", f"## {part.title}", "", *(f"{_flat(said)}\n" for said in part.lead), *_rows(part)]
    return "\n".join(lines).rstrip() + "\n"


def _rows(part: Part) -> list[str]:
    if not part.rows:
        return []
    lines = ["| " + " | ".join(part.columns) + " |", "|" + " --- |" * len(part.columns)]
    return lines + ["| " + " | ".join(_flat(cell) for cell in row.cells) + " |" for row in part.rows]


def _flat(text: str) -> str:
    """Text for one line of Markdown: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~!])", r"\\\1", diagnostics.printable(text, 1000))


# ------------------------------------------------------------------------------------------------- for machines
def json_document(story: Story) -> str:
    """The report as JSON: the same facts and sections, and every step with its reading."""
    story = _clean(story)
    stand = standing.of(story)
    content = {
        "format": REPORT,
        "run": story.run,
        "name": story.name,
        "playbook": story.playbook,
        "strategy": story.strategy,
        "requester": story.requester,
        "digest": story.digest,
        "engine": story.engine,
        "started": story.started,
        "ended": story.ended,
        "outcome": story.outcome,
        "state": {"word": stand.word, "exit": stand.exit, "safe": stand.safe, "waiting": stand.waiting, "next": stand.next},
        "hosts": list(story.hosts),
        "counts": dict(sorted(story.counts().items())),
        "facts": dict(account.facts(story)),
        "steps": [_step(step) for step in sorted(story.steps.values(), key=lambda step: step.seq)],
        "sections": [_part(part) for part in account.parts(story)],
    }
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, default=str) + "\n"


def _step(step: Any) -> dict[str, Json]:
    names = (
        "host",
        "key",
        "outcome",
        "name",
        "module",
        "started",
        "seconds",
        "attempts",
        "why",
        "hint",
        "at",
        "change",
        "reading",
        "seq",
        "undone",
    )
    return {name: getattr(step, name) for name in names}


def _part(part: Part) -> dict[str, Json]:
    rows = [dict(zip(part.columns, row.cells, strict=True)) for row in part.rows]
    return {"key": part.key, "title": part.title, "lead": list(part.lead), "rows": rows}


def _clean(story: Story) -> Story:
    """The story without anything that looks like a secret: told again where there is such a thing, itself where not."""
    suspects = {entry.seq: redacted(entry.body) for entry in story.entries if _suspect(entry.text)}
    if all(suspects[entry.seq] == entry.body for entry in story.entries if entry.seq in suspects):
        return story
    told = Story()
    for entry in story.entries:
        told.add(replace(entry, text=json.dumps(suspects[entry.seq])) if entry.seq in suspects else entry)
    return told


class Events:
    """The stream of ``--json``: one JSON object a line, the first naming the format; ASCII, so that nothing in it acts on a
    terminal. `add` may be called from any thread."""

    def __init__(self, out: TextIO, engine: str) -> None:
        import structlog

        def shown(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
            return {key: redacted(value, key) for key, value in event.items()}

        chain: list[Any] = [
            shown,
            structlog.processors.EventRenamer("kind"),
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
        self._log = structlog.wrap_logger(structlog.WriteLogger(out), processors=chain, wrapper_class=structlog.BoundLogger)
        self._log.msg("stream.started", format=EVENTS, engine=engine)

    def add(self, entry: Entry) -> None:
        """Writes an entry of the journal, or one that is only announced (its `seq` is 0)."""
        row = {name: getattr(entry, name) for name in ("run", "seq", "at", "host", "step", "body", "hash")}
        self._log.msg(entry.kind, time=words.utc(entry.at), **row)
