"""Leave to change something: asked anew when roster or policy change, looked at again before what cannot be taken back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage import PEOPLE, TWO_KEYS, Said, Stage, look, step

from engine import outbox, policy, sshsig
from engine.diagnostics import EngineError
from engine.leave import Leave
from engine.trust import Trust

TELL = {"name": "Tell", "notify": {"to": "desk", "message": "{{ run.event }}"}, "on": ["break_glass", "ended"]}
GLASS = {**TWO_KEYS, "break_glass": {"role": "chief", "ratify_within": "2h"}}
ALWAYS = {"name": "all-year", "reason": "audit", "from": "2000-01-01T00:00", "until": "2100-01-01T00:00"}
OVER = {"name": "long-ago", "reason": "audit", "from": "2000-01-01T00:00", "until": "2001-01-01T00:00"}


def keyed(folder: Path, *steps: Any, **more: Any) -> Stage:
    return Stage(folder, {"execution": list(steps), "authority": TWO_KEYS, **more}).people()


def roster(stage: Stage, **roles: str) -> None:
    """Writes the roster anew: name=role; a person without a role is not in it any more."""
    people = [
        {"name": name, "roles": [role], "keys": [(stage.folder / f"{name}.pub").read_text().strip()]}
        for name, role in {**PEOPLE, **roles}.items()
        if role
    ]
    (stage.stock / "roster.yml").write_text(json.dumps({"people": people}))


def freeze(stage: Stage, *windows: dict[str, Any]) -> None:
    (stage.stock / "freeze.yml").write_text(json.dumps({"windows": list(windows)}))


def asked(stage: Stage) -> bool:
    try:
        return any(entry.kind == "key.asked" for entry in stage.entries())
    except EngineError:  # the store is only just being made
        return False


def during(stage: Stage, act: Callable[[], Any], run: Callable[[], Said]) -> Said:
    """Runs, and does `act` in another thread as soon as keys are asked for."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not asked(stage) and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        return run()
    finally:
        thread.join()


# --- while the question is open


def test_a_changed_roster_asks_anew(tmp_path: Path) -> None:
    """When the roster changes while keys are awaited, the question is asked anew and earlier keys answer nothing."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve("ana")
    sshsig.generate(tmp_path / "cid", "cid")
    roster(stage, cid="fraud-risk")
    said = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ben"), "--confirm", "RB-0001")
    assert 6 == said.exit
    assert "the roster has changed since RB-0001 asked" in said.text
    assert 5 == stage.resume("--no-wait").exit
    first, second = stage.bodies("key.asked")
    assert "the roster has changed" == second["again"]
    assert first["nonce"] != second["nonce"]
    assert first["roster"] != second["roster"]
    stage.approve("ben")
    assert 5 == stage.resume("--no-wait").exit, "ana's key was for the earlier question"
    stage.approve("ana")
    assert 0 == stage.resume().exit
    assert {"x": 1} == stage.thing("a")


def test_a_changed_policy_asks_anew(tmp_path: Path) -> None:
    """New freeze windows change what was agreed to, also when none of them is open now."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    freeze(stage, OVER)
    said = stage.resume("--no-wait")
    assert 5 == said.exit
    assert "asked anew, because the freeze windows have changed" in said.text
    assert "the freeze windows have changed" == stage.bodies("key.asked")[-1]["again"]
    stage.approve()
    assert 0 == stage.resume().exit


def test_without_a_roster_nobody_says_yes(tmp_path: Path) -> None:
    """A roster that is gone stops the run by name, and it goes on when the roster is back."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    (stage.stock / "roster.yml").unlink()
    said = stage.resume()
    assert 3 == said.exit
    assert "LG204" in said.err
    assert not stage.effects()
    stage.inventory()
    assert 0 == stage.resume().exit


def test_keys_are_used_with_the_answer(tmp_path: Path) -> None:
    """The entry that settles the question names the nonce and each key that counted: that is their one use."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    [settled], [question] = stage.bodies("authority.settled"), stage.bodies("key.asked")
    assert question["nonce"] == settled["nonce"]
    assert [("ana", "ml-oncall"), ("ben", "fraud-risk")] == [(key["person"], key["role"]) for key in settled["keys"]]
    assert 2 == len({key["digest"] for key in settled["keys"]})


