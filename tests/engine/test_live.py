"""A run while it goes on: lines, the redrawn view, and that neither ever harms the run."""

import io
import json
import re
import threading

import pytest
from journals import make

from engine import live, look, story
from engine.journal import Entry
from engine.live import Lines, Live, View
from engine.look import Style


@pytest.fixture(autouse=True)
def _size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is no real terminal is as large as the environment says."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")


class Clock:
    def __init__(self, at: float = make.START) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def lines(scene: str = "rollback", style: Style | None = None) -> str:
    view = Lines(io.StringIO(), style or Style(), Clock())
    for entry in make.load(scene):
        view.add(entry)
    view.close()
    assert not view.broken
    assert isinstance(view.out, io.StringIO)
    return view.out.getvalue()


def screen(written: str, width: int = 200) -> list[str]:
    """What a terminal shows after these writes: cursor up, erase line, erase below, show and hide cursor."""
    rows, at = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\n|[^\x1b\n]+", written):
        if part == "\n":
            at += 1
            rows += [""] * (at + 1 - len(rows))
        elif part.endswith("F"):
            at = max(at - int(part[2:-1]), 0)
        elif part == "\x1b[2K":
            rows[at] = ""
        elif part == "\x1b[J":
            rows = [*rows[:at], ""]
        elif not part.startswith("\x1b"):
            rows[at] = part
    return [row for row in rows if row]


def test_each_thing_that_happens_is_a_line() -> None:
    """Time, word, host, step, seconds, fact; the first line has the date."""
    told = lines().splitlines()
    assert "2026-11-23 03:09:02Z RB-0142  Roll a fraud model back to its last known-good version" == told[0]
    assert "03:11:44Z ✔ changed     fraud-eu execution/alias  0.9s  version 47 → 46" in told
    assert "03:12:05Z ✔ changed     fraud-eu execution/serve  21s (2 attempts)  version 47 → 46" in told
    assert "03:09:57Z ✔ key given   ana  key 1 of 2, as ml-oncall: alarm confirmed on the dashboard" in told


def test_a_failed_step_has_its_place_and_its_help() -> None:
    """The line of a failure is followed by file:line:col and the one thing to do."""
    assert (
        "03:12:15Z ✘ unreachable fraud-eu execution/serve  31s (4 attempts)  "
        "http://scorer.eu.example:8080 does not answer: Connection refused\n"
        "            at playbooks/fraud-scorer.yml:45:7\n"
        "            help: is it up, and is the address right?\n"
    ) in lines("failed")


@pytest.mark.parametrize("scene", [scene.__name__ for scene in make.SCENES])
def test_a_pipe_gets_no_control_characters(scene: str) -> None:
    """Without a terminal there is nothing but text, whatever the entries hold."""
    assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f]*", lines(scene))


def test_accessible_lines_have_words_and_no_glyphs() -> None:
    """ACCESSIBLE=1: the word alone carries the meaning."""
    told = lines("failed", Style(glyphs=False))
    assert "03:12:15Z unreachable fraud-eu execution/serve" in told
    assert not set("✔✘◷▶↶") & set(told)


def test_a_fleet_is_told_in_few_lines() -> None:
    """Those that are well are counted together, those in trouble have lines of their own."""
    view = Lines(io.StringIO(), Style(), Clock())
    for entry in make.fleet().entries:
        view.add(entry)
    view.close()
    assert isinstance(view.out, io.StringIO)
    told = view.out.getvalue().splitlines()
    assert len(told) < 30
    assert 3 == sum(" svc-" in line and "execution/serve" in line for line in told)
    assert any(line.endswith("execution/alias  on 297 hosts") for line in told)


def test_silence_lasts_thirty_seconds_at_most() -> None:
    """A run that waits says every half minute that it lives, and what it waits for."""
    clock = Clock()
    view = Lines(io.StringIO(), Style(), clock)
    for entry in make.load("waiting"):
        view.add(entry)
    view.drain()
    assert isinstance(view.out, io.StringIO)
    before = view.out.getvalue()
    for seconds in (10, 29, 31, 45, 62):
        clock.at = make.START + seconds
        view.tick(clock.at)
    beats = view.out.getvalue()[len(before) :].splitlines()
    assert ["03:09:33Z ◷ waiting     31s so far  another key, from ml-oncall or fraud-risk"] == beats[:1]
    assert 2 == len(beats)


def test_the_live_view_is_one_picture_that_stays() -> None:
    """However often it is drawn, the screen holds the picture once; at the end it is whole and the cursor is back."""
    clock = Clock()
    view = Live(io.StringIO(), Style(width=100, live=True), clock)
    for entry in make.load("rollback"):
        view.add(entry)
        clock.at = entry.at + 1
        view.drain()
        view.tick(clock.at)
    view.close()
    assert isinstance(view.out, io.StringIO)
    written = view.out.getvalue()
    shown = screen(written)
    assert not view.broken
    assert 1 == sum(row.startswith("RB-0142") for row in shown)
    assert written.count("\x1b[J") > 10
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert [" ✔ changed     alias                0.9s  version 47 → 46"] == [row for row in shown if " alias " in row]


def test_text_written_beside_the_picture_stays_above_it() -> None:
    """What a command says while the view is drawn is neither lost nor drawn over."""
    clock = Clock()
    view = Live(io.StringIO(), Style(live=True), clock)
    for entry in make.load("waiting"):
        view.add(entry)
    view.write("stopping at the next safe point")
    view.drain()
    clock.at += 5
    view.tick(clock.at)
    view.close()
    assert isinstance(view.out, io.StringIO)
    shown = screen(view.out.getvalue())
    assert "stopping at the next safe point" == shown[0]
    assert 1 == sum(row.startswith("RB-0146") for row in shown)


