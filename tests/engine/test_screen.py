"""What a command prints: recap, status, plan, difference."""

import re

import pytest
from journals import make

from engine import look, screen, story
from engine.look import Style
from modules.contract import Change

SCENES = [scene.__name__ for scene in make.SCENES]
FAILED = """\
RECAP RB-0145   FAILED at execution/serve   in 3m14s
 exit 1: a step failed; the run can be resumed
 steps     changed 1  unchanged 2  skipped 0  failed 0  unreachable 1  kept 2
           (3 retries)
 failed    execution/serve on fraud-eu at playbooks/fraud-scorer.yml:45:7:
           http://scorer.eu.example:8080 does not answer: Connection refused
 stands    changed: execution/alias (version 47 → 46); not verified yet; not
           changed as wanted: execution/serve; not reached:
           execution/purge_cache
 tried     4 attempts in 31s; nothing was put back
 do        is it up, and is the address right? `engine resume RB-0145` goes on
           from there, `engine undo RB-0145` puts back what it changed.
 keys      ana as ml-oncall 03:09:57Z, kofi as fraud-risk 03:11:42Z; plan
           a9b6-8b06
 messages  1 sent, 0 not delivered
next: engine resume RB-0145
"""
WAITING = """\
RB-0146  Roll a fraud model back to its last known-good version
 WAITING for key 2 of 2   2m10s so far, expires in 27m50s
 safe?     nothing that serves was changed
 key 1     ✔ key given ana as ml-oncall, 2026-11-23 03:09:57Z
 key 2     ◷ waiting for another of ml-oncall or fraud-risk
 waits for another key, from ml-oncall or fraud-risk
 nothing   at 2026-11-23 03:39:02Z the run ends expired (exit 6), and no host is
           changed
 ways      engine approve RB-0146 | engine reject RB-0146 | engine cancel
           RB-0146
"""


def told(name: str) -> story.Story:
    return story.tell(make.load(name))


def step(section: str, ident: str, undo: str, grade: str, change: list | None = None, hosts: int = 1, why: str = "") -> dict:
    return {
        "section": section, "id": f"{section}/{ident}", "name": ident, "module": "m", "undo": undo, "grade": grade,
        "change": change or [], "hosts": hosts, "why": why, "acts": undo != "-" or section == "forensics",
    }  # fmt: skip


PREVIEW = {
    "digest": "sha256:7f3c21e9aa",
    "name": "Roll a fraud model back",
    "strategy": "version",
    "hosts": ["fraud-eu", "fraud-us", "fraud-ap"],
    "trigger": [
        {"id": "precision_fell", "met": True, "why": "precision 0.71, below 0.9", "host": host}
        for host in ("fraud-eu", "fraud-us")
    ],
    "authority": {"mode": "two-key", "roles": ["ml-oncall", "fraud-risk"], "keys": 2, "expires": 1800},
    "now": {"version": "47", "digest": "sha256:" + "9c1e" * 16},
    "back_to": {"version": "46", "digest": "sha256:" + "41ab" * 16, "now": "47", "why": "46 is the newest that was good"},
    "batches": [["fraud-eu"], ["fraud-us", "fraud-ap"]],
    "budget": "max_failed 0 of 3 hosts: none may fail, the first stops the run; unreachable counts; batches 1, 2",
    "steps": [
        step("forensics", "keep_wrong", "NONE", "exact", [["stored", False, True]], 3),
        step("execution", "choose", "-", "read-only", why="46, of 3 candidates"),
        step("execution", "alias", "automatic", "exact", [["version", "47", "46"]], 3),
        step("execution", "warm", "automatic", "exact"),
        step("execution", "serve", "automatic", "known later", why="needs the result of choose"),
        step("execution", "purge_cache", "NONE", "NOT PREVIEWABLE", why="a command"),
        step("verification", "golden_set", "-", "read-only"),
        step("verification", "latency", "-", "read-only"),
        step("verification", "precision_stays", "-", "read-only"),
        step("communications", "tell", "-", "exact"),
    ],
}


def test_the_recap_of_a_failure_gives_four_answers() -> None:
    """What failed and where it is written, where it stands, what was tried, what to do; the next command is last."""
    assert FAILED == screen.recap(told("failed"), Style(width=80))


def test_the_status_of_a_wait_gives_four_answers_first() -> None:
    """Is it safe, what is it waiting for, what if nobody does anything, what is next; the steps come after."""
    one = told("waiting")
    shown = screen.status(one, one.asked_at + 130, Style(width=80))
    assert shown.startswith(WAITING)
    assert shown.endswith("next: engine approve RB-0146\n")


@pytest.mark.parametrize("scene", SCENES)
def test_the_last_line_is_the_next_command(scene: str) -> None:
    """Every recap and every status ends by naming the next command."""
    one = told(scene)
    for shown in (screen.recap(one), screen.status(one, one.last + 1)):
        assert re.fullmatch(r"next: engine \w+ .+", shown.splitlines()[-1])


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("scene", [*SCENES, "fleet"])
def test_everything_fits_the_screen(scene: str, width: int) -> None:
    """Recap and status are no wider than the screen, and hold no control characters without colour."""
    one = story.tell(make.fleet().entries) if scene == "fleet" else told(scene)
    for shown in (screen.recap(one, Style(width=width)), screen.status(one, one.last, Style(width=width))):
        assert [] == [line for line in shown.splitlines()[:-1] if look.cells(line) > width]
        assert "\x1b" not in shown


