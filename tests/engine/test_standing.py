"""Where a run stands: the word, the exit code, the four answers, and each entry in a line."""

import json

import pytest
from journals import make

from engine import standing, story
from engine.diagnostics import Exit
from engine.journal import Entry


def told(name: str) -> story.Story:
    return story.tell(make.load(name))


def ended(outcome: str, code: int, scene: str = "failed") -> story.Story:
    one = told(scene)
    body = {"outcome": outcome, "exit": code, "why": ""}
    one.add(Entry(one.run, 999, one.last, "run.ended", "", "", json.dumps(body)))
    return one


@pytest.mark.parametrize(
    ("scene", "word", "code", "follows"),
    [
        ("rollback", "SUCCEEDED", 0, "engine report RB-0142"),
        ("held", "HELD at verification/golden_set", 4, "engine resume RB-0143"),
        ("undone", "UNDONE", 1, "engine report RB-0144"),
        ("failed", "FAILED at execution/serve", 1, "engine resume RB-0145"),
        ("waiting", "WAITING for key 2 of 2", 5, "engine approve RB-0146"),
        ("interrupted", "INTERRUPTED", 130, "engine resume RB-0147"),
    ],
)
def test_every_end_has_its_word_its_code_and_its_next_command(scene: str, word: str, code: int, follows: str) -> None:
    """One word and one exit code for each way in which a run can stand."""
    stand = standing.of(told(scene))
    assert (word, code, follows) == (stand.word, stand.exit, stand.next)


@pytest.mark.parametrize(
    ("outcome", "code", "word", "follows"),
    [
        ("recovered", 0, "RECOVERED", "engine report RB-0145"),
        ("cancelled", 1, "CANCELLED", "engine report RB-0145"),
        ("rejected", 6, "REJECTED by ana, kofi", "engine plan playbooks/fraud-scorer.yml -i inventories/production"),
        ("expired", 6, "EXPIRED", "engine plan playbooks/fraud-scorer.yml -i inventories/production"),
        ("drifted", 7, "DRIFTED at execution/serve", "engine plan playbooks/fraud-scorer.yml -i inventories/production"),
        ("not_triggered", 0, "NOTHING TO DO", "engine report RB-0145"),
    ],
)
def test_the_rarer_ends_have_theirs_too(outcome: str, code: int, word: str, follows: str) -> None:
    """A remedy that worked is never plain success, and what moved asks for a new plan."""
    stand = standing.of(ended(outcome, code))
    assert (word, code, follows) == (stand.word, stand.exit, stand.next)


def test_a_run_that_another_kept_out_is_locked() -> None:
    """It says what it waits for, and goes on when the other one has ended."""
    stand = standing.of(ended("failed", 8, "waiting"))
    assert (stand.word, stand.exit, stand.waiting) == ("LOCKED", 8, "the other run to end")
    assert stand.next == "engine resume RB-0146"


def test_a_no_is_final_before_the_run_has_read_it() -> None:
    """Its process has ended: nobody is sent after another key."""
    one = told("waiting")
    body = {"person": "kofi", "role": "risk", "statement": {"decision": "reject"}}
    one.add(Entry(one.run, 999, one.last, "key.given", "", "", json.dumps(body)))
    stand = standing.of(one, alive=False)
    assert (stand.word, stand.exit, stand.next) == ("REJECTED", 6, "engine resume RB-0146")


@pytest.mark.parametrize(
    ("base", "playbook", "path", "typed"),
    [
        ("/r/playbooks", "playbooks/one.yml", "/r/inventories/x", "-i inventories/x"),
        ("/r", "one.yml", "/r/x y", "-i 'x y'"),
        ("/r/playbooks", "playbooks/one.yml", "/other/x", "-i /other/x"),
        ("/r/playbooks", "../playbooks/one.yml", "/r/inventories/x", "-i /r/inventories/x"),
    ],
)
def test_the_next_command_names_the_inventory_as_it_was_typed(base: str, playbook: str, path: str, typed: str) -> None:
    """What is shown can be pasted into the terminal."""
    one = story.Story()
    body = {"playbook": playbook, "base": base, "inventories": [path]}
    one.add(Entry("RB-0001", 1, 0.0, "run.started", "", "", json.dumps(body)))
    assert standing.plan_again(one) == f"engine plan {playbook} {typed}"


