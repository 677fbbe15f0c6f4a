"""How a terminal shows things: what a stream can show, cells, signs, rows of steps."""

import io

import pytest
from journals import make

from engine import look, story
from engine.look import Style


class Terminal(io.StringIO):
    """A stream that says it is a terminal of 120 columns, and has no file number."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("expected", "env", "color"),
    [
        ((True, True, True), {}, "auto"),
        ((False, True, True), {"NO_COLOR": "1"}, "auto"),
        ((True, True, True), {"NO_COLOR": ""}, "auto"),
        ((False, True, True), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, "auto"),
        ((True, True, True), {"NO_COLOR": "1"}, "always"),
        ((False, True, True), {}, "never"),
        ((False, True, False), {"TERM": "dumb"}, "auto"),
        ((True, False, False), {"ACCESSIBLE": "1"}, "auto"),
        ((True, True, True), {"ACCESSIBLE": "0"}, "auto"),
    ],
)
def test_a_terminal_shows_what_it_is_asked_to(expected: tuple[bool, bool, bool], env: dict[str, str], color: str) -> None:
    """--color beats NO_COLOR beats FORCE_COLOR beats the terminal; a variable counts when it is not empty."""
    made = look.style(Terminal(), env, color)
    assert expected == (made.colour, made.glyphs, made.live)


def test_a_pipe_has_no_colour_unless_it_is_forced() -> None:
    """Nothing is redrawn in a pipe, and FORCE_COLOR brings colour and nothing else."""
    plain, forced = look.style(io.StringIO(), {}), look.style(io.StringIO(), {"FORCE_COLOR": "1", "COLUMNS": "70"})
    assert (False, False, 100) == (plain.colour, plain.live, plain.width)
    assert (True, False, 70) == (forced.colour, forced.live, forced.width)


def test_a_stream_without_utf_8_gets_other_signs() -> None:
    """In a locale that has no glyphs the words remain, and nothing raises."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert look.style(stream, {}).ascii
    assert "+ changed  version 47 -> 46, caf?" == look.ascii_only("✔ changed  version 47 → 46, café")


@pytest.mark.parametrize(("expected", "text"), [(3, "abc"), (4, "模型"), (1, "é"), (0, "")])
def test_cells_are_counted_as_a_terminal_counts_them(expected: int, text: str) -> None:
    """Wide characters take two columns, combining marks none."""
    assert expected == look.cells(text)


@pytest.mark.parametrize(
    ("expected", "text", "width"), [("abc", "abc", 3), ("ab…", "abcd", 3), ("模…", "模型模型", 4), ("", "abc", 0)]
)
def test_a_cut_text_fits_and_shows_that_it_was_cut(expected: str, text: str, width: int) -> None:
    """A cut text never takes more columns than it was given."""
    assert expected == look.cut(text, width)
    assert look.cells(look.cut(text, width)) <= width


def test_text_from_outside_cannot_act_on_the_terminal() -> None:
    """An escape sequence in a name is shown, not obeyed, and cannot end the line."""
    assert "\\u001b[2Jx\\u000ay" == look.cut("\x1b[2Jx\ny", 40)


def test_a_word_stands_beside_every_glyph() -> None:
    """Meaning never rests on a glyph or a colour alone."""
    assert "✘ failed" == Style().sign("failed")
    assert "failed" == Style(glyphs=False).sign("failed")
    assert "\x1b[1;31m✘ failed\x1b[0m" == Style(colour=True).sign("failed")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("scene", [scene.__name__ for scene in make.SCENES])
def test_no_line_is_wider_than_the_screen(scene: str, width: int) -> None:
    """Rows, facts and hosts are cut to the screen, down to forty columns."""
    one = story.tell(make.load(scene))
    lines = [line for step in look.steps(one, one.last + 5, Style(width=width)) for line in step]
    assert [] == [line for line in lines + look.metrics(one, Style(width=width)) if look.cells(line) > width]


def test_who_is_waited_for_is_not_cut_on_a_narrow_screen() -> None:
    """What a person has to do something about stands there whole, on as many lines as it takes."""
    row = look.Row("waiting", "authority", 5.0, "key 2 of 2, expires in 29m 50s; given: ana (ml-oncall), for fraud-risk")
    first, *more = look.show(row, "authority", Style(width=40), 12)
    assert row.fact == " ".join(line.strip() for line in more)
    assert max(map(look.cells, [first, *more])) <= 40


def test_many_hosts_are_counted_and_those_in_trouble_named() -> None:
    """Three hundred hosts take as many lines as there are steps, and the three that failed."""
    rows = {row.key: row for row in look.rows(story.tell(make.fleet().entries), make.START + 90)}
    assert "300 of 300 hosts, version 47 → 46" == rows["execution/alias"].fact
    serve = rows["execution/serve"]
    assert ("failed", "300/300: 2 failed, 1 unreachable, 297 changed") == (serve.word, serve.fact)
    assert ["svc-044", "svc-174", "svc-300"] == [text.split()[0] for _, text in serve.more]


def test_a_step_that_nobody_runs_any_more_is_not_running() -> None:
    """Cut off is another fact than running: after an interruption, and where the process is gone."""
    one = story.tell(make.load("interrupted"))
    killed = story.tell(make.load("interrupted")[:-1])

    def word(told: story.Story, alive: bool) -> str:
        return next(row.word for row in look.rows(told, told.last + 60, alive) if row.key == "execution/serve")

    assert ["cut off", "running", "cut off"] == [word(one, True), word(killed, True), word(killed, False)]


def test_the_wait_for_keys_is_a_row_between_forensics_and_execution() -> None:
    """Authority has no steps, and stands where the sections have it."""
    one = story.tell(make.load("waiting"))
    keys = [row.key for row in look.rows(one, one.last + 10)]
    assert ["forensics/keep_version", "authority two-key", "execution/choose"] == keys[2:5]
    row = look.rows(one, one.asked_at + 60)[3]
    assert ("waiting", "key 2 of 2, expires in 29m; given: ana (ml-oncall)") == (row.word, row.fact)
