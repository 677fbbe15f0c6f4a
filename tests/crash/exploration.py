"""The exploration: a drawn playbook killed at its boundaries, taken up again, and what came of it compared.

Ways in which a point is come to:

run     the run is killed, and resumed. It must come to what it comes to when nobody kills it: the same world, the same
        effects, each as often, everybody told, the same end.
resume  a run that was killed is resumed, and the resume is killed. The same.
undo    `engine undo` of a run, ended or killed, is killed, and typed again. Everything must be as before the run, but for
        what has no undo; nothing done or put back twice.
cancel  somebody types `engine cancel --undo` while the run goes on, which is killed later, and resumed. The same as for
        undo.

Most recoveries are killed as well, and most of those that go on from there: whoever is killed once is killed twice. Each of
these kills is a point, and all of them together must come to what it comes to without any.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from drawn import drawn
from killer import Ended, Killer
from theatre import RUN, At, Theatre, bare

from engine.journal import Entry, ending

WAYS = ("run", "resume", "undo", "cancel")
#: way -> its share of a playbook's points, where all are explored
SHARES = {"run": 0.5, "resume": 0.15, "undo": 0.2, "cancel": 0.15}
#: So many times at most a way sets out from another place; and so many points are looked for from each.
PLACES, EACH = 12, 10
#: So often are the recoveries from a point killed, and at this boundary of theirs, at the latest.
AGAIN, LATEST = (0, 2, 3, 4), 40
#: Exit codes with which a run may end: done, failed, held.
ENDS = (0, 1, 4)


@dataclass(frozen=True)
class Point:
    """Where a command is killed. `base`: the boundary at which the run had been killed before, or had been cancelled;
    `then`: the numbers of the boundaries at which the recoveries that follow are killed too; `sort`: what it is."""

    seed: int
    way: str
    at: At
    base: At = 0
    then: tuple[int, ...] = ()
    sort: str = field(default="", compare=False)

    def __str__(self) -> str:
        return json.dumps([self.seed, self.way, self.at, self.base, self.then])

    @classmethod
    def read(cls, text: str) -> Point:
        seed, way, *ats, then = json.loads(text)
        at, base = (tuple(one) if isinstance(one, list) else one for one in ats)
        return cls(seed, way, at, base, tuple(then))


@dataclass(frozen=True)
class Wrong:
    """What came of a point is not what should have: lost, doubled, stuck or otherwise."""

    point: Point
    sort: str
    text: str


@dataclass
class Tally:
    """What was explored: (way, or `again` in a recovery, and sort of boundary) -> kills."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    graphs: int = 0
    steps: int = 0
    hosts: int = 0
    wrong: list[Wrong] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(self.kills.values())

    def add(self, other: Tally) -> None:
        self.kills.update(other.kills)
        self.graphs, self.steps, self.hosts = self.graphs + other.graphs, self.steps + other.steps, self.hosts + other.hosts
        self.wrong += other.wrong


@dataclass(frozen=True)
class _Wanted:
    """What a run comes to that nobody kills."""

    outcome: str
    things: dict[str, Any]
    effects: Counter[str]