def asked_to_undo(keys: int) -> story.Story:
    """A finished run whose undo has asked for `keys` keys."""
    one = told("rollback")
    facts = {"act": f"undo {one.run}: back to version v47"}
    body = {"nonce": "another", "keys": keys, "roles": ["risk"], "expires": one.last + 60, "facts": facts}
    one.add(Entry(one.run, 998, one.last, "key.asked", "", "", json.dumps(body)))
    return one


def test_an_undo_that_waits_for_keys_is_not_called_success() -> None:
    """The run has succeeded, and still somebody is being waited for."""
    stand = standing.of(asked_to_undo(2))
    assert (stand.word, stand.exit, stand.next) == ("UNDO WAITING for key 1 of 2", 5, "engine approve RB-0142")
    assert "nothing is put back" in stand.nothing


def test_the_keys_of_the_run_count_on_when_its_undo_asks_for_more() -> None:
    """Who allowed the run does not change with a later question."""
    one = asked_to_undo(2)
    body = {"person": "kofi", "role": "risk", "statement": {"decision": "approve"}}
    one.add(Entry(one.run, 999, one.last, "key.given", "", "", json.dumps(body)))
    before = told("rollback")
    assert (one.decision, one.asked) == (before.decision, before.asked)
    assert [key.person for key in one.counted()] == [key.person for key in before.counted()]
    assert standing.of(one).word == "UNDO WAITING for key 2 of 2"


def test_an_undo_with_all_its_keys_is_to_be_called_again() -> None:
    """Its process has ended before the last key came."""
    stand = standing.of(asked_to_undo(0))
    assert (stand.word, stand.exit, stand.next) == ("UNDO may begin", 5, "engine undo RB-0142")


def test_a_no_ends_the_undo() -> None:
    """The run stands as it did."""
    one = asked_to_undo(2)
    body = {"person": "kofi", "role": "risk", "statement": {"decision": "reject"}}
    one.add(Entry(one.run, 999, one.last, "key.given", "", "", json.dumps(body)))
    assert standing.of(one).word == "SUCCEEDED"


def test_nothing_is_offered_to_be_undone_where_nothing_was_changed() -> None:
    """A run that was kept out goes on, or a new one starts."""
    assert "engine undo" not in standing.ways(ended("failed", 1, "waiting"))


def test_a_run_that_changed_nothing_says_so() -> None:
    """A second run of a finished playbook ends as nothing to do, not as success."""
    one = told("failed")
    for step in one.steps.values():
        step.outcome, step.intended, step.change = "unchanged", False, None
    one.outcome, one.exit = "succeeded", 0
    assert "NOTHING TO DO" == standing.of(one).word


def test_a_cancel_is_told_while_the_run_goes_on() -> None:
    """Who looks at it meanwhile does not take it for one that goes on to its end."""
    one = told("waiting")
    one.asked = {}
    one.add(Entry(one.run, 999, one.last, "cancel.asked", "", "", json.dumps({"by": "mira", "undo": False})))
    assert ("RUNNING", "it stops at the next safe point, as mira has asked") == (
        standing.of(one).word,
        standing.of(one).nothing,
    )


@pytest.mark.parametrize(("undo", "follows"), [(True, "engine undo RB-0145"), (False, "engine report RB-0145")])
def test_a_cancel_that_has_not_put_back_yet_names_the_undo(undo: bool, follows: str) -> None:
    """To put back took keys, and nobody has been asked for them."""
    one = ended("cancelled", 1)
    one.cancel_undo = undo
    assert one.changed()
    assert follows == standing.of(one).next


