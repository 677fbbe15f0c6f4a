"""The one picture of a report: the metric against its limits, over the bars of the steps, on one time axis.

In: a `Story` and a width in pixels. Out: SVG without scripts, fonts or colours of its own: the page's style sheet has them,
so that it follows the page into dark and into print. Words stand beside what they name; missing samples are a gap.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from engine import standing, words
from engine.curve import Series
from engine.story import BAD, Step, Story

_CHAR = 6.8  # the mean width of a character of 12 px text, in px
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_PLOT, _MARKS, _TITLE = 180, 30, 22
#: A curve is broken where samples are further apart than so many times the usual distance.
_GAP = 2.5


@dataclass(frozen=True)
class Mark:
    """A moment worth a number: when (unix seconds), what, and the journal entry it stands for."""

    at: float
    text: str
    seq: int


@dataclass(frozen=True)
class Bar:
    """A row of the lower panel: from, to (unix seconds; None: never reached), the word and what stands beside it."""

    key: str
    word: str
    begin: float | None = None
    end: float | None = None
    note: str = ""

    @property
    def look(self) -> str:
        """The class that gives the bar its shape: filled, hollow, hatched or dotted."""
        if self.key == "authority":
            return "dotted"
        looked = ("unchanged", "met", "holds", "no alarm", "skipped", "waived")
        return "hatched" if self.word in BAD else "hollow" if self.word in looked else "filled"


def marks(story: Story) -> list[Mark]:
    """What the picture numbers: alarm, keys, first and last change, failure, undo, verified; at most nine, in order."""
    steps = sorted(story.steps.values(), key=lambda step: step.seq)
    found: list[Mark] = []
    alarm = next((step for step in steps if step.section == "trigger" and step.met), None)
    if alarm:
        found.append(Mark(_end(alarm), f"trigger: {alarm.fact}", alarm.seq))
    found += [
        Mark(key.at, f"key {i} from {key.person} as {key.role}", key.seq) for i, key in enumerate(story.counted()[:2], 1)
    ]
    changes = [step for step in steps if step.section == "execution" and step.made]
    if changes:
        first, last = changes[0], changes[-1]
        found.append(Mark(first.started or 0.0, f"first change: {first.key} {first.fact}", first.seq))
        if _end(last) - (first.started or 0.0) > 1:
            found.append(Mark(_end(last), f"last change made: {last.key} {last.fact}", last.seq))
    trouble = story.culprit()
    if trouble:
        found.append(Mark(_end(trouble), f"{trouble.word}: {trouble.key}: {trouble.fact}", trouble.seq))
    if story.undo_steps:
        back = story.undo_steps[-1]
        found.append(Mark(back.started or 0.0, f"put back: {back.key} {words.told(back.change)}", back.seq))
    checks = [step for step in steps if step.section == "verification" and step.ended]
    if checks and not any(step.bad for step in checks) and story.outcome in ("succeeded", "recovered"):
        found.append(Mark(_end(checks[-1]), "verified: every check is met", checks[-1].seq))
    return sorted(found, key=lambda mark: mark.at)[:9]


def _end(step: Step) -> float:
    return (step.started or 0.0) + step.seconds


def bars(story: Story) -> list[Bar]:
    """One bar for each step of the plan, over all its hosts, and one for the wait for keys."""
    grouped, found = story.by_step(), []
    for plan in standing.order(story):
        if plan.section == "communications":
            continue
        if plan.key == "authority":
            begin = story.asked_at or story.decided_at
            end = story.decided_at or max(story.last, begin)
            word = str(story.decision.get("decision") or "waiting")
            keys = f", {words.plural(len(story.counted()), 'key')}" if story.asked else ""
            found.append(Bar("authority", word, begin, end, f"{word}{keys}, {words.span(end - begin)}"))
            continue
        steps = [step for step in grouped.get(plan.key, []) if step.started is not None]
        if not steps:
            found.append(Bar(plan.key, "next", note="not reached"))
            continue
        begin = min(step.started or 0.0 for step in steps)
        end = max(_end(step) if step.ended else story.last for step in steps)
        bad = [step for step in steps if step.bad]
        word = bad[0].word if bad else steps[0].said if steps[0].ended else "cut off" if story.interrupted else steps[0].said
        share = (
            f" on {len(bad)} of {len(steps)} hosts"
            if bad and len(steps) > 1
            else f" on {len(steps)} hosts"
            if len(steps) > 1
            else ""
        )
        found.append(Bar(plan.key, word, begin, end, f"{word}{share}, {words.span(end - begin)}"))
    if story.undo_steps:
        count = sum(step.outcome == "undone" for step in story.undo_steps)
        of = f"{count} of {words.plural(len(story.undo_steps), 'change')} put back"
        found.append(
            Bar("undo", "undone", story.undo_from, story.undo_to, f"{of}, {words.span(story.undo_to - story.undo_from)}")
        )
    return found


def main_series(story: Story) -> Series | None:
    """The curve to draw: rather one with a trigger's limit, rather of the host that failed, rather a long one."""
    culprit = story.culprit()

    def rank(series: Series) -> tuple[bool, bool, int]:
        return (
            any(x.section == "trigger" for x in series.limits),
            bool(culprit and culprit.host == series.host),
            len(series.points),
        )

    return max((series for series in story.series.values() if series.points), key=rank, default=None)


