"""How a terminal shows things: style, signs, cells, and a step over all its hosts as a line.

In: what a stream is able to show, a `Story`. Out: lines no wider than the screen, legible without colour, glyphs or UTF-8.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from engine import diagnostics, standing, words
from engine.story import BAD, Planned, Step, Story

#: Above this many hosts, those that are well are counted and only the others are named.
FEW = 10
#: Below this width (columns) a fact stands under its step instead of beside it.
WIDE = 72

# word -> (glyph, tone). The word always stands beside the glyph.
_SIGNS = {
    "changed": ("✔", "good"),
    "unchanged": ("✔", "good"),
    "succeeded": ("✔", "good"),
    "recovered": ("✔", "warn"),
    "approved": ("✔", "good"),
    "automatic": ("✔", "good"),
    "key given": ("✔", "good"),
    "message sent": ("✔", "good"),
    "met": ("✔", "good"),
    "holds": ("!", "warn"),
    "no alarm": ("✔", "good"),
    "sent": ("✔", "good"),
    "skipped": ("–", "quiet"),
    "waived": ("!", "warn"),
    "key not counted": ("!", "warn"),
    "undone": ("↶", "warn"),
    "failed": ("✘", "bad"),
    "timed_out": ("✘", "bad"),
    "unreachable": ("✘", "bad"),
    "held": ("✘", "bad"),
    "rejected": ("✘", "bad"),
    "expired": ("✘", "bad"),
    "message failed": ("✘", "bad"),
    "uncertain": ("?", "bad"),
    "cut off": ("?", "warn"),
    "running": ("▶", "bold"),
    "waiting": ("◷", "warn"),
    "next": ("·", "quiet"),
}
_SGR = {"good": "32", "bad": "1;31", "warn": "33", "quiet": "2", "bold": "1"}
_ASCII = str.maketrans({"→": "->", "…": "...", "·": ".", "–": "-", "✔": "+", "✘": "x", "▶": ">", "◷": "o", "↶": "<"})


@dataclass(frozen=True)
class Style:
    """How to write to a stream. `glyphs`: signs beside words; `ascii`: no other characters; `live`: it can be redrawn."""

    width: int = 100
    colour: bool = False
    glyphs: bool = True
    ascii: bool = False
    live: bool = False

    def paint(self, text: str, tone: str) -> str:
        """`text` in a tone (good, bad, warn, quiet, bold), where there are colours."""
        return f"\x1b[{_SGR[tone]}m{text}\x1b[0m" if self.colour and tone in _SGR and text else text

    def sign(self, word: str, pad: int = 0) -> str:
        """The word with its glyph, padded to `pad` characters and painted."""
        glyph, tone = _SIGNS.get(word, ("·", ""))
        return self.paint((f"{glyph} " if self.glyphs else "") + word.ljust(pad), tone)


PLAIN = Style()


def style(stream: TextIO, env: Mapping[str, str] = os.environ, color: str = "auto") -> Style:
    """What this stream can show. `color` (always, never, auto) beats NO_COLOR, which beats FORCE_COLOR, which beats the
    terminal; a variable counts when it is not empty. ACCESSIBLE=1: lines only, and words without glyphs."""
    able = stream.isatty() and env.get("TERM") != "dumb"
    accessible = env.get("ACCESSIBLE", "") not in ("", "0")
    colour = (able or bool(env.get("FORCE_COLOR"))) and not env.get("NO_COLOR")
    colour = {"always": True, "never": False}.get(color, colour)
    plain = "utf" not in (getattr(stream, "encoding", None) or "utf-8").lower()
    return Style(columns(stream, env), colour, not accessible, plain, able and not accessible)


def columns(stream: TextIO, env: Mapping[str, str] = os.environ) -> int:
    """The width of the stream's terminal; of what is none: COLUMNS, or 100."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return int(env["COLUMNS"]) if env.get("COLUMNS", "").isdigit() else 100