def test_two_hundred_keys_for_the_last_slot(tmp_path: Path) -> None:
    """However many keys come at once, one answers each slot, the question is settled once, and what follows is too late."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    ana, ben = stage.bodies("key.given")
    with stage.store() as store:
        threads = [threading.Thread(target=store.append, args=("RB-0001", "key.given", one)) for one in (ana, ben) * 100]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 202 == len(stage.bodies("key.given"))
    assert 0 == stage.resume().exit
    [settled] = stage.bodies("authority.settled")
    assert ["ana", "ben"] == sorted(key["person"] for key in settled["keys"])
    assert 6 == stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001").exit
    assert ['a/a {"x": 1}'] == stage.effects()


def test_keys_of_another_run_open_nothing(tmp_path: Path) -> None:
    """The keys of one run, copied into the next one of the same plan, do not count."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    assert 0 == stage.resume().exit
    keys = stage.bodies("key.given")
    stage.have("a", None)
    assert 5 == stage.run("--no-wait").exit
    with stage.store() as store:
        for key in keys:
            store.append("RB-0002", "key.given", key)
    assert 5 == stage.resume("--no-wait").exit
    assert stage.thing("a") is None


# --- revoked while it is used


def revoked(folder: Path, **roles: str) -> tuple[Stage, Said]:
    """A run stopped after its first step, gone on with after the roster has changed."""
    first, second = step("a", {"x": 1}), step("b", {"x": 1}, thing={"lasting": True})
    stage = keyed(folder, first, {**second, "needs": ["a"]})
    assert 130 == during(stage, stage.approve, lambda: stage.run("--until", "a")).exit
    assert {"x": 1} == stage.thing("a")
    roster(stage, **roles)
    return stage, stage.resume()


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        ({"ben": ""}, "the SSH key with which ben agreed is not in the roster any more"),
        ({"ben": "finance"}, "ben, who agreed as fraud-risk, does not have that role any more"),
    ],
)
def test_a_revoked_key_opens_nothing_that_cannot_be_taken_back(roles: dict[str, str], why: str, tmp_path: Path) -> None:
    """Before a step without undo the roster is read again: whose holder has left, that key ends the run with exit 7."""
    stage, said = revoked(tmp_path, **roles)
    assert 7 == said.exit
    assert why == stage.last("b")["why"]
    assert stage.thing("b") is None
    assert 7 == stage.resume().exit, "and again"
    roster(stage)
    assert 0 == stage.resume().exit
    assert {"x": 1} == stage.thing("b")