@dataclass(frozen=True)
class _Scale:
    """Time to x: `left` and `right` in px, `begin` and `end` in unix seconds; `wide`: labels stand beside."""

    left: float
    right: float
    begin: float
    end: float
    wide: bool

    def x(self, at: float) -> float:
        share = (at - self.begin) / (self.end - self.begin)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def ticks(self) -> Iterator[tuple[float, str]]:
        room = max((self.right - self.left) / 90, 2)
        step = next((size for size in _TICKS if (self.end - self.begin) / size <= room), _TICKS[-1])
        at = math.ceil(self.begin / step) * step
        while at <= self.end:
            text = words.utc(at, date=False)
            yield at, words.utc(at)[5:10] if step >= 86400 else text[:8] if step < 60 else text[:5]
            at += step


def svg(story: Story, width: int) -> str:
    """The picture, `width` px wide: from 600 on, labels stand beside, below that above. Empty where nothing has begun."""
    rows, series = bars(story), main_series(story)
    begun = [bar for bar in rows if bar.begin is not None]
    if not begun:
        return ""
    seen, top, hatch = marks(story), float(_MARKS), f"hatch{width}"
    scale = _axis(story, begun, seen, series, width)
    curve: list[str] = []
    if series:
        curve = _curve(story, series, scale, top + _TITLE)
        top += _TITLE + _PLOT + 16
    steps, bottom = _bars(rows, scale, top, hatch)
    height, title = bottom + 34, f"{series.query if series else 'Steps'} over time, with the steps of {story.run}"
    return "".join(
        [
            f'<svg class="picture" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img"',
            f' aria-labelledby="title{width} words{width}">',
            f'<title id="title{width}">{_text(title, 200)}</title>',
            f'<desc id="words{width}">{_text(_described(series, rows, seen), 2000)}</desc>',
            f'<defs><pattern id="{hatch}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">',
            '<rect width="6" height="6" class="hatch-paper"/><line x1="1" y1="0" x2="1" y2="6" class="hatch"/>',
            "</pattern></defs>",
            *_grid(scale, bottom, series is not None),
            *(_line("mark", scale.x(mark.at), _MARKS, scale.x(mark.at), bottom) for mark in seen),
            *curve,
            *steps,
            *_numbers(seen, scale),
            "</svg>",
        ]
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float, fill: str = "") -> str:
    filled = f' fill="url(#{fill})"' if fill else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{filled}/>'


def _word(kind: str, x: float, y: float, text: str, limit: int = 40, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_text(text, limit)}</text>'


def _text(text: str, limit: int) -> str:
    return html.escape(words.brief(text, limit))


def _axis(story: Story, begun: Sequence[Bar], seen: Sequence[Mark], series: Series | None, width: int) -> _Scale:
    begin = min([bar.begin or 0.0 for bar in begun] + ([story.started] if story.started else []))
    end = max(begin + 1.0, *(bar.end or 0.0 for bar in begun), *(mark.at for mark in seen))
    if series:
        curve = series.curve
        # What came before the run is shown, but never so much of it that the run itself cannot be seen.
        begin, end = max(min(curve[0][0], begin), begin - 1.5 * (end - begin)), max(end, curve[-1][0])
    wide = width >= 600
    pad = (end - begin) * 0.01
    return _Scale(200.0 if wide else 6.0, width - (128.0 if wide else 6.0), begin - pad, end + pad, wide)


