"""Journals folded into stories: the golden ones, and what each entry adds."""

import json
from itertools import pairwise

import pytest
from journals import make

from engine import story
from engine.journal import Entry
from engine.story import Story

SCENES = [scene.__name__ for scene in make.SCENES]


def told(name: str) -> Story:
    return story.tell(make.load(name))


def entry(kind: str, body: dict, host: str = "", step: str = "", seq: int = 99, at: float = make.START + 999.0) -> Entry:
    return Entry("RB-1", seq, at, kind, host, step, json.dumps(body))


@pytest.mark.parametrize("scene", make.SCENES, ids=SCENES)
def test_the_golden_journals_are_those_that_are_told_by_hand(scene) -> None:
    """The files beside make.py hold exactly what it tells."""
    expected = (make.HERE / f"{scene.__name__}.jsonl").read_text(encoding="utf-8")
    assert expected == "\n".join(make.lines(scene())) + "\n"


@pytest.mark.parametrize("name", SCENES)
def test_a_story_told_bit_by_bit_is_the_story_told_at_once(name: str) -> None:
    """What the live view knows at the end is what the report knows later; reading in between changes nothing."""
    bit_by_bit = Story()
    for one in make.load(name):
        bit_by_bit.add(one)
        bit_by_bit.rows(), bit_by_bit.counts(), bit_by_bit.culprit()
    at_once = told(name)
    assert vars(at_once) == vars(bit_by_bit)


def test_a_rollback_is_told_with_its_people_its_changes_and_its_checks() -> None:
    """The first golden journal: two keys, three changes, three checks."""
    one = told("rollback")
    assert ("RB-0142", "succeeded", 0) == (one.run, one.outcome, one.exit)
    assert [("ana", "ml-oncall"), ("kofi", "fraud-risk")] == [(key.person, key.role) for key in one.counted()]
    assert ["execution/alias", "execution/serve", "execution/purge_cache"] == [step.key for step in one.changed()]
    assert {"changed": 3, "kept": 2, "unchanged": 5} == one.counts()
    assert "version 47 → 46" == one.steps["fraud-eu", "execution/alias"].fact
    assert "wrong-requests.jsonl, 184233 bytes" in one.steps["fraud-eu", "forensics/keep_wrong"].fact
    assert 816.0 == pytest.approx(one.seconds, abs=1.0)
    assert [2, 0] == [
        sum(m.sent is not None for m in one.messages.values()),
        sum(len(m.failures) for m in one.messages.values()),
    ]


def test_a_key_that_was_refused_is_kept_and_does_not_count() -> None:
    """Who asked for the run is in the record with the reason, and gives no key."""
    mira = next(key for key in told("rollback").keys if key.person == "mira")
    assert "mira asked for this run, and who asks never counts" == mira.refused


def test_one_person_gives_one_key() -> None:
    """A second key of the same person is shown and not counted."""
    one = told("waiting")
    body = {"person": "ana", "role": "fraud-risk", "fingerprint": "f", "statement": {"decision": "approve"}}
    one.add(entry("key.given", body))
    assert [("ana", "")] == [(key.person, key.refused) for key in one.counted()]
    assert "this person has already given a key" == one.keys[-1].refused


def test_a_rejection_is_no_key() -> None:
    """A signed no is in the record and does not count towards the yes."""
    one = told("waiting")
    one.add(entry("key.given", {"person": "kofi", "role": "fraud-risk", "statement": {"decision": "reject"}}))
    assert 1 == len(one.counted())


def test_keys_are_what_the_engine_settled() -> None:
    """The engine checks signatures; a key that it left out when it settled is not shown as counted."""
    one = told("waiting")
    one.add(entry("key.given", {"person": "eve", "role": "fraud-risk", "statement": {"decision": "approve"}}))
    one.add(entry("authority.settled", {"decision": "approved", "why": "", "people": ["ana", "kofi"]}))
    assert ["ana"] == [key.person for key in one.counted()]


def test_a_new_question_voids_the_keys_of_the_old_one() -> None:
    """Keys belong to a question: another nonce makes the earlier ones void, visibly."""
    one = told("waiting")
    one.add(entry("key.asked", {**one.asked, "nonce": "other"}))
    assert [] == one.counted()
    assert "given for an earlier question" == one.keys[0].refused


def test_what_a_crash_hid_is_still_our_change() -> None:
    """An intent, then `unchanged` after a resume: the run made the change, and says from what to what."""
    one = told("resumed")
    step = one.steps["fraud-eu", "execution/serve"]
    assert ("unchanged", True, False) == (step.outcome, step.made, step.open)
    assert "execution/serve" in [changed.key for changed in one.changed()]
    assert {"before": {"version": "47"}, "after": {"version": "46"}} == step.change


def test_an_intent_without_an_outcome_stays_open() -> None:
    """Where the run was cut off, it may or may not have taken effect, and the story says so."""
    one = told("interrupted")
    assert one.interrupted
    assert ["execution/serve"] == [step.key for step in one.steps.values() if step.open]


def test_resume_takes_up_a_run_that_had_ended() -> None:
    """A failed run that is resumed is no longer failed, and what failed before is remembered."""
    one = told("failed")
    one.add(entry("run.resumed", {"by": "ana"}))
    assert (None, "") == (one.ended, one.outcome)
    one.add(entry("step.outcome", {"outcome": "changed", "change": None}, "fraud-eu", "execution/serve"))
    assert ["unreachable"] == [outcome for _, outcome, _ in one.steps["fraud-eu", "execution/serve"].earlier]
    assert [] == one.troubles()