@pytest.mark.parametrize(
    ("outcome", "code", "follows"), [("failed", 1, "resume"), ("held", 4, "resume"), ("succeeded", 0, "ratify")]
)
def test_a_service_that_is_half_changed_comes_before_who_ratifies(outcome: str, code: int, follows: str) -> None:
    """Both are waited for; the one next command is that of the service."""
    one = ended(outcome, code)
    one.glass = {"person": "cid", "role": "commander", "ratify_by": one.last + 60}
    stand = standing.of(one)
    assert (stand.next, stand.word.split()[-1]) == (f"engine {follows} {one.run}", "UNRATIFIED")
    assert "a second person, who ratifies what cid did alone" in stand.waiting


def test_every_exit_code_of_a_run_has_a_meaning() -> None:
    """The codes that a run can end with are those that people are told about."""
    expected = set(Exit) - {Exit.USAGE, Exit.INVALID, Exit.CHANGES, Exit.BUG}
    assert expected == set(standing.MEANING)


def test_waiting_says_what_happens_if_nobody_signs() -> None:
    """Expiry never means go: the run ends, and no host is changed."""
    stand = standing.of(told("waiting"))
    assert "nothing that serves was changed" == stand.safe
    assert "at 2026-11-23 03:39:02Z the run ends expired (exit 6), and no host is changed" == stand.nothing


def test_a_run_whose_process_was_killed_is_interrupted() -> None:
    """The journal of a killed run says nothing of its end; who looks at its lease knows."""
    one = story.tell(make.load("interrupted")[:-1])
    assert "RUNNING" == standing.of(one, alive=True).word
    stand = standing.of(one, alive=False)
    assert ("INTERRUPTED", "engine resume RB-0147") == (stand.word, stand.next)
    assert "execution/serve on fraud-eu was being changed: resume looks before it acts" in stand.safe


def test_what_was_put_back_is_told_with_its_price() -> None:
    """After an undo the version that raised the alarm serves again, and that is said."""
    assert "put back: 2 hosts as before the run. What the alarm was about serves again" == standing.of(told("undone")).safe


def test_what_was_and_was_not_changed_is_told_apart() -> None:
    """A failure says what stands changed, what did not become what was wanted, and what was never begun."""
    one = told("failed")
    assert "changed: execution/alias (version 47 → 46); not verified yet" == standing.stands(one)
    assert "not changed as wanted: execution/serve; not reached: execution/purge_cache" == standing.left_out(one)


def test_what_is_left_for_people_is_listed() -> None:
    """A message that was not delivered and a change without undo are left to a person."""
    assert ["say what communications/tell could not (failed): chat.example does not answer: refused"] == standing.for_people(
        told("held")
    )
    assert ["execution/purge_cache was changed and has no undo"] == standing.for_people(told("rollback"))


@pytest.mark.parametrize("scene", [scene.__name__ for scene in make.SCENES])
def test_every_entry_has_a_line(scene: str) -> None:
    """No kind of entry is shown by its bare name: each has words of its own."""
    one = told(scene)
    for entry in one.entries:
        said = standing.describe(one, entry)
        assert said.word
        assert "." not in said.word
        assert said.actor


def test_an_unknown_entry_is_shown_by_its_name() -> None:
    """What a newer engine wrote is not hidden."""
    said = standing.describe(told("rollback"), Entry("RB-1", 9, 1.0, "moon.rose", "", "", '{"why": "it was time"}'))
    assert ("moon.rose", "it was time") == (said.word, said.text)


def test_hosts_are_named_when_few_and_counted_when_many() -> None:
    """A change on two of three hundred hosts is not told in three hundred names."""
    one = story.tell(make.fleet().entries)
    assert " on 297 of 300 hosts" == standing.on_hosts(
        one, [step for step in one.of("execution/serve") if step.word == "changed"]
    )
    assert " on svc-044, svc-174" == standing.on_hosts(
        one, [step for step in one.of("execution/serve") if step.word == "failed"]
    )