class Exploration:
    """One theatre's points. `explored` goes through them; `replayed` through one."""

    def __init__(self, theatre: Theatre) -> None:
        self.theatre, self.seed = theatre, theatre.play.seed
        self.chance = random.Random(f"points of {self.seed}")
        self.tally = Tally(graphs=1, steps=theatre.play.steps, hosts=len(theatre.play.hosts))
        theatre.bring()
        install, theatre.install = theatre.install, ""  # the expectation is that of an engine without a bug
        self.whole = theatre.run()
        self.wanted = self._came_to()
        theatre.keep("ended")
        theatre.install = install

    # -- choosing
    def explored(self, count: int, ways: Sequence[str] = WAYS, stop: bool = False) -> Tally:
        """Kills at `count` points, spread over the ways and the boundaries. `stop`: at the first that goes wrong."""
        whole = sum(SHARES[way] for way in ways)
        for way in reversed(ways):
            first = way == ways[0]
            upto = count if first else self.tally.points + max(1, round(count * SHARES[way] / whole))
            for point in self._points(way, upto):
                if self.replayed(point) and stop:
                    return self.tally
                if self.tally.points >= upto:
                    break
        return self.tally

    def _points(self, way: str, upto: int) -> Iterator[Point]:
        """More points of a way than are wanted, because a boundary is not always come to again."""
        if way == "run":
            yield from self._spread(way, 0, self.whole.points, len(self.whole.points))
        for _ in range(PLACES if way != "run" else 0):
            base, points = self._based(way)
            yield from self._spread(way, base, points, max(EACH, upto - self.tally.points))

    def _based(self, way: str) -> tuple[At, list[str]]:
        """Where a command sets out from, and the boundaries that it comes to."""
        theatre, names = self.theatre, self.whole.points
        number = self.chance.randint(len(names) // 4, max(1, len(names) * 3 // 4))
        base: At = (names[number - 1], names[:number].count(names[number - 1]))
        if way == "undo" and self.chance.random() < 0.5 and self.wanted.outcome != "undone":
            base = 0
        install, theatre.install = theatre.install, ""
        if way == "cancel":
            base = number
            theatre.bring()
            points = theatre.run(aside=(number, ["cancel", RUN, "--undo"])).points[number:]
        else:
            self._set_out(base)
            points = (theatre.resume() if way == "resume" else theatre.undo()).points
        theatre.install = install
        return base, points

    def _set_out(self, base: At) -> None:
        """Makes everything as it was when the run had been killed at `base`; 0: when it had ended."""
        name = "ended" if base == 0 else re.sub(r"\W+", "-", f"cut {base}")
        if not (self.theatre.kept / name).exists():
            self.theatre.bring()
            self.theatre.run(base)
            self.theatre.keep(name)
        self.theatre.bring(name)

    def _spread(self, way: str, base: At, names: list[str], count: int) -> Iterator[Point]:
        """So many of the boundaries: first each sort at each step, on some host, then the others."""
        times, rows = Counter[str](), list[tuple[str, int, str]]()
        sorts = sorted_out(names)
        for name, sort in zip(names, sorts, strict=True):
            times[name] += 1
            rows.append((name, times[name], sort))
        self.chance.shuffle(rows)
        seen, late = set[tuple[str, str]](), list[tuple[str, int, str]]()
        for row in rows:
            group = (row[2], row[0].rpartition(" ")[2])
            (late if group in seen else rows[:0]).append(row)
            seen.add(group)
        first = [row for row in rows if row not in late]
        for name, nth, sort in [*first, *late][:count]:
            then = tuple(self.chance.randint(1, LATEST) for _ in range(self.chance.choice(AGAIN)))
            yield Point(self.seed, way, (name, nth), base, then, sort)

    # -- going through one
    def replayed(self, point: Point) -> list[Wrong]:
        """Kills at the point, recovers, compares. What is wrong is added to the tally, and returned."""
        theatre = self.theatre
        recover = theatre.undo if point.way == "undo" else theatre.resume
        match point.way:
            case "run":
                theatre.bring()
                ended = theatre.run(point.at)
            case "cancel":
                theatre.bring()
                number = point.base if isinstance(point.base, int) else 0
                ended = theatre.run(point.at, aside=(number, ["cancel", RUN, "--undo"]))
            case _:
                self._set_out(point.base)
                ended = recover(point.at)
        story = [f"{point.way} {'killed' if ended.killed else 'not killed'}"]
        if ended.killed:
            self.tally.kills[point.way, point.sort] += 1
        then = iter(point.then)
        while ended.killed:
            ended = recover(next(then, 0))
            if ended.killed:
                self.tally.kills["again", sorted_out(ended.points)[-1]] += 1
            came = f"killed at {ended.points[-1]}" if ended.killed else f"exit {ended.exit}"
            story.append(f"recovered, {came}\n{ended.said}")
        found = [Wrong(point, sort, text + "\n" + "\n".join(story)) for sort, text in self._wrong(point, ended)]
        self.tally.wrong += found
        return found

    # -- comparing
    def _came_to(self) -> _Wanted:
        last = ending(self.theatre.entries())
        things = {place: bare(fields) for place, fields in self.theatre.stage.things().items()}
        return _Wanted(last.body["outcome"] if last else "", things, Counter(self._effects()))

    def _effects(self) -> list[str]:
        rows = [(place, line) for place, lines in self.theatre.lines().items() for line in lines]
        # What hosts share is done by whichever of them comes first: there the key says nothing.
        return [
            f"{place} {json.dumps(line['is'], sort_keys=True)}"
            + ("" if place.startswith("shared/") else f", key {line['key']}")
            for place, line in rows
        ]

    def _wrong(self, point: Point, ended: Ended) -> Iterator[tuple[str, str]]:
        entries = self.theatre.entries()
        last = ending(entries)
        outcome = last.body["outcome"] if last else ""
        back = point.way == "undo" or (point.way == "cancel" and outcome == "cancelled")
        if outcome != "cancelled" and _must_be_cancelled(entries):
            yield "otherwise", f"ended {outcome}, though it had been cancelled"
        if not outcome and "nothing" not in ended.said:
            yield "stuck", f"the run has not ended, exit {ended.exit}"
        elif ended.exit not in (ENDS if not back else (0, 1)):
            yield "stuck", f"exit {ended.exit}"
        if back:
            yield from self._not_back()
        else:
            yield from self._differs()
        if point.way != "undo":
            queued = {f"{RUN}/{entry.body['key']}" for entry in entries if entry.kind == "message.queued"}
            if queued != self.theatre.told():
                yield "lost", f"messages: {sorted(queued ^ self.theatre.told())} were queued or arrived, not both"

    def _differs(self) -> Iterator[tuple[str, str]]:
        came, wanted = self._came_to(), self.wanted
        if more := came.effects - wanted.effects:
            yield "doubled", f"done more often than without the kill: {dict(more)}"
        if less := wanted.effects - came.effects:
            yield "lost", f"done less often than without the kill: {dict(less)}"
        if came.things != wanted.things and not (more or less):
            yield "otherwise", f"the world is {came.things}, not {wanted.things}"
        if came.outcome != wanted.outcome:
            yield "otherwise", f"ended {came.outcome}, not {wanted.outcome}"

    def _not_back(self) -> Iterator[tuple[str, str]]:
        """What is not as it was before, or was done or put back twice."""
        theatre, play = self.theatre, self.theatre.play
        things = theatre.stage.things()
        for place in sorted({*things, *theatre.before}):
            name = place.partition("/")[2]
            if name not in play.lasting and bare(things.get(place)) != bare(theatre.before.get(place)):
                yield "lost", f"{place} is {things.get(place)}, and was {theatre.before.get(place)}"
        intended = {entry.body["key"] for entry in theatre.entries() if entry.kind in ("step.intent", "undo.intent")}
        for place, lines in theatre.lines().items():
            name = place.partition("/")[2]
            states = [theatre.before.get(place), *(line["is"] for line in lines)]
            batches = len(play.hosts) if place.startswith("shared/") and "serial" in play.book else 1  # once for each
            most = batches if name in play.lasting else 2 * (3 if name in play.parts else 1)
            blind = [one for one, other in pairwise(states) if bare(one) == bare(other)]
            if len(lines) > most or (blind and name not in play.lasting):
                yield "doubled", f"{place} was changed {len(lines)} times: {states}"
            if any(line["key"] not in intended for line in lines):
                yield "lost", f"{place} was changed, and no intent says so"


def exploring(folder: Path, seed: int, kill: Killer, install: str = "") -> Exploration:
    """The exploration of a playbook, in a folder of its own. `install`: the bug that is planted in every process."""
    return Exploration(Theatre(folder / f"playbook-{seed}-{install.rpartition(':')[2]}", drawn(seed), kill, install))


def _must_be_cancelled(entries: list[Entry]) -> bool:
    """Whether the run was taken up after it had been cancelled, and before it had ended."""
    asked = False
    for entry in entries:
        if entry.kind == "run.ended":
            return False
        asked = asked or entry.kind == "cancel.asked"
        if asked and entry.kind == "run.resumed":
            return True
    return False


def sorted_out(names: Iterable[str]) -> list[str]:
    """What each of these boundaries is, in order: for the table, and so that a sample has some of every sort."""
    said = {
        "step.intent": "the intent's commit", "step.outcome": "the outcome's commit", "apply": "the effect",
        "undo": "an undo's effect", "undo.intent": "an undo's intent's commit", "undo.outcome": "an undo's outcome's commit",
    }  # fmt: skip
    found, half = list[str](), dict[str, int]()
    for name in names:
        when, what = name.partition("+")[0].split(" ")[:2]
        place = name.rpartition(" ")[2] + name.split(" ")[-2]
        if what == "change":
            found.append(f"inside an effect, {when} the change")
            if when == "before" and place in half:
                found[half.pop(place)] = "half-way through an effect"
            elif when == "after":
                half[place] = len(found) - 1
            continue
        half.pop(place, None)
        found.append(f"{when} {said.get(what, 'another commit')}")
    return found