@pytest.mark.parametrize("given", [(), ("ana",)])
@pytest.mark.parametrize("decision", ["approved", "automatic"])
def test_an_answer_that_somebody_wrote_into_the_record(given: tuple[str, ...], decision: str, tmp_path: Path) -> None:
    """A resume verifies the keys again of which the record says that they let the run through."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    if given:
        stage.approve(*given)
    body = {"decision": decision, "why": "ana and ben", "people": ["ana", "ben"], "nonce": "", "keys": []}
    with stage.store() as store:
        store.claim(stage.latest)
        store.append(stage.latest, "authority.settled", body)
    said = stage.resume()
    assert (6, True) == (said.exit, "its keys do not: key" in said.text), said.text
    assert [] == stage.effects()


def test_an_answer_holds_though_the_roster_has_changed_since(tmp_path: Path) -> None:
    """What was let through goes on after a crash, also where a person has left whose key was good then."""
    stage = keyed(tmp_path, step("a", {"x": 1}), step("b", {"x": 1}))
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    stage.trouble("b", apply="breaks")
    assert 1 == stage.resume().exit
    stage.trouble("b")
    roster(stage, ben="")
    assert 0 == stage.resume().exit


def test_another_person_who_leaves_changes_nothing(tmp_path: Path) -> None:
    """A change of the roster that touches no key of the run lets it go on."""
    stage, said = revoked(tmp_path, ana="ml-oncall")
    assert 0 == said.exit
    assert {"x": 1} == stage.thing("b")


def test_what_can_be_undone_goes_on(tmp_path: Path) -> None:
    """A step that can be put back is done under the keys of then: the run ends in one known state."""
    stage = keyed(tmp_path, step("a", {"x": 1}), {**step("b", {"x": 1}), "needs": ["a"]})
    assert 130 == during(stage, stage.approve, lambda: stage.run("--until", "a")).exit
    roster(stage, ben="")
    assert 0 == stage.resume().exit
    assert {"x": 1} == stage.thing("b")


def test_the_people_of_another_environment_say_nothing(tmp_path: Path) -> None:
    """A roster in another folder that is named with -i is no roster of these hosts, whatever the order; nor later on."""
    stage, other = keyed(tmp_path, step("a", {"x": 1}), hosts="a"), tmp_path / "staging"
    other.mkdir()
    (other / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"b": {}}}}))
    (stage.stock / "roster.yml").rename(other / "roster.yml")
    both = ["-i", str(other), "-i", str(stage.stock), "--as", "eve", "--no-wait"]
    said = stage.engine("run", str(stage.playbook), *both)
    assert 3 == said.exit
    assert "LG204" in said.err
    (stage.stock / "roster.yml").write_text((other / "roster.yml").read_text())
    assert 5 == stage.engine("run", str(stage.playbook), *both).exit
    found = policy.read([other, stage.stock], {"environment": "inventory"}, Trust(tmp_path / "none"), time.time())
    assert str(stage.stock / "roster.yml") == found.roster.path


# --- freeze windows


def test_a_freeze_refuses_a_run_that_asks_nobody(tmp_path: Path) -> None:
    """Without keys nobody can override a window: exit 6, the window named, nothing changed; evidence is still kept."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "forensics": [step("keep", {"x": 1})]})
    freeze(stage, ALWAYS)
    said = stage.run()
    assert 6 == said.exit
    assert "all-year" in said.text
    assert stage.thing("a") is None
    assert "freeze window `all-year` until 2100-01-01 00:00:00Z (audit)" in stage.bodies("authority.settled")[0]["why"]
    assert stage.ended["why"] == f"no host was changed: {stage.bodies('authority.settled')[0]['why']}", "nobody said no"


def test_a_saved_plan_is_no_way_round_a_freeze(tmp_path: Path) -> None:
    """It is carried out in the environment that it was made for: its windows are read there, and it has to be there."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})]})
    freeze(stage, ALWAYS)
    assert 0 == stage.plan("--out", str(tmp_path / "rb.plan")).exit
    said = stage.run(what=tmp_path / "rb.plan")
    assert 6 == said.exit
    assert "all-year" in said.text
    assert stage.thing("a") is None
    stage.stock.rename(tmp_path / "elsewhere")
    said = stage.run(what=tmp_path / "rb.plan")
    assert 7 == said.exit
    assert "of the plan is not here" in said.text


@pytest.mark.parametrize("first", [True, False], ids=["before it", "behind it"])
def test_another_inventory_takes_no_window_away(tmp_path: Path, first: bool) -> None:
    """The windows of every folder that is named hold, in whatever order."""
    stage, other = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "hosts": "a"}), tmp_path / "staging"
    freeze(stage, ALWAYS)
    other.mkdir()
    (other / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"b": {}}}}))
    (other / "freeze.yml").write_text(json.dumps({"windows": [OVER]}))
    folders = [str(other), str(stage.stock)] if first else [str(stage.stock), str(other)]
    said = stage.engine("run", str(stage.playbook), "-i", folders[0], "-i", folders[1], "--as", "eve")
    assert 6 == said.exit
    assert "all-year" in said.text
    assert stage.thing("a") is None


@pytest.mark.parametrize("window", [OVER, {**ALWAYS, "hosts": ["b*"]}], ids=["it is over", "it is for others"])
def test_a_window_that_is_not_open_here_holds_nobody(window: dict[str, Any], tmp_path: Path) -> None:
    """A window counts while it is open, and for its hosts."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})]})
    freeze(stage, window)
    assert 0 == stage.run().exit