def _grid(scale: _Scale, bottom: float, curve: bool) -> Iterator[str]:
    top = _MARKS + (_TITLE if curve else 0)
    for at, text in scale.ticks():
        x = scale.x(at)
        yield _line("grid", x, top, x, bottom)
        yield _word("tick", x, bottom + 14, text, anchor="start" if x < 30 else "middle")
    yield _word("tick", scale.right, bottom + 29, f"{words.utc(scale.begin)[:10]}, times in UTC", anchor="end")


def _numbers(seen: Sequence[Mark], scale: _Scale) -> Iterator[str]:
    """Numbers in circles above the panels; where they would cover each other they are moved and led back to their moment."""
    places: list[float] = []
    for mark in seen:
        places.append(max(scale.x(mark.at), places[-1] + 20) if places else scale.x(mark.at))
    for i in reversed(range(len(places))):
        places[i] = min(places[i], places[i + 1] - 20 if i + 1 < len(places) else scale.right)
    for number, (mark, place) in enumerate(zip(seen, places, strict=True), 1):
        yield _line("lead", place, 18, scale.x(mark.at), _MARKS)
        yield f'<circle class="number" cx="{place:.1f}" cy="10" r="8.5"/>'
        yield _word("numeral", place, 14, str(number), anchor="middle")


# ------------------------------------------------------------------------------------------------- the metric
def _curve(story: Story, series: Series, scale: _Scale, top: float) -> list[str]:
    points = [point for point in series.curve if scale.begin <= point[0] <= scale.end] or series.curve
    values = [value for _, value in points] + [limit.value for limit in series.limits]
    low, high = min(values), max(values)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    low, high = (0.0 if 0 <= low < room else low - room), high + room

    def y(value: float) -> float:
        return top + _PLOT * (1 - (value - low) / (high - low))

    across = scale.right - scale.left
    parts = [_word("name", 8 if scale.wide else scale.left, top - 8, series.query, 110 if scale.wide else 52)]
    parts.append(_rect("plot", scale.left, top, across, _PLOT))
    for limit in series.limits:
        if limit.section == "trigger":
            high_y, low_y = (y(limit.value), top + _PLOT) if limit.side == "below" else (top, y(limit.value))
            parts.append(_rect("zone", scale.left, high_y, across, low_y - high_y))
    parts += _scale_of(low, high, y, scale)
    labels = [(y(limit.value), limit.label, "alarm" if limit.section == "trigger" else "wanted") for limit in series.limits]
    parts += [_line(f"limit {kind}", scale.left, at, scale.right, at) for at, _, kind in labels]
    same = [other for other in story.series.values() if other is not series and _limits(other) == _limits(series)]
    for kind, one in [*(("curve other", other) for other in same[:12]), ("curve", series)]:
        parts += _path([(at, scale.x(at), y(value)) for at, value in one.curve if scale.begin <= at <= scale.end], kind)
    labels.append((y(points[-1][1]), words.brief(points[-1][1]), "value"))
    marks_of = [limit.value for limit in series.limits]
    first, last = (min((abs(end - value) for value in marks_of), default=0.0) for end in (points[0][1], points[-1][1]))
    return parts + list(_labels(labels, scale, top, first > last))


def _limits(series: Series) -> set[tuple[str, float]]:
    return {(limit.step, limit.value) for limit in series.limits}


def _path(points: Sequence[tuple[float, float, float]], kind: str) -> list[str]:
    """A line through the samples (when, x, y), broken where some are missing; a lone sample is a dot."""
    apart = [b[0] - a[0] for a, b in pairwise(points)]
    usual = median(apart) * _GAP if apart else 0.0
    runs: list[list[str]] = [[]]
    for i, (_, x, y) in enumerate(points):
        if i and apart[i - 1] > usual:
            runs.append([])
        runs[-1].append(f"{x:.1f},{y:.1f}")
    # A line of one point is a dot, because its ends are round.
    return [f'<polyline class="{kind}" points="{" ".join(run if len(run) > 1 else run * 2)}"/>' for run in runs if run]