def ascii_only(text: str) -> str:
    """The text for a stream that knows no other characters."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


# ------------------------------------------------------------------------------------------------- cells
def cells(text: str) -> int:
    """How many columns a text without escapes takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, one line, safe to print; what is left out is shown by ``…``."""
    text = diagnostics.printable(text, 1000)
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…" if width > 0 else ""


def pad(text: str, width: int) -> str:
    """The text, filled with blanks to `width` columns."""
    return text + " " * (width - cells(text))


def bare(line: str) -> str:
    """A line of ours without its colours."""
    while (start := line.find("\x1b[")) >= 0:
        line = line[:start] + line[line.index("m", start) + 1 :]
    return line


def field(label: str, text: str, look: Style, tone: str = "") -> list[str]:
    """A labelled paragraph with a hanging indent; on a narrow screen the label has a line of its own."""
    indent = 11 if look.width >= 60 else 2
    text = diagnostics.printable(text, 2000)
    body = textwrap.wrap(text, max(look.width - indent, 20), break_on_hyphens=False) or [""]
    head = look.paint(label, "bold")
    first, rest = ([], body) if indent == 2 else ([f" {head}{' ' * max(indent - 1 - cells(label), 1)}"], body)
    if not first:
        return (
            [f" {head}".rstrip(), *(f"  {look.paint(line, tone)}" for line in rest)]
            if label
            else [f"  {line}" for line in body]
        )
    return [first[0] + look.paint(body[0], tone), *(" " * indent + look.paint(line, tone) for line in body[1:])]


# ------------------------------------------------------------------------------------------------- steps as rows
@dataclass(frozen=True)
class Row:
    """One step over all its hosts: a word, the seconds it took, the fact, and (word, text) of hosts that need a look."""

    word: str
    key: str
    seconds: float | None = None
    fact: str = ""
    more: tuple[tuple[str, str], ...] = ()


def rows(story: Story, now: float, alive: bool = True) -> list[Row]:
    """The steps of the plan in order, with authority where it is asked for. `now`: UTC, in seconds since 1970; `alive`:
    whether steps that have not ended may still be going on."""
    alive = alive and not story.interrupted and story.ended is None
    grouped = story.by_step()
    return [
        _row(story, plan, grouped.get(plan.key, []), now if alive else story.last, alive) for plan in standing.order(story)
    ]


def _row(story: Story, plan: Planned, steps: Sequence[Step], now: float, alive: bool) -> Row:
    if plan.key == "authority":
        return _authority(story, plan, now)
    if plan.section == "communications":
        return _messages(story, plan)
    if all(step.outcome == "next" for step in steps):
        return Row("next", plan.key, fact="no undo" if plan.undo is False and plan.section == "execution" else "")
    going = [step for step in steps if not step.ended]
    bad = [step for step in steps if step.bad]
    said = {step.host: step.said if step.ended or alive else "cut off" for step in steps}
    counts = Counter(said.values())
    word = said[(going or bad)[0].host] if going or bad else counts.most_common(1)[0][0]
    begun = [step.started for step in steps if step.started is not None]
    ends = [now if not step.ended else (step.started or now) + step.seconds for step in steps]
    took = max(ends) - min(begun) if begun else None
    if len(story.hosts) <= 1 and len(steps) == 1:
        return Row(word, plan.key, took, steps[0].fact)
    return Row(word, plan.key, took, _over_hosts(story, steps, word, counts), _named(steps, going, bad, now))


def _over_hosts(story: Story, steps: Sequence[Step], word: str, counts: Counter[str]) -> str:
    where = f"{len(steps)} of {words.plural(len(story.hosts), 'host')}"
    if len(counts) > 1:
        bad_first = sorted(counts.items(), key=lambda pair: (pair[0] not in BAD, -pair[1]))
        return f"{len(steps)}/{len(story.hosts)}: " + ", ".join(f"{count} {name}" for name, count in bad_first)
    # Whether all hosts say the same is asked of what their facts are made from, which is cheaper than the facts.
    same = [step for step in steps if step.said == word]
    sources = {(step.why, str(step.change), str(step.reading.get("_why"))) for step in same}
    return f"{where}, {same[0].fact}" if len(sources) == 1 and same[0].fact else where


def _named(steps: Sequence[Step], going: Sequence[Step], bad: Sequence[Step], now: float) -> tuple[tuple[str, str], ...]:
    """The hosts that failed, and the slowest of those still going once most others are through."""
    slow = sorted(going, key=lambda step: step.started or now) if len(going) <= max(3, len(steps) // 20) else []
    shown = [
        (step.word, f"{step.host}  {step.fact or words.span(now - (step.started or now))}") for step in [*bad, *slow][:3]
    ]
    left = len(bad) + len(slow) - len(shown)
    return (*shown, ("", f"and {left} more")) if left else tuple(shown)


def _messages(story: Story, plan: Planned) -> Row:
    mine = [message for message in story.messages.values() if message.step == plan.key]
    word = "failed" if any(one.failures and one.sent is None for one in mine) else "sent" if mine else "next"
    return Row(word, plan.key, None, ", ".join(one.event for one in mine))


def _authority(story: Story, plan: Planned, now: float) -> Row:
    begun, key = story.asked_at or story.decided_at, f"authority {plan.id}".strip()
    given = ", ".join(f"{k.person} ({k.role})" for k in story.counted())
    if story.decision:
        why = str(story.decision.get("why") or "")
        known = given if len(story.counted()) >= story.needed else why  # the last key is not told where it is only read
        return Row(str(story.decision.get("decision")), key, story.decided_at - begun, known or why)
    left = words.span(max(float(story.asked.get("expires") or now) - now, 0))
    missing = len(story.counted()) < story.needed
    asked = f"key {len(story.counted()) + 1} of {story.needed}, expires in {left}"
    open_ = asked if missing else "every key is given, and is still to be counted"
    fact = open_ + (f"; given: {given}" if given else "")
    return Row("waiting", key, now - begun, fact)


def show(row: Row, name: str, look: Style, widest: int) -> list[str]:
    """A row as lines: one where the screen is wide; on a narrow one the fact is below. `widest`: columns of the name."""
    took = "" if row.seconds is None else words.span(row.seconds)
    sign = look.sign(row.word, 11)
    taken = 1 + (2 if look.glyphs else 0) + max(11, len(row.word)) + 1
    if look.width >= WIDE:
        named = pad(cut(name, widest), widest)
        lines = [f" {sign} {named} {took:>7}  {cut(row.fact, look.width - taken - widest - 10)}".rstrip()]
    else:
        room = max(look.width - taken - len(took) - 1, 8)
        lines = [f" {sign} {pad(cut(name, room), room)} {took}".rstrip()]
        if row.fact and row.word != "next":
            room = look.width - 3
            whole = row.word == "waiting"  # who is waited for is not cut
            told = textwrap.wrap(row.fact, room, break_on_hyphens=False) if whole else [row.fact]
            lines += ["   " + cut(line, room) for line in told]
    for word, text in row.more:
        head = look.sign(word) + " " if word else ""
        lines.append(f"     {head}{cut(text, look.width - 8 - len(word))}")
    return lines


def steps(story: Story, now: float, look: Style, alive: bool = True) -> list[list[str]]:
    """Every row of the run as lines; see `rows`."""
    return lines(rows(story, now, alive), look)


def crowded(keys: Sequence[str], look: Style) -> bool:
    """Whether names like ``section/id`` take too much of a line, so that sections had better stand above their steps."""
    return max(map(len, keys), default=0) > look.width * 0.27


def lines(found: Sequence[Row], look: Style) -> list[list[str]]:
    """Rows as lines. Where names are long for the screen, sections stand above their steps."""
    made: list[list[str]] = []
    before = ""
    grouped = crowded([row.key for row in found], look)
    names = [row.key.partition("/")[2] or row.key if grouped else row.key for row in found]
    widest = min(max(map(len, names), default=10), max(look.width // 3, 20))
    for row, name in zip(found, names, strict=True):
        section, _, ident = row.key.partition("/")
        heading = [look.paint(f" {section}", "quiet")] if grouped and ident and section != before else []
        before = section
        made.append([*heading, *show(row, name, look, widest)])
    return made


def metrics(story: Story, look: Style, most: int = 2) -> list[str]:
    """The curves in words: what was measured, from, to, and the limits."""
    lines: list[str] = []
    for series in [one for one in story.series.values() if one.points][:most]:
        values = [value for _, value in series.curve]
        ends = " → ".join(words.brief(value) for value in (values[:1] if len(values) == 1 else (values[0], values[-1])))
        limits = ", ".join(limit.label for limit in series.limits)
        lines.append(cut(f" {'' if lines else 'metric':9} {ends}  {limits}  {series.query}", look.width))
    return lines