def test_while_somebody_types_nothing_is_drawn() -> None:
    """From a question until it is settled the screen is left alone; afterwards the picture goes on below."""
    clock = Clock()
    view = Live(io.StringIO(), Style(live=True), clock)
    for entry in make.load("waiting"):
        view.add(entry)
    view.question("Give a key here: approve or reject")
    view.drain()
    assert isinstance(view.out, io.StringIO)
    asked = view.out.getvalue()
    assert asked.endswith("Give a key here: approve or reject\n")
    clock.at += 60
    view.tick(clock.at)
    assert asked == view.out.getvalue()
    view.add(Entry("RB-0146", 99, clock.at, "authority.settled", "", "", '{"decision": "approved", "people": ["ana"]}'))
    view.drain()
    view.tick(clock.at)
    assert 2 == sum(row.startswith("RB-0146") for row in screen(view.out.getvalue()))


def test_a_low_screen_shows_what_runs_and_counts_the_rest() -> None:
    """With twelve rows the running step is seen, and how many steps are before and after it."""
    entries = make.load("rollback")
    one = story.tell(entry for entry in entries if entry.seq < 24)
    shown = live.frame(one, one.last + 1, Style(width=120), 12)
    assert len(shown) <= 12
    assert any("before these" in row for row in shown)
    whole = live.frame(one, one.last + 1, Style(width=120), None)
    assert not any("before these" in row for row in whole)
    assert {"precision_fell", "precision_stays"} <= {word.rpartition("/")[2] for row in whole for word in row.split()}


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("height", [8, 24, None])
def test_a_frame_fits_its_screen(width: int, height: int | None) -> None:
    """No line of the live view is wider than the screen, and it does not scroll."""
    for scene in make.SCENES:
        one = story.tell(make.load(scene.__name__))
        shown = live.frame(one, one.last + 1, Style(width=width), height)
        assert all(look.cells(row) <= width for row in shown)
        assert height is None or len(shown) <= max(height, 9)


def test_a_screen_that_is_stuck_does_not_hold_up_the_run() -> None:
    """Handing over entries returns while the stream blocks; everything is told once it moves again."""
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            assert gate.wait(60)
            return super().write(text)

    out = Stuck()
    with Lines(out, Style()) as view:
        for entry in make.load("rollback"):
            view.add(entry)
        gate.set()
    assert "succeeded" in out.getvalue()


def test_a_stream_that_breaks_ends_the_view_and_not_the_run() -> None:
    """`engine run … | head` goes on when head has gone."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Lines(Gone(), Style()) as view:
        for entry in make.load("rollback"):
            view.add(entry)
    assert view.broken


def test_a_view_that_breaks_says_so_once() -> None:
    """A mistake of ours in a view is told, and the run goes on without it."""

    class Wrong(View):
        def took(self, entry: Entry) -> None:
            raise KeyError(entry.kind)

    out = io.StringIO()
    with Wrong(out, Style()) as view:
        for entry in make.load("rollback"):
            view.add(entry)
    assert "\nthe view has stopped (KeyError: 'run.started'); the run goes on: engine status RB-0142\n" == out.getvalue()


def test_the_cursor_comes_back_when_the_run_raises() -> None:
    """An error inside the view's `with` leaves a usable terminal."""
    out = io.StringIO()
    view = Live(out, Style(live=True))
    view.add(make.load("rollback")[0])
    with pytest.raises(KeyboardInterrupt), view:
        raise KeyboardInterrupt
    assert out.getvalue().endswith("\x1b[?25h")


def test_a_pause_gives_the_screen_away_and_loses_nothing() -> None:
    """While a question is asked nothing is written; what happened meanwhile is told afterwards."""
    out = io.StringIO()
    entries = make.load("failed")
    with Lines(out, Style()) as view:
        for entry in entries[:3]:
            view.add(entry)
        with view.paused():
            before = out.getvalue()
            for entry in entries[3:]:
                view.add(entry)
            assert before == out.getvalue()
    assert "unreachable" in out.getvalue()


def test_the_stream_decides_which_view() -> None:
    """A pipe gets lines, a terminal the live view, a dumb or accessible one lines."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    dumb, accessible = {"TERM": "dumb"}, {"ACCESSIBLE": "1"}
    made = [live.view(io.StringIO(), {}), *(live.view(Terminal(), env) for env in ({}, dumb, accessible))]
    assert [Lines, Live, Lines, Lines] == [type(one) for one in made]


def test_who_only_looks_on_is_not_told_that_ctrl_c_stops_the_run() -> None:
    """The last line says what Ctrl-C does here, and nothing once the run is over."""
    one = story.tell(make.load("waiting"))
    assert live.frame(one, one.last, Style(), None)[-1].endswith(live.STOP)
    assert live.frame(one, one.last, Style(), None, "Ctrl-C: stop looking")[-1].endswith("  Ctrl-C: stop looking")
    over = story.tell(make.load("rollback"))
    assert not any("Ctrl-C" in row for row in live.frame(over, over.last, Style(), None))


def test_a_name_from_outside_cannot_redraw_the_screen() -> None:
    """An escape sequence in what a module says arrives as text."""
    body = {"outcome": "failed", "why": "\x1b[2J\x1b[Hall is well", "reading": {}}
    view = Lines(io.StringIO(), Style(), Clock())
    view.add(Entry("RB-1", 1, 1.0, "step.outcome", "h", "execution/x", json.dumps(body)))
    view.close()
    assert isinstance(view.out, io.StringIO)
    assert "\x1b" not in view.out.getvalue()
    assert "\\u001b[2J" in view.out.getvalue()