def test_colour_changes_no_text() -> None:
    """Without its colours a coloured recap is the plain one."""
    one = told("held")
    coloured = screen.recap(one, Style(width=80, colour=True))
    assert "\x1b[" in coloured
    assert screen.recap(one, Style(width=80)) == "\n".join(look.bare(line) for line in coloured.split("\n"))


def test_a_success_says_what_was_checked_and_what_is_left() -> None:
    """The recap of a success has the checks with their values, the keys, the report, and what a person must know."""
    shown = screen.recap(told("rollback"), Style(width=200), "runs/RB-0142/report.html")
    assert "RECAP RB-0142   SUCCEEDED   in 13m36s   exit 0: done, or nothing to do" in shown
    assert "verification/golden_set met: precision 0.981 on 500 rows, at least 0.97 is wanted" in shown
    assert "for you   1 execution/purge_cache was changed and has no undo" in shown
    assert "report    runs/RB-0142/report.html" in shown


def test_few_hosts_have_a_row_each_and_many_a_summary() -> None:
    """Two hosts are counted one by one; of three hundred only those in trouble are named."""
    assert "   fraud-eu  changed 2  unchanged 2  skipped 1  failed 1  kept 2\n   fraud-us  not reached\n" in screen.recap(
        told("held")
    )
    shown = screen.recap(story.tell(make.fleet().entries), Style(width=200))
    assert "hosts     300: 297 changed, 2 failed (svc-044, svc-174), 1 unreachable (svc-300)" in shown
    assert len(shown.splitlines()) < 15


def test_a_dead_run_is_shown_as_interrupted() -> None:
    """When no process holds the run, nothing is shown as running."""
    one = story.tell(make.load("interrupted")[:-1])
    shown = screen.status(one, one.last + 3600, alive=False)
    assert " INTERRUPTED" in shown
    assert "? cut off     serve " in shown
    assert "running" not in shown


def test_a_plan_of_ten_steps_fits_forty_lines() -> None:
    """The whole plan is seen at once on a terminal of forty lines and eighty columns."""
    shown = screen.plan_text(PREVIEW, look=Style(width=80), next="engine run rb.plan")
    assert len(shown.splitlines()) <= 40
    assert shown.endswith("next: engine run rb.plan\n")
    assert all(look.cells(line) <= 80 for line in shown.splitlines())


def test_a_plan_shows_each_step_with_its_undo_and_its_grade() -> None:
    """The sign, the change from what to what, whether it can be undone, and how sure the preview is."""
    rows = screen.plan_text(PREVIEW, look=Style(width=110)).splitlines()
    assert any(re.fullmatch(r" ~  3  execution/alias +version 47 → 46 on 3 hosts +automatic +exact", row) for row in rows)
    assert any(re.fullmatch(r" !  6  execution/purge_cache +a command +NONE +NOT PREVIEWABLE", row) for row in rows)
    assert any(re.fullmatch(r" =  4  execution/warm .*exact", row) for row in rows)
    assert any(re.fullmatch(r" \+  1  forensics/keep_wrong +stored no → yes on 3 hosts +- +exact", row) for row in rows)
    order = [
        next(i for i, row in enumerate(rows) if name in row)
        for name in ("keep_wrong", "authority two-key", "execution/choose")
    ]
    assert sorted(order) == order


def test_the_totals_of_a_plan_count_undo_and_grades() -> None:
    """Totals never hide what cannot be undone or previewed, and the text says that nothing has been changed."""
    shown = screen.plan_text(PREVIEW, look=Style(width=120))
    assert "in all    1 record, 3 changes (1 without undo), 5 checks, 1 message, 2 keys" in shown
    assert "1 NOT PREVIEWABLE" in shown
    assert "Nothing has been changed yet." in shown


def test_a_plan_shows_now_against_back_to_and_why() -> None:
    """Both sides of each fact on one line, and the reason of the choice below; a trigger is told once for all its hosts."""
    shown = screen.plan_text(PREVIEW, look=Style(width=120))
    assert re.search(r"^ version   47 +46$", shown, re.MULTILINE)
    assert re.search(r"^ digest    sha256:9c1e9c1e… +sha256:41ab41ab…$", shown, re.MULTILINE)
    assert "chosen    46 is the newest that was good" in shown
    assert "trigger   holds: precision_fell: precision 0.71, below 0.9 (and 1 more host)" in shown


def test_a_plan_in_full_leaves_nothing_out() -> None:
    """Every host, the name and module of each step, each changed value on a line."""
    shown = screen.plan_text({**PREVIEW, "hosts": [f"h{i}" for i in range(9)]}, full=True)
    assert "h0, h1, h2, h3, h4, h5, h6, h7, h8" in shown
    assert "version: 47 → 46" in shown


def test_a_plan_with_little_in_it_is_shown_too() -> None:
    """A preview without trigger, choice or steps is no error."""
    assert "no key is asked for" in screen.plan_text({"name": "x", "hosts": ["a"], "authority": {"mode": "automatic"}})


def test_a_difference_is_what_is_and_what_will_be() -> None:
    """One line for each side; a side that is absent has none."""
    assert "- version: 47\n+ version: 46\n" == screen.diff_text(Change({"version": "47"}, {"version": "46"}))
    assert "+ path: a\n" == screen.diff_text({"before": None, "after": {"path": "a"}})
    assert "" == screen.diff_text(None)