def test_what_was_put_back_is_undone_and_no_longer_changed() -> None:
    """Undo turns `changed` into `undone`; the failure that caused it stays a failure."""
    one = told("undone")
    assert [] == one.changed()
    assert 3 == one.counts()["undone"]
    assert ["execution/serve"] == [step.key for step in one.troubles()]
    assert "version 46 → 47" == one.undo_steps[0].fact


def test_the_steps_are_in_the_plans_order_with_the_items_of_a_loop_in_their_place() -> None:
    """A plan's gates are no steps; loop items take the place of the step they come from."""
    one = told("waiting")
    for i in range(2):
        one.add(entry("step.outcome", {"outcome": "changed"}, "fraud-eu", f"execution/alias[{i}]"))
    keys = [row.key for row in one.rows()]
    assert ["execution/choose", "execution/alias[0]", "execution/alias[1]", "execution/serve"] == keys[3:7]
    assert {"execution/purge_cache": False, "execution/alias": True, "execution/choose": None} == {
        key: one.planned[key].undo for key in ("execution/purge_cache", "execution/alias", "execution/choose")
    }


def test_curves_of_one_question_are_one_curve() -> None:
    """Trigger and verification ask the same: their samples are merged, with both limits named."""
    (series,) = told("rollback").series.values()
    assert ["alarm below 0.9", "good above 0.95"] == [limit.label for limit in series.limits]
    assert all(before < after for (before, _), (after, _) in pairwise(series.curve))


@pytest.mark.parametrize("samples", [[[1]], [["a", 1]], [[1, None]], None, "x", [[1, True, 2]]])
def test_a_reading_that_is_no_curve_is_no_curve(samples: object) -> None:
    """Whatever a module calls `_series`, it cannot break the story."""
    one = Story()
    reading = {"_query": "q", "_series": samples, "_below": 1.0}
    one.add(entry("step.outcome", {"outcome": "unchanged", "reading": reading}, "h", "verification/x"))
    assert [] == [point for series in one.series.values() for point in series.curve]


def test_a_step_without_log_is_told_by_its_digest() -> None:
    """With `no_log` there is a digest instead of a change and a reading, and that is no error."""
    one = Story()
    body = {"outcome": "changed", "reading": {"_digest": "sha256:00"}, "change": {"_digest": "sha256:11"}}
    one.add(entry("step.outcome", body, "h", "execution/x"))
    assert "" == one.steps["h", "execution/x"].fact


def test_what_is_only_announced_is_not_in_the_record() -> None:
    """A step that starts or waits is shown while it goes on, and leaves no entry behind."""
    one = told("waiting")
    before = len(one.entries)
    one.add(entry("step.started", {"module": "last_good", "name": "Choose"}, "fraud-eu", "execution/choose", seq=0))
    assert "running" == one.steps["fraud-eu", "execution/choose"].outcome
    one.add(entry("step.waiting", {"why": "try 2 of 3"}, "fraud-eu", "execution/choose", seq=0))
    assert ("waiting", "try 2 of 3") == (
        one.steps["fraud-eu", "execution/choose"].outcome,
        one.steps["fraud-eu", "execution/choose"].fact,
    )
    assert before == len(one.entries)


@pytest.mark.parametrize("kind", ["future.thing", "add", "step", "plan", "curve", "on.run.started", "run.exploded"])
def test_a_kind_from_a_newer_engine_is_kept_and_changes_nothing(kind: str) -> None:
    """Entries are added to the format, never changed: what is not known stays in the timeline."""
    one = told("rollback")
    before = one.counts()
    one.add(entry(kind, {"steps": 1}, "h", "execution/x"))
    assert (kind, before) == (one.entries[-1].kind, one.counts())


def test_a_trigger_that_says_no_has_not_failed() -> None:
    """A run by hand goes on whatever the trigger says; that is an answer, not a trouble."""
    one = Story()
    one.add(entry("step.outcome", {"outcome": "failed", "reading": {"met": False}}, "h", "trigger/x"))
    step = one.steps["h", "trigger/x"]
    assert ("no alarm", False, []) == (step.said, step.bad, one.troubles())


def test_a_held_run_names_the_check_and_not_the_message_that_failed() -> None:
    """The culprit of a held run is its verification."""
    culprit = told("held").culprit()
    assert culprit is not None
    assert ("verification/golden_set", "playbooks/fraud-scorer.yml:57:7") == (culprit.key, culprit.at)


def test_a_fleet_is_counted_by_host() -> None:
    """Three hundred hosts: who failed is named, the others are counted."""
    one = story.tell(make.fleet().entries)
    assert (["svc-044", "svc-174"], ["svc-300"]) == (one.hosts_in("failed"), one.hosts_in("unreachable"))
    assert {"changed": 597, "unchanged": 297, "failed": 2, "unreachable": 1} == one.counts()
    assert {"changed": 2, "unchanged": 1} == one.counts("svc-001")


def test_a_view_need_not_keep_the_entries() -> None:
    """A story of a large run that goes on keeps what it needs and lets the entries go."""
    one = Story(keep=False)
    for each in make.load("rollback"):
        one.add(each)
    assert ([], "succeeded") == (one.entries, one.outcome)
