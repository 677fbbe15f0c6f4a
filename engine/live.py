"""A run while it goes on: a live view where the terminal can redraw, lines everywhere else.

In: journal entries, from any thread. Out: text on a stream. Entries are only queued where the run hands them over, and
told by a thread of the view's own: a screen that is slow, stopped or gone never holds up or harms a run.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Self, TextIO

from engine import look as looks
from engine import standing, words
from engine.journal import Entry
from engine.look import FEW, Style, cut
from engine.story import BAD, Story

#: A run never says nothing for longer than this (seconds).
HEARTBEAT = 30.0
#: Seconds after which the live view says whom it waits on.
SOON = 5.0
#: What comes within this many seconds is told together: being woken for each entry would hold a wide fleet up.
GATHER = 0.04
#: What Ctrl-C does here; where somebody only looks on, it does something else.
STOP = "Ctrl-C: stop at the next safe point"
_QUIET = ("step.started", "step.waiting", "step.intent", "undo.intent", "message.queued", "gate.opened")


class View:
    """A run as it goes on, used with ``with``. `add`, `write` and `question` only queue and return at once: they may be
    called from any thread, and from a signal handler. `now`: UTC, in seconds since 1970."""

    period = 1.0
    #: What Ctrl-C does, for the last line of the picture.
    stop = STOP

    def __init__(self, out: TextIO, look: Style, now: Callable[[], float] = time.time) -> None:
        self.story = Story(keep=False)
        self.out, self.look, self.now = out, look, now
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self.broken = False

    def add(self, entry: Entry) -> None:
        """The next entry of the run, stored or only announced."""
        self._queue.put(lambda: self._tell(entry))

    def recall(self, entries: Sequence[Entry]) -> None:
        """What the run has done before this view: known to it, and not told again."""

        def add() -> None:
            for entry in entries:
                self.story.add(entry)

        self._queue.put(add)

    def write(self, text: str) -> None:
        """Something to say beside the run's own entries: full lines."""
        self._queue.put(lambda: self.say(text.rstrip("\n") + "\n"))

    def question(self, text: str) -> None:
        """Says it, and leaves the screen alone until the question for keys is settled: somebody may be typing."""
        self._queue.put(lambda: self.ask(text.rstrip("\n") + "\n"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        self.close()

    def _run(self) -> None:
        while True:
            try:
                act = self._queue.get(timeout=self.period)
            except queue.Empty:
                act = _nothing
            if act is None:
                return
            with self._lock:
                self._do(act)
                more = self.drain()
                self._do(lambda: self.tick(self.now()))
            if not more:
                return
            time.sleep(GATHER)

    def _do(self, act: Callable[[], None]) -> None:
        """A view that breaks says so once and is silent from then on; it does not take the run with it."""
        if self.broken:
            return
        try:
            act()
        except Exception as error:  # noqa: BLE001 (whatever it is, the run goes on)
            why = f"{type(error).__name__}: {error}"
            self.emit(f"\nthe view has stopped ({why}); the run goes on: engine status {self.story.run}\n")
            self.broken = True

    def drain(self) -> bool:
        """Does what has been queued so far. Returns whether more may come."""
        with self._lock:
            while True:
                try:
                    act = self._queue.get_nowait()
                except queue.Empty:
                    return True
                if act is None:
                    return False
                self._do(act)

    def close(self) -> None:
        """Leaves the screen as a person may use it. Waits at most a second for a screen that is stuck."""
        if self._lock.acquire(timeout=1.0):
            try:
                self.drain()
                self._do(self.leave)
            finally:
                self._lock.release()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the screen to somebody else; what happens meanwhile is told afterwards."""
        with self._lock:
            self.close()
            yield

    def _tell(self, entry: Entry) -> None:
        self.story.add(entry)
        self.took(entry)

    def emit(self, text: str) -> None:
        """Writes to the stream; an error of the stream ends the view, not the run."""
        if self.broken:
            return
        try:
            self.out.write(looks.ascii_only(text) if self.look.ascii else text)
            self.out.flush()
        except (OSError, ValueError, RuntimeError):
            self.broken = True

    def took(self, entry: Entry) -> None:
        """What to do about an entry that the story has just taken in."""

    def say(self, text: str) -> None:
        """Shows full lines of text."""
        self.emit(text)

    def ask(self, text: str) -> None:
        """Shows a question that will be answered on the same screen."""
        self.emit(text)

    def tick(self, now: float) -> None:
        """Called after entries, and every `period` seconds without any."""

    def leave(self) -> None:
        """Says what is left to say and gives the screen back."""


def _nothing() -> None:
    pass


class Lines(View):
    """One line for each thing that happens, for pipes, files, CI and screen readers: nothing is ever redrawn."""

    def __init__(self, out: TextIO, look: Style, now: Callable[[], float] = time.time) -> None:
        super().__init__(out, look, now)
        self._said = now()
        self._counted: dict[str, Counter[str]] = {}

    def _line(self, at: float, word: str, what: str, text: str = "", below: Sequence[str] = ()) -> None:
        line = f"{words.utc(at, date=False)} {self.look.sign(word, 11)} {cut(what, 120)}  {cut(text, 300)}"
        self._said = self.now()
        self.emit("\n".join([line.rstrip(), *(f"{'':12}{cut(more, 300)}" for more in below)]) + "\n")

    def took(self, entry: Entry) -> None:
        """Says it; where hosts are many, those that are well are counted and said together."""
        if entry.kind == "step.outcome":
            self._outcome(entry)
        elif entry.kind not in _QUIET and not (entry.kind == "batch.started" and len(self.story.batches) <= 1):
            if entry.kind == "run.started":
                self.emit(f"{words.utc(entry.at)} {self.story.run}  {cut(self.story.name, 120)}\n")
                self.emit(f"{'':12}{self.story.budget}\n" if self.story.budget else "")
            if entry.kind in ("run.ended", "batch.started"):
                self._tally(entry.at)
            said = standing.describe(self.story, entry)
            self._line(entry.at, said.word, f"{entry.host} {entry.step}".strip() or said.actor, said.text)

    def _outcome(self, entry: Entry) -> None:
        step = self.story.steps[entry.host, entry.step]
        if len(self.story.hosts) > FEW and not step.bad:
            self._counted.setdefault(step.key, Counter())[step.word] += 1
            return
        tries = f" ({step.attempts} attempts)" if step.attempts > 1 else ""
        place, help_ = f"at {step.at}" if step.at else "", f"help: {step.hint}" if step.hint else ""
        what = f"{entry.host} {entry.step}  {words.span(step.seconds)}{tries}".strip()
        self._line(entry.at, step.said, what, step.fact, [line for line in (place, help_) if line and step.bad])

    def _tally(self, at: float) -> None:
        for key, counts in self._counted.items():
            for word, count in counts.items():
                self._line(at, word, key, f"on {words.plural(count, 'host')}")
        self._counted = {}

    def tick(self, now: float) -> None:
        """Says after 30 seconds of silence that the run is alive, and what it is doing."""
        if self.story.run and self.story.ended is None and now - self._said >= HEARTBEAT:
            self._tally(now)
            stand = standing.of(self.story, now=now)
            so_far = f"{words.span(now - (self.story.started or now))} so far"
            longest = standing.waiting_on(self.story, now) if stand.exit is None else ""
            self._line(now, "waiting" if stand.exit == 5 else "running", so_far, longest or stand.waiting)

    def leave(self) -> None:
        """Says what has only been counted so far."""
        self._tally(self.now())


class Live(View):
    """The steps of the run, redrawn in place. When it ends, or a question is asked, the whole picture stays."""

    period = 0.25

    def __init__(self, out: TextIO, look: Style, now: Callable[[], float] = time.time) -> None:
        super().__init__(out, look, now)
        self._drawn: list[int] = []
        self._dirty = self._still = False
        self._at = self._next = 0.0

    def took(self, entry: Entry) -> None:
        """Notes that there is something new to draw, and when a question is answered."""
        self._dirty = True
        self._still = self._still and entry.kind not in ("authority.settled", "run.ended", "run.interrupted")

    def tick(self, now: float) -> None:
        """Draws when something happened, or a second has passed, but no more often than every `period`."""
        if not self.story.run or self._still or now - self._at < (self.period if self._dirty else 1.0):
            return
        begun = self.now()
        if begun < self._next:
            return
        self.look = replace(self.look, width=looks.columns(self.out))
        self._draw(frame(self.story, now, self.look, shutil.get_terminal_size().lines, self.stop))
        # A picture of many hosts takes its time; at most a twentieth of the run's is taken.
        self._next = self.now() + 20 * (self.now() - begun)

    def say(self, text: str) -> None:
        """Puts the text above the picture, where it stays."""
        self.emit(self._home() + "\x1b[J" + text)
        self._drawn = []
        if not self._still:
            self._draw(
                frame(self.story, self.now(), self.look, shutil.get_terminal_size().lines, self.stop)
                if self.story.run
                else []
            )

    def ask(self, text: str) -> None:
        """Puts the question under the whole picture, and draws no more until it is settled."""
        self.leave()
        self.emit(text)
        self._still = True

    def _home(self) -> str:
        """Back to the first line of the picture. A line drawn before the window became narrower takes more than one row."""
        up = sum(max(-(-width // max(self.look.width, 1)), 1) for width in self._drawn)
        return f"\x1b[{up}F" if up else ""

    def _draw(self, lines: list[str]) -> None:
        # Line by line: a terminal that is cleared as a whole may flicker, or keep every frame in its history.
        drawn = "".join(f"\x1b[2K{line}\n" for line in lines)
        self.emit("\x1b[?25l" + self._home() + drawn + "\x1b[J")
        self._drawn = [looks.cells(looks.bare(line)) for line in lines]
        self._dirty, self._at = False, self.now()

    def leave(self) -> None:
        """Draws everything once more, unfolded, and gives the cursor back."""
        if self.story.run and not self._still:
            self._draw(frame(self.story, self.now(), self.look, None, self.stop))
        self.emit("\x1b[?25h")
        self._drawn = []


def frame(story: Story, now: float, look: Style, height: int | None, stop: str = STOP) -> list[str]:
    """The live view's lines. `height`: rows of the screen, into which the steps are folded; None folds nothing. `stop`: what
    Ctrl-C does."""
    hosts = words.some(story.hosts) if len(story.hosts) <= FEW else words.plural(len(story.hosts), "host")
    batch = f", batch {story.batch} of {len(story.batches)}" if len(story.batches) > 1 else ""
    until = f", deadline {words.utc(story.deadline)}" if story.deadline is not None else ""
    check = "  CHECK: nothing will be changed" if story.check else ""
    head = [
        look.paint(cut(f"{story.run}  {story.name}", look.width), "bold"),
        cut(f" {hosts}{batch}  since {words.utc(story.started or now)}{until}{check}", look.width),
        *([cut(f" {story.budget}", look.width)] if story.budget else []),
    ]
    feet = looks.metrics(story, look) + _foot(story, now, look, stop)
    room = None if height is None else max(height - len(head) - len(feet) - 1, 4)
    return head + _folded(story, now, look, room) + feet


def _folded(story: Story, now: float, look: Style, room: int | None) -> list[str]:
    """The steps in at most `room` lines: those that run, and as many around them as there is room for."""
    found = looks.rows(story, now)
    steps = looks.lines(found, look)
    if room is None or sum(map(len, steps)) <= room:
        return [line for step in steps for line in step]
    words_ = [row.word for row in found]
    at = next((i for i, word in enumerate(words_) if word in ("running", "waiting", *BAD)), None)
    at = at if at is not None else next((i for i, word in enumerate(words_) if word == "next"), len(words_) - 1)
    steps[at] = steps[at][: max(room - 2, 2)]  # on the smallest of screens it is cut, whatever it says
    first = last = at
    used = len(steps[at])
    while True:
        # Ahead first: what comes is of more interest than what is done.
        if last + 1 < len(steps) and used + len(steps[last + 1]) <= room - 2 and last - at <= at - first + 2:
            last += 1
            used += len(steps[last])
        elif first > 0 and used + len(steps[first - 1]) <= room - 2:
            first -= 1
            used += len(steps[first])
        elif last + 1 < len(steps) and used + len(steps[last + 1]) <= room - 2:
            last += 1
            used += len(steps[last])
        else:
            break
    above = [f"   … {words.plural(first, 'step')} before these"] if first else []
    ahead = len(steps) - last - 1
    below = [f"   … {words.plural(ahead, 'step')} after these"] if ahead else []
    return above + [line for step in steps[first : last + 1] for line in step] + below


def _foot(story: Story, now: float, look: Style, stop: str) -> list[str]:
    if story.ended is not None:
        return []
    took, longest = words.span(now - (story.started or now)), standing.waiting_on(story, now, SOON)
    lines = [cut(f" {longest}", look.width)] if longest else []
    if story.cancel:
        return [*lines, cut(f" {took}  stops at the next safe point, asked by {story.cancel}", look.width)]
    stand = standing.of(story)
    lines += [cut(f" {stand.word}: {stand.next}", look.width)] if stand.exit == 5 else []
    return [*lines, cut(f" {took}  {stop}", look.width)]


def view(out: TextIO, env: Mapping[str, str] = os.environ, color: str = "auto", stop: str = STOP) -> View:
    """The right view for a stream: live on a terminal that can redraw, lines everywhere else. `stop`: what Ctrl-C does."""
    style = looks.style(out, env, color)
    made = Live(out, style) if style.live else Lines(out, style)
    made.stop = stop
    return made