def _scale_of(low: float, high: float, y: Callable[[float], float], scale: _Scale) -> Iterator[str]:
    size = 10 ** math.floor(math.log10((high - low) / 3))
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 5)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        at = y(number * step)
        x, anchor = (scale.left - 8, "end") if scale.wide else (scale.left + 3, "start")
        yield _line("grid", scale.left, at, scale.right, at)
        yield _word("tick halo", x, at + 4, f"{number * step:.4g}", anchor=anchor)


def _labels(labels: list[tuple[float, str, str]], scale: _Scale, top: float, left: bool) -> Iterator[str]:
    """The names of the limits and the last value: beside the plot, or in it where it is narrow; none over another.

    `left`: the curve leaves more room at its beginning than at its end.
    """
    before = top - 14
    for at, text, kind in sorted(labels):
        if left and not scale.wide and kind != "value":
            yield _word(f"label halo {kind}", scale.left + 28, at - 4, text)
            continue
        before = max(at, before + 14)
        x, anchor, lift = (scale.right + 8, "start", 4) if scale.wide else (scale.right - 4, "end", -4)
        yield _word(f"label halo {kind}", x, before + lift, text, anchor=anchor)


# ------------------------------------------------------------------------------------------------- the steps
def _bars(rows: Sequence[Bar], scale: _Scale, top: float, hatch: str) -> tuple[list[str], float]:
    """The bars from `top` down, under the names of their sections, and where they end."""
    parts, before = [], ""
    for row in rows:
        section, _, ident = row.key.partition("/")
        if section != before:
            parts.append(_line("rule", 8 if scale.wide else 0, top + 2, scale.right, top + 2))
            top += 4
            if ident:
                parts.append(_word("section", 8 if scale.wide else scale.left, top + 12, section))
                top += 14
        before = section
        base, bar = (top + 15, top + 4) if scale.wide else (top + 13, top + 18)
        if scale.wide:
            parts.append(_word("step", scale.left - 8, base, ident or section, 27, "end"))
        else:
            parts += [
                _word("step", scale.left, base, ident or section, 24),
                _word("note", scale.right, base, row.note, 26, "end"),
            ]
        if row.begin is not None and row.end is not None:
            x0, x1 = scale.x(row.begin), max(scale.x(row.end), scale.x(row.begin) + 3)
            kind, fill = f"bar {row.look} {_tone(row.word)}", hatch if row.look == "hatched" else ""
            parts.append(_rect(kind, x0, bar, x1 - x0, 14, fill))
            parts += [_note(row.note, x0, x1, base, scale)] if scale.wide else []
        elif scale.wide:
            parts.append(_word("note", scale.left + 4, base, row.note))
        top += 22 if scale.wide else 36
    return parts, top + 4


def _tone(word: str) -> str:
    if word in BAD or word in ("rejected", "expired"):
        return "bad"
    return (
        "warn" if word in ("undone", "waived", "cut off", "waiting", "holds") else "quiet" if word == "skipped" else "good"
    )


def _note(text: str, x0: float, x1: float, base: float, scale: _Scale) -> str:
    """What a bar says: behind it where there is room, else before it, else on it."""
    need = len(text) * _CHAR
    if x1 + 6 + need < scale.right + 124:
        return _word("note halo", x1 + 6, base, text, 60)
    return _word("note halo", x0 - 6 if x0 - 6 - need > scale.left else x1 - 8, base, text, 60, "end")


def _described(series: Series | None, rows: Sequence[Bar], seen: Sequence[Mark]) -> str:
    """The picture in words, for those who hear it."""
    said = [f"{bar.key} {bar.note}" for bar in rows]
    if series:
        ends = f"{words.brief(series.curve[0][1])} to {words.brief(series.curve[-1][1])}"
        said.insert(0, f"The metric goes from {ends}; {', '.join(limit.label for limit in series.limits)}")
    return ". ".join([*said, *(f"Mark {i}: {mark.text}" for i, mark in enumerate(seen, 1))])