def test_in_a_freeze_both_keys_name_the_window(tmp_path: Path) -> None:
    """A key that does not name the open window is not given; two that do let the run through, on record."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    freeze(stage, ALWAYS)
    assert 5 == stage.run("--no-wait").exit
    said = stage.engine("approve", "RB-0001", "--key", str(tmp_path / "ana"), "--confirm", "RB-0001")
    assert 6 == said.exit
    assert "the freeze window `all-year` is open until 2100-01-01 00:00:00Z (audit), and a key has to name it" in said.text
    assert "engine approve RB-0001 --override-freeze all-year" in said.text
    for name in PEOPLE:
        words = ["--key", str(tmp_path / name), "--confirm", "RB-0001", "--override-freeze", "all-year"]
        said = stage.engine("approve", "RB-0001", *words)
        assert 0 == said.exit, said.err
        assert "freeze all-year (audit) overrides all-year" in said.text
    assert 0 == stage.resume().exit
    assert ["all-year"] == stage.bodies("authority.settled")[0]["freeze_override"]


def test_a_window_that_is_not_open_cannot_be_overridden(tmp_path: Path) -> None:
    """A misspelt or needless override is refused: it would be signed and mean nothing."""
    stage = keyed(tmp_path, step("a", {"x": 1}))
    freeze(stage, OVER)
    assert 5 == stage.run("--no-wait").exit
    words = ["--key", str(tmp_path / "ana"), "--confirm", "RB-0001", "--override-freeze", "long-ago"]
    said = stage.engine("approve", "RB-0001", *words)
    assert 6 == said.exit
    assert "no freeze window `long-ago` is open now" in said.text


def test_a_run_that_overruns_into_a_window(tmp_path: Path) -> None:
    """A host that has begun goes on to its end; one that has not is left as it is, with exit 7, and goes on afterwards."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1}), step("b", {"x": 1})], "serial": 1}, ["h1", "h2"])
    assert 130 == stage.run("--until", "a").exit
    assert [1, None] == [(stage.thing("a", host) or {}).get("x") for host in ("h1", "h2")]
    freeze(stage, ALWAYS)
    assert 7 == stage.resume().exit
    assert [1, None] == [(stage.thing("b", host) or {}).get("x") for host in ("h1", "h2")]
    assert "the freeze window `all-year` has begun (audit)" in stage.last("a", "h2")["why"]
    freeze(stage, OVER)
    assert 0 == stage.resume().exit
    assert [1, 1] == [(stage.thing("b", host) or {}).get("x") for host in ("h1", "h2")]


# --- break-glass


def broken(folder: Path, destination: str = "", **more: Any) -> Stage:
    stage = Stage(
        folder, {"execution": [step("a", {"x": 1})], "authority": GLASS, "communications": [TELL], **more}
    ).people()
    sshsig.generate(folder / "cid", "cid")
    roster(stage, cid="chief")
    if destination:
        (stage.stock / "destinations.yml").write_text(json.dumps({"desk": destination}))
    assert 5 == stage.run("--no-wait").exit
    return stage


def alone(stage: Stage, who: str = "cid", *words: str) -> Said:
    given = ["--key", str(stage.folder / who), "--confirm", "RB-0001", *(words or ("--because", "nobody answers"))]
    return stage.engine("approve", "RB-0001", "--break-glass", *given)


