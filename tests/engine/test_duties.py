"""What regulators ask is answered from the record, or marked open with who should say it."""

from __future__ import annotations

from pathlib import Path

from test_evidence import staged, well

from engine import duties, story


def told(stage: object) -> dict[str, tuple[str, str]]:
    """question -> (answer, from)."""
    rows = duties.rows(story.tell(stage.entries()))  # type: ignore[attr-defined]
    return {question: (answer, source) for _, question, answer, source in rows}


def test_answered_from_the_record(tmp_path: Path) -> None:
    """What was altered, that evidence was sealed before, who asked, and what was done are told without anybody's help."""
    stage = staged(tmp_path)
    well(stage.run())
    said = told(stage)
    digest = stage.bodies("evidence.sealed")[0]["digest"]
    answer, source = said["Was the system altered before the authorities knew? (6)"]
    assert "execution/weight" in answer
    assert "evidence was sealed before" in answer
    assert digest in answer
    assert "the record" == source
    assert "asked for by eve" in said["Who is responsible for superseding the system, and did they decide?"][0]
    assert "succeeded" in said["Which procedure was followed to respond and recover?"][0]
    assert "A play" in said["Which system and which versions are affected?"][0]


def test_open_until_somebody_says_it(tmp_path: Path) -> None:
    """What no record can know is OPEN, with who should say it and the command; a note answers it, the newest one."""
    stage = staged(tmp_path)
    well(stage.run())
    question = "Which authority was informed, when; or why not?"
    run = stage.latest
    assert (f'OPEN, to be filled by legal counsel: engine note {run} "authority: …"', "nothing") == told(stage)[question]
    well(stage.engine("note", run, "authority: none, it is no serious incident", "--as", "lea"))
    well(stage.engine("note", run, "Authority: BNetzA was informed", "--as", "lea"))
    answer, source = told(stage)[question]
    assert answer.startswith("BNetzA was informed (lea, ")
    assert "a note" == source
    shown = stage.engine("report", run, "--format", "md", "--out", "-").out
    assert "## For regulators" in shown
    assert "OPEN, to be filled by legal counsel" in shown


def test_without_evidence_it_says_so(tmp_path: Path) -> None:
    """A change that was made without sealed evidence is told as one."""
    stage = staged(tmp_path, forensics=[])
    well(stage.run())
    assert "NO evidence was sealed before" in told(stage)["Was the system altered before the authorities knew? (6)"][0]


def test_nothing_is_claimed_of_a_run_that_only_looked(tmp_path: Path) -> None:
    """A run that changed nothing altered nothing, and its dates are open where no trigger held."""
    stage = staged(tmp_path)
    well(stage.run("--check"))
    said = told(stage)
    assert "nothing was changed" == said["Was the system altered before the authorities knew? (6)"][0]
    assert said["When did you become aware?"][0].startswith("OPEN")
    assert said["By when would it have to be reported?"][0].startswith("OPEN")
