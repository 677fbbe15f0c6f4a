"""Lint: the rules, the profiles, the comments that excuse a place, and the pages that explain each code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine import plan, review, rules, source
from engine.cli import main, opening
from engine.diagnostics import Diagnostic
from engine.layout import Options
from engine.review import Review

ROOT = Path(__file__).parents[2]
PAGES = source.load(ROOT / "schemas" / "diagnostics.d" / "lint.yml").data
#: A playbook at which no profile finds anything; an example that leaves a section out gets it from here.
WHOLE = """\
name: Roll a fraud model back to its last known-good version
description: For a new version that declines good customers.
strategy: version
hosts: scoring
owner: ml-platform
trigger:
  any:
    - name: Precision fell under its floor
      prometheus.metric: {server: http://p.example.org:9090, query: precision, below: 0.9, for: 5m, on_missing: hold}
  cooldown: 30m
forensics:
  - name: Keep the requests that it got wrong
    http.capture: {url: http://fraud.example.org:8080/audit, as: wrong-requests.jsonl}
authority:
  mode: two-key
  roles: [ml-oncall, fraud-risk]
execution:
  - name: Choose the version to go back to
    last_good: {of: directory.current, with: {path: /srv/models/fraud}, where: candidate.tags.validation == 'passed'}
    register: target
  - name: Point the registry at it
    directory.current: {path: /srv/models/fraud, version: "{{ target.version }}"}
verification:
  - name: The golden set scores as it did
    golden.predictions: {url: http://fraud.example.org, model: fraud, data: golden.jsonl, metric: accuracy, at_least: 0.97}
communications:
  - name: Tell the incident channel
    on: [started, waiting, succeeded, failed, held]
    notify: {to: incident-channel, message: "{{ run.summary }}"}
"""
SECTION = re.compile(r"^(?=[a-z])", re.MULTILINE)


def _whole(part: str) -> str:
    """The example with the sections that it leaves out; one that has an execution of its own is whole as it is."""
    mine = source.parse(part, "playbook.yml").data
    if "name" in mine and "execution" in mine:
        return part
    left_out = [text for text in SECTION.split(WHOLE)[1:] if text.partition(":")[0] not in mine]
    head = [text for text in left_out if "name" not in mine or text.partition(":")[0] not in ("description", "owner")]
    return part + "".join(head)


def _review(folder: Path, text: str, profile: str = "regulated") -> Review:
    file = folder / "playbook.yml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    modules, found = opening.catalog(file), list[Diagnostic]()
    book = opening.read(file, modules, found)
    assert [] == found
    assert book is not None
    made = plan.check(book, modules, (), Options(), found)
    assert [] == found
    return review.lint(made, modules, profile)


def _codes(folder: Path, text: str, profile: str = "regulated") -> set[str]:
    return {found.code for found in _review(folder, text, profile).diagnostics}


@pytest.mark.parametrize("code", sorted(PAGES))
def test_the_page_of_a_rule_shows_what_it_says(code: str, tmp_path: Path) -> None:
    """The bad example has the finding, the good one has not, and the page tells from which profile on."""
    page = PAGES[code]
    assert {"title", "exit", "why", "bad", "good"} == set(page)
    assert len(re.findall(r"\.\s", page["why"])) >= 2
    for name, expected in (("bad", {code}), ("good", set())):
        files = dict(page[name])
        for other in sorted(files.keys() - {"playbook.yml"}):
            (tmp_path / name / other).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / other).write_text(files[other])
        assert expected == _codes(tmp_path / name, _whole(files["playbook.yml"])) & {code}
    rule = next((rule for rule in rules.RULES if rule.code == code), None)
    for profile in (rule.warns, rule.fails) if rule else ():
        assert profile is None or f"`{profile}`" in page["why"]
    assert (0 if rule and rule.fails is None else 3) == page["exit"]


def test_every_rule_has_a_page_and_a_code_of_its_own() -> None:
    """No code is used twice, and none is without a page."""
    codes = [rule.code for rule in rules.RULES]
    assert len(codes) == len(set(codes))
    assert sorted(PAGES) == sorted([*codes, "LG390", "LG391", "LG392"])


def test_nothing_is_found_in_a_playbook_that_has_everything(tmp_path: Path) -> None:
    """No profile has anything to say of it."""
    for profile in review.PROFILES:
        assert () == _review(tmp_path, WHOLE, profile).diagnostics


def test_profiles_are_cumulative(tmp_path: Path) -> None:
    """What a profile finds, the next one finds too, at least as gravely."""
    bare = "name: x\nstrategy: configuration\nhosts: all\nmax_failed: 100%\nexecution:\n"
    bare += "  - name: a\n    command: {argv: [a], once: true}\n    on_failure: continue\n    when: true\n"
    grave = {None: 0, "warning": 1, "error": 2}
    before: dict[str, int] = {}
    for profile in review.PROFILES:
        now = {found.code: grave[found.severity] for found in _review(tmp_path, bare, profile).diagnostics}
        assert before == {code: min(now.get(code, 0), level) for code, level in before.items()}
        before = now
    assert {"LG301", "LG303", "LG306", "LG330", "LG333", "LG335", "LG361", "LG362"} <= set(before)
    for rule in rules.RULES:
        levels = [grave[rule.severity(profile)] for profile in review.PROFILES]
        assert levels == sorted(levels)


def test_a_section_that_is_there_without_steps_is_missing(tmp_path: Path) -> None:
    """`verification: []` verifies nothing."""
    text = WHOLE[: WHOLE.index("verification:")] + "verification: []\n" + WHOLE[WHOLE.index("communications:") :]
    assert {"LG306"} == _codes(tmp_path, text, "production")


@pytest.mark.parametrize(
    "line",
    [
        "    golden.predictions: {url: http://f.example, model: f, data: g.jsonl, metric: accuracy, at_least: 0.0%}",
        "    golden.predictions: {url: http://f.example, model: f, data: g.jsonl, metric: accuracy, at_least: 0.9}\n"
        "    on_failure: continue",
        "    replay.requests: {from: w.jsonl, url: http://f.example, model: f, expect: 1 < 2, at_least: 95%}",
    ],
)
def test_a_check_that_every_model_meets_is_found_already_in_a_draft(line: str, tmp_path: Path) -> None:
    """A floor of nothing, a failure that goes on, an expectation that does not look: a warning, and an error for a team."""
    text = WHOLE[: WHOLE.index("verification:")] + f"verification:\n  - name: check\n{line}\n"
    assert ["warning"] == [found.severity for found in _review(tmp_path, text, "draft").diagnostics]
    assert {("LG320", "error"), ("LG307", "warning")} == {
        (found.code, found.severity) for found in _review(tmp_path, text, "team").diagnostics
    }


def test_an_undo_that_is_asked_of_verification_needs_undos_too(tmp_path: Path) -> None:
    """`verification: {on_failure: undo}` promises the same as `on_failure: undo` of a step."""
    text = WHOLE.replace("verification:\n", "verification:\n  on_failure: undo\n  steps:\n").replace(
        "  - name: The golden", "    - name: The golden"
    )
    text = text.replace("    golden.pred", "      golden.pred")
    assert set() == _codes(tmp_path, text)
    text = text.replace("execution:\n", "execution:\n  - name: Stop it\n    command: {argv: [stop], unless: [stopped]}\n")
    assert {"LG331"} == _codes(tmp_path, text, "production")


# ------------------------------------------------------------------------------------------------- excuses
def test_a_comment_excuses_its_line_and_keeps_its_reason(tmp_path: Path) -> None:
    """On the line or above it, with other comments between; several codes at once."""
    beside = WHOLE.replace("hosts: scoring", "hosts: all  # lint: ignore LG361 there is one service")
    found = _review(tmp_path, beside)
    assert () == found.diagnostics
    assert [("LG361", "there is one service")] == [(said.code, reason) for said, reason in found.excused]
    above = "# lint: ignore LG301, LG302: asked for\n\n# more words\n" + re.sub("(description|owner):.*\n", "", WHOLE)
    found = _review(tmp_path, above)
    assert () == found.diagnostics
    assert ["LG301", "LG302"] == [said.code for said, _ in found.excused]
    assert {"asked for"} == {reason for _, reason in found.excused}


def test_a_comment_above_a_step_excuses_all_of_the_step_and_nothing_else(tmp_path: Path) -> None:
    """A finding deep inside the step is excused; the same finding in the next step is not."""
    step = "  - name: {}\n    command:\n      argv: [stop]\n      once: true\n"
    text = WHOLE.replace(
        "execution:\n", "execution:\n  # lint: ignore LG333,LG332 seen\n" + step.format("a") + step.format("b")
    )
    found = _review(tmp_path, text)
    assert [("LG332", 24), ("LG333", 24)] == [(d.code, d.place.line) for d in found.diagnostics if d.place]
    assert [("LG332", 20), ("LG333", 20)] == [(d.code, d.place.line) for d, _ in found.excused if d.place]


def test_what_only_looks_like_a_comment_excuses_nothing(tmp_path: Path) -> None:
    """Inside a quoted text or a block of text the words are text."""
    text = WHOLE.replace("scoring", '"all"').replace(
        "description: For a new version that declines good customers.",
        "description: |\n  For whom?\n  # lint: ignore LG361 not a comment",
    )
    assert {"LG361"} == _codes(tmp_path, text)
    text = WHOLE.replace("owner: ml-platform", "owner: 'a # lint: ignore LG361 not a comment'").replace("scoring", "all")
    assert {"LG361"} == _codes(tmp_path, text)


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        ("# lint: ignore LG361", "LG390"),
        ("# lint: ignore LG361 -", "LG390"),
        ("# lint: ignore LG999 because", "LG391"),
        ("# lint: ignroe LG361 because", "LG391"),
        ("# lint: ignore everything", "LG391"),
        ("# lint ignore: LG361 because", "LG391"),
        ("# lint: ignore LG301 because", "LG392"),
    ],
)
def test_a_comment_that_means_nothing_is_an_error_in_every_profile(comment: str, code: str, tmp_path: Path) -> None:
    """No reason, no such rule, another word, nothing to excuse."""
    text = WHOLE.replace("hosts: scoring", f"hosts: all  {comment}")
    for profile in review.PROFILES:
        found = [d for d in _review(tmp_path, text, profile).diagnostics if d.code.startswith("LG39")]
        assert [(code, "error")] == [(d.code, d.severity) for d in found]
        assert found[0].place is not None
        assert found[0].place.text[found[0].place.column - 1 :] == comment


def test_an_excuse_for_a_stricter_profile_is_not_unused_in_a_milder_one(tmp_path: Path) -> None:
    """`draft` has nothing to say of `hosts: all`, and nothing of its excuse."""
    text = WHOLE.replace("hosts: scoring", "hosts: all  # lint: ignore LG361 there is one service")
    assert () == _review(tmp_path, text, "draft").diagnostics


def test_a_comment_in_an_imported_file_excuses_there(tmp_path: Path) -> None:
    """Places are those of the file in which the step stands."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "stop.yml").write_text(
        "# lint: ignore LG332 it starts by itself\n- name: Stop it\n  command: {argv: [stop], unless: [stopped]}\n"
    )
    text = WHOLE.replace("execution:\n", "execution:\n  - import: steps/stop.yml\n")
    found = _review(tmp_path, text)
    assert () == found.diagnostics
    assert [("steps/stop.yml", 3)] == [(d.place.path[-14:], d.place.line) for d, _ in found.excused if d.place]


# ------------------------------------------------------------------------------------------------- the verb
def test_the_shipped_playbooks_are_clean_at_production(capsys: pytest.CaptureFixture[str]) -> None:
    """What we ship, and what `engine init` writes, is what we ask of others."""
    files = [str(file) for file in sorted((ROOT / "playbooks").glob("*.yml"))]
    assert len(files) >= 5
    code = main.run(["lint", *files, str(ROOT / "playbooks" / "starter" / "rollback.yml")])
    shown = capsys.readouterr().out
    assert "clean" in shown, shown
    assert 0 == code


def test_the_verb_shows_findings_with_their_lines_and_ends_with_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors make exit 3, warnings alone do not; the last line names the next command."""
    file = tmp_path / "p.yml"
    file.write_text(WHOLE.replace("hosts: scoring", "hosts: all").replace("owner: ml-platform\n", ""))
    assert 3 == main.run(["lint", str(file)])
    shown = capsys.readouterr().out
    assert f"warning[LG361]: this playbook reaches every model service there is\n  --> {file}:4:8" in shown
    assert "error[LG301]" in shown
    assert "next: engine doc LG301" == shown.splitlines()[-1]
    assert 0 == main.run(["lint", str(file), "--profile", "team"])
    assert 0 == main.run(["lint", str(file), "--profile", "draft"])
    assert "clean" in capsys.readouterr().out.splitlines()[-2]


def test_an_invalid_playbook_is_not_reviewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First what validate says; the file's other neighbours are still reviewed."""
    bad, good = tmp_path / "bad.yml", tmp_path / "good.yml"
    bad.write_text(WHOLE.replace("hosts: scoring\n", ""))
    good.write_text(WHOLE.replace("scoring", "all"))
    assert 3 == main.run(["lint", str(bad), str(good), str(tmp_path / "none.yml")])
    shown = capsys.readouterr().out
    assert {"LG001", "LG013", "LG361"} == set(re.findall(r"\[(LG\d+)\]", shown))


def test_an_unknown_profile_is_a_usage_mistake_with_the_likely_spelling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and the names there are."""
    assert 2 == main.run(["lint", str(tmp_path), "--profile", "prodution"])
    assert "production" in capsys.readouterr().err


def test_machine_formats_hold_the_findings_and_the_excused_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines that begin with their format; SARIF with places, rules and suppressions; and nothing else."""
    file = tmp_path / "p.yml"
    file.write_text(WHOLE.replace("scoring", "all  # lint: ignore LG361 one service").replace("owner: ml-platform\n", ""))
    assert 3 == main.run(["lint", str(file), "--format", "json"])
    head, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"format": "lastgood.lint/1", "profile": "production", "files": [str(file)]} == head
    assert [("LG301", "error", 1, None), ("LG361", "warning", 4, "one service")] == [
        (line["code"], line["severity"], line["line"], line["excused"]) for line in lines
    ]
    assert 3 == main.run(["lint", str(file), "--format", "sarif"])
    sarif = json.loads(capsys.readouterr().out)
    assert "2.1.0" == sarif["version"]
    (run,) = sarif["runs"]
    assert ["LG301", "LG361"] == [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert PAGES["LG301"]["title"] == run["tool"]["driver"]["rules"][0]["shortDescription"]["text"]
    plain, excused = run["results"]
    assert ("LG301", "error") == (plain["ruleId"], plain["level"])
    where = excused["locations"][0]["physicalLocation"]
    assert file.as_posix() == where["artifactLocation"]["uri"]
    assert {"startLine": 4, "startColumn": 8, "endColumn": 11} == where["region"]
    assert [{"kind": "inSource", "justification": "one service"}] == excused["suppressions"]
    assert "suppressions" not in plain