def test_one_person_goes_alone_after_everybody_was_told(tmp_path: Path) -> None:
    """The glass is broken, told, and only then is anything changed; who has to ratify until when is on record."""
    stage = broken(tmp_path)
    assert 0 == alone(stage).exit
    assert 0 == stage.resume().exit
    kinds = [entry.kind for entry in stage.entries()]
    order = [
        kinds.index(kind) for kind in ("key.given", "glass.broken", "message.queued", "message.sent", "authority.settled")
    ]
    assert sorted(order) == order < [kinds.index("step.intent")]
    [settled] = stage.bodies("authority.settled")
    assert "cid as chief alone, by breaking the glass: nobody answers" == settled["why"]
    assert "cid" == settled["glass"]["person"]
    begun = stage.entries(kind="glass.broken")[0].at
    assert 7200 == round(settled["glass"]["ratify_by"] - begun)
    assert ["break_glass", "ended"] == [one["message"] for one in stage.messages()]


def test_the_glass_is_for_who_is_named(tmp_path: Path) -> None:
    """Nobody without the role goes alone, nobody without a reason, and nobody where the playbook names no role."""
    stage = broken(tmp_path)
    assert 6 == alone(stage, "ana").exit
    assert 2 == alone(stage, "cid", "--because", " ").exit
    assert 0 == stage.engine("reject", "RB-0001", "--key", str(tmp_path / "ana"), "--because", "no").exit
    assert 6 == alone(stage).exit, "a no is final, for one alone too"
    other = keyed(tmp_path / "other", step("a", {"x": 1}))
    assert 5 == other.run("--no-wait").exit
    said = alone(other, "ana")
    assert 6 == said.exit
    assert "lets nobody go alone" in said.text


def test_a_glass_that_nobody_hears_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no message arrives anywhere, nothing is changed: exit 6."""
    monkeypatch.setattr(outbox, "TRIES", 2)
    (tmp_path / "block").mkdir()
    stage = broken(tmp_path / "stage", f"file:{tmp_path}/block")
    assert 0 == alone(stage).exit
    assert 6 == stage.resume().exit
    assert stage.thing("a") is None
    assert "nobody could be told" in stage.bodies("authority.settled")[0]["why"]


def test_evidence_and_verification_still_hold(tmp_path: Path) -> None:
    """Who goes alone skips nothing: the evidence is kept first, and what is not verified ends held."""
    stage = broken(tmp_path, forensics=[step("keep", {"x": 1})], verification=[look("a", {"x": 2})])
    assert 0 == alone(stage).exit
    assert 4 == stage.resume().exit
    assert ["a/keep", "a/a"] == [line.split()[0] for line in stage.effects()]


def test_a_glass_nobody_would_hear_of_is_a_mistake(tmp_path: Path) -> None:
    """A playbook that lets one person go alone and tells nobody is refused before it runs (LG206)."""
    stage = Stage(tmp_path, {"execution": [step("a", {"x": 1})], "authority": GLASS}).people()
    sshsig.generate(tmp_path / "cid", "cid")
    roster(stage, cid="chief")
    said = stage.run()
    assert 3 == said.exit
    assert "LG206" in said.err


@pytest.mark.parametrize(("later", "why"), [(1799.0, ""), (1800.0, "30 minutes"), (90000.0, "30 minutes")])
def test_a_broken_glass_lasts_for_half_an_hour(later: float, why: str) -> None:
    """After 30 minutes no step of execution begins any more, whether it can be undone or not; what changes nothing does."""
    site: Any = SimpleNamespace(plan=SimpleNamespace(undo={"execution/a": True}), now=lambda: 1000.0 + later, check=False)
    leave = Leave(site, SimpleNamespace())  # type: ignore[arg-type]
    leave.restore(None, {"glass": {"person": "cid", "until": 1000.0 + 1800}})
    acts, reads = (SimpleNamespace(id=f"execution/{name}", section="execution") for name in "ab")
    assert why in leave.lapsed(acts)  # type: ignore[arg-type]
    assert bool(why) == bool(leave.lapsed(acts))  # type: ignore[arg-type]
    assert "" == leave.lapsed(reads)  # type: ignore[arg-type]
