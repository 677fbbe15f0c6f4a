"""One step on one host: what it changes, how it ends, what it says, and what it publishes."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from stage import Stage, look, step

from engine import step as room
from engine.cli import opening
from engine.site import Site
from modules import catalog


def play(tmp: Path, *steps: dict[str, Any], **more: Any) -> Stage:
    """A stage whose execution has these steps."""
    variables = more.pop("variables", {})
    return Stage(tmp, {"execution": list(steps), **more}, **variables)


# -- how a step ends
@pytest.mark.parametrize(
    ("trouble", "outcome", "why", "after"),
    [
        ({}, "changed", "", 1),
        ({"apply": "breaks"}, "failed", "it said no; nothing was changed", 0),
        ({"apply": "gone"}, "unreachable", "it does not answer; nothing was changed", 0),
        ({"apply": "lies"}, "failed", "reported no error, yet the second reading says x 0 -> 1 is still to do", 0),
        ({"apply": "breaks_after"}, "changed", "the reply was lost (the connection broke), and the second reading", 1),
        ({"apply": "late"}, "changed", "the reply was lost (no answer in time), and the second reading shows it done", 1),
        ({"apply": "exits"}, "changed", "the reply was lost (the module broke: SystemExit: 0)", 1),
        ({"apply": "blinds"}, "uncertain", "then it could not be read what was done: w cannot be read", 1),
        ({"read": "unreadable"}, "failed", "w cannot be read", 0),
        ({"read": "unreachable"}, "unreachable", "w does not answer", 0),
        ({"read": "bug"}, "failed", "the module broke: ZeroDivisionError: nobody thought of this", 0),
        ({"read": "exit"}, "failed", "the module broke: SystemExit: 0", 0),
        ({"read": "nan"}, "failed", "the module's reading cannot be recorded: Out of range float values", 0),
        ({"read": "object"}, "failed", "the module's reading cannot be recorded: Object of type object", 0),
        ({"read": "list"}, "failed", "the module's reading cannot be recorded: list is no mapping", 0),
    ],
)
def test_how_a_step_ends(tmp_path: Path, trouble: dict[str, Any], outcome: str, why: str, after: int) -> None:
    """Whatever a module or its host does, the step ends in its own word and says what was changed."""
    stage = play(tmp_path, step("w", {"x": 1}))
    stage.have("w", {"x": 0})
    stage.trouble("w", **trouble)
    said = stage.run()
    assert (0 if outcome == "changed" else 1) == said.exit
    assert outcome == stage.outcomes()["w"]
    assert why in stage.last("w")["why"]
    assert {"x": after} == stage.thing("w")
    assert after == len(stage.effects())
    assert "Traceback" not in said.text


def test_half_done_is_said(tmp_path: Path) -> None:
    """A change that broke half-way is failed, and the record says that part of it was done."""
    stage = play(tmp_path, step("w", {"x": 1, "y": 1}))
    stage.have("w", {"x": 0, "y": 0})
    stage.trouble("w", apply="half")
    assert 1 == stage.run().exit
    assert "it broke half-way; part of it was changed" == stage.last("w")["why"]


def test_half_a_character_from_a_host(tmp_path: Path) -> None:
    """Text that is no text (a lone surrogate in JSON) is recorded and shown with a mark, and stops nothing."""
    stage = play(tmp_path, step("w", {"value": "good"}), step("v", {"x": 1}))
    stage.trouble("w", read=["surrogate", 1])
    assert 0 == stage.run().exit
    assert {"before": {"value": "? from a host"}, "after": {"value": "good"}} == stage.last("w")["change"]
    assert "changed" == stage.outcomes()["v"]


def test_nothing_to_do_is_unchanged(tmp_path: Path) -> None:
    """What is as it should be is not touched, and a second run changes nothing."""
    stage = play(tmp_path, step("w", {"x": 1}))
    assert 0 == stage.run().exit
    assert 0 == stage.run().exit
    assert "unchanged" == stage.outcomes()["w"]
    assert 1 == len(stage.effects())
    assert not stage.entries(kind="step.intent")


# -- the intent
def test_the_intent_says_what_is_meant(tmp_path: Path) -> None:
    """Before an effect the record holds the change, the parameters, the key and the crash class."""
    stage = play(tmp_path, step("w", {"x": 1}))
    stage.have("w", {"x": 0})
    stage.run()
    (intent,) = stage.bodies("step.intent")
    assert {"before": {"x": 0}, "after": {"x": 1}} == intent["change"]
    assert (1, "thing", "B", 32) == (intent["attempt"], intent["module"], intent["crash"], len(intent["key"]))
    assert {"name": "w", "fields": {"x": 1}} == intent["params"]
    assert intent["key"] == json.loads(stage.beside("w").read_text().splitlines()[-1])["key"]


# -- when, register, loop
@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        ("flag", "changed"),
        ("not flag", "skipped"),
        ("region == 'eu' and flag", "changed"),
        ("seen.value.x == 5", "changed"),
        ("seen.met", "changed"),
        (True, "changed"),
        (False, "skipped"),
    ],
)
def test_when(tmp_path: Path, when: Any, outcome: str) -> None:
    """`when` decides from variables and results, and a skip names the condition."""
    steps = [{**look("v"), "register": "seen"}, step("w", {"x": 1}, when=when)]
    stage = play(tmp_path, *steps, variables={"flag": True, "region": "eu"})
    stage.have("v", {"x": 5})
    assert 0 == stage.run().exit
    assert outcome == stage.outcomes()["w"]
    if outcome == "skipped":
        assert f"`{str(when).lower() if when is False else when}` is false" == stage.last("w")["why"]


@pytest.mark.parametrize("when", ["'yes'", "1", "count"])
def test_when_takes_booleans_only(tmp_path: Path, when: str) -> None:
    """A condition that gives no boolean fails its step with its place; nothing is guessed."""
    stage = play(tmp_path, step("w", {"x": 1}, when=when), variables={"count": 3})
    assert stage.run().exit in (1, 3)
    assert not stage.effects()


def test_what_is_registered(tmp_path: Path) -> None:
    """A result is the last reading without underscores, with whether it changed and how it ended."""
    stage = play(
        tmp_path,
        step("a", {"x": 1}, register="one", thing={"says": "hello"}),
        step("b", {"text": "{{ one.says }} {{ one.x }} {{ one.changed }} {{ one.outcome }}", "kept": "{{ one.x }}"}),
        step("c", {"x": 1}, when="not one.changed", register="two"),
        step("d", {"was": "{{ two.outcome }}"}),
    )
    assert 0 == stage.run().exit
    assert {"text": "hello 1 true changed", "kept": 1} == stage.thing("b")
    assert {"was": "skipped"} == stage.thing("d")


def test_what_follows_a_change_is_not_lost(tmp_path: Path) -> None:
    """A change that comes true only at a later try counts as this step's change, for what hangs on it."""
    stage = play(
        tmp_path,
        step("w", {"x": 1}, register="moved", retries=3, delay="10ms"),
        step("reload", {"n": 1}, when="moved.changed"),
    )
    stage.trouble("w", apply="blinds")  # a first reading afterwards fails: uncertain
    assert 1 == stage.run().exit
    stage.trouble("w")
    assert 0 == stage.resume().exit
    assert {"w": "changed", "reload": "changed"} == stage.outcomes()
    assert ['a/w {"x": 1}', 'a/reload {"n": 1}'] == stage.effects()


def test_a_change_after_a_failed_try(tmp_path: Path) -> None:
    """A try that failed and yet took hold later is told as changed, also by the next run of `resume`."""
    stage = play(tmp_path, step("w", {"x": 1, "y": 1}, register="moved"), step("v", {"z": 1}, when="moved.changed"))
    stage.trouble("w", apply="half")
    assert 1 == stage.run().exit
    stage.trouble("w")
    stage.have("w", {"x": 1, "y": 1})  # it took hold by itself
    assert 0 == stage.resume().exit
    assert "found done: an earlier try of this run changed it" == stage.last("w")["why"]
    assert "changed" == stage.outcomes()["v"]


def test_loop(tmp_path: Path) -> None:
    """A loop does its step once per item, each with an id of its own, and publishes all results."""
    items = [{"name": "p", "x": 1}, {"name": "q", "x": 2}]
    each = {
        "name": "Each",
        "id": "each",
        "loop": "{{ items }}",
        "register": "all",
        "thing": {"name": "{{ item.name }}", "fields": {"x": "{{ item.x }}"}},
    }
    stage = play(
        tmp_path, each, step("w", {"n": "{{ all.results[1].x }}", "c": "{{ all.changed }}"}), variables={"items": items}
    )
    assert 0 == stage.run().exit
    assert {"each[0]": "changed", "each[1]": "changed", "each": "changed", "w": "changed"} == stage.outcomes()
    assert {"n": 2, "c": True} == stage.thing("w")
    assert 0 == stage.run().exit
    assert "unchanged" == stage.outcomes()["each"]


@pytest.mark.parametrize(("on_failure", "done", "code"), [("stop", ["p"], 1), ("continue", ["p", "r"], 0), ("undo", [], 1)])
def test_an_item_that_fails(tmp_path: Path, on_failure: str, done: list[str], code: int) -> None:
    """A failed item ends the loop, unless the step says `continue`; `undo` takes back the items that were done."""
    each = {"name": "Each", "id": "each", "loop": ["p", "q", "r"], "on_failure": on_failure}
    stage = play(tmp_path, {**each, "thing": {"name": "{{ item }}", "fields": {"x": 1}}})
    stage.trouble("q", apply="breaks")
    assert code == stage.run().exit
    assert done == [name for name in "pqr" if stage.thing(name)]
    assert "item 1: it said no; nothing was changed" == stage.last("each")["why"]


@pytest.mark.parametrize("items", ["text", 5, {"a": 1}])
def test_a_loop_goes_over_a_list(tmp_path: Path, items: Any) -> None:
    """A loop over anything but a list fails its step."""
    each = {"name": "Each", "id": "each", "loop": "{{ items }}", "thing": {"name": "w", "fields": {"x": 1}}}
    stage = play(tmp_path, each, variables={"items": items})
    assert 1 == stage.run().exit
    assert "not a list" in stage.last("each")["why"]


def test_an_empty_loop(tmp_path: Path) -> None:
    """A loop over nothing is unchanged."""
    each = {"name": "Each", "id": "each", "loop": "{{ items }}", "thing": {"name": "w", "fields": {"x": 1}}}
    stage = play(tmp_path, each, variables={"items": []})
    assert 0 == stage.run().exit
    assert {"each": "unchanged"} == stage.outcomes()


# -- retries, until, timeout
@pytest.mark.parametrize(
    ("times", "retries", "outcome", "attempts"),
    [(0, 0, "changed", 1), (2, 2, "changed", 3), (2, 5, "changed", 3), (3, 2, "failed", 3)],
)
def test_retries(tmp_path: Path, times: int, retries: int, outcome: str, attempts: int) -> None:
    """A step is tried again as often as it says, and the record counts the tries."""
    stage = play(tmp_path, step("w", {"x": 1}, retries=retries, delay="5ms"))
    stage.trouble("w", **({"apply": ["breaks", times]} if times else {}))
    stage.run()
    assert (outcome, attempts) == (stage.last("w")["outcome"], stage.last("w")["attempts"])
    assert (1 if outcome == "changed" else 0) == len(stage.effects())


def test_nobody_guesses_twice(tmp_path: Path) -> None:
    """An uncertain step is not retried: the next try could do it a second time."""
    stage = play(tmp_path, step("w", {"x": 1}, retries=5, delay="5ms"))
    stage.trouble("w", apply="blinds")
    assert 1 == stage.run().exit
    assert 1 == stage.last("w")["attempts"]
    assert 1 == len(stage.entries(kind="step.intent"))


def test_until(tmp_path: Path) -> None:
    """`until` asks again until the result is as wished, and fails in words when it never is."""
    stage = play(tmp_path, step("w", {"x": 1}, register="w", until="w.says == 'ready'", retries=2, delay="5ms"))
    assert 1 == stage.run().exit
    assert ("failed", 3) == (stage.last("w")["outcome"], stage.last("w")["attempts"])
    assert "`w.says == 'ready'` does not hold yet" == stage.last("w")["why"]
    stage = play(tmp_path / "2", step("w", {"x": 1}, register="w", until="w.x == 1", retries=2, delay="5ms"))
    assert 0 == stage.run().exit
    assert "changed" == stage.outcomes()["w"]


def test_a_timeout_ends_the_tries(tmp_path: Path) -> None:
    """The step's timeout covers all its tries: no try begins that could not wait for its turn."""
    stage = play(tmp_path, step("w", {"x": 1}, retries=50, delay="40ms", timeout="200ms"))
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    assert 1 <= stage.last("w")["attempts"] < 10


def test_a_timeout_in_mid_change(tmp_path: Path) -> None:
    """A change that takes longer than the step may is timed out, and what was changed is read and said."""
    stage = play(tmp_path, step("w", {"x": 1}, timeout="100ms", thing={"slow": 30}))
    stage.have("w", {"x": 0})
    assert 1 == stage.run().exit
    assert "timed_out" == stage.outcomes()["w"]
    assert stage.last("w")["why"].endswith("; nothing was changed so far")


@pytest.mark.parametrize(("trouble", "outcome"), [("late", "changed"), ("breaks", "failed"), ("gone", "unreachable")])
def test_class_d_after_a_fault(tmp_path: Path, trouble: str, outcome: str) -> None:
    """What nothing but its own receipt can show is judged by that."""
    stage = play(tmp_path, step("w", {"x": 1}, thing={"crash": "D"}))
    stage.trouble("w", apply=trouble)
    stage.run()
    assert outcome == stage.outcomes()["w"]


# -- on_failure
@pytest.mark.parametrize(
    ("on_failure", "code", "outcome", "later", "first"),
    [
        ("stop", 1, "failed", None, {"x": 1}),
        ("continue", 0, "recovered", "changed", {"x": 1}),
        ("undo", 1, "undone", None, {"x": 0}),
    ],
)
def test_on_failure(tmp_path: Path, on_failure: str, code: int, outcome: str, later: str | None, first: Any) -> None:
    """A failed step stops its host, is tolerated, or has the host put back, as it says."""
    stage = play(
        tmp_path,
        step("first", {"x": 1}),
        step("w", {"x": 1}, on_failure=on_failure),
        step("v", {"x": 1}),
        verification=[look("first")],
    )
    stage.have("first", {"x": 0})
    stage.trouble("w", apply="breaks")
    assert code == stage.run().exit
    assert outcome == stage.ended["outcome"]
    assert later == stage.outcomes().get("v")
    assert first == stage.thing("first")


# -- no_log and secrets
CANARY = 'cAn4ry/+ "quo\'ted" ünï'


def everything(stage: Stage, *said: Any) -> str:
    """All that the run left anywhere: what was printed, the store's bytes, evidence, reports, messages."""
    found = [text for one in said for text in (one.out, one.err)]
    for path in stage.folder.rglob("*"):
        inside = path.relative_to(stage.folder).parts
        if path.is_file() and inside[0] in ("state", "messages"):
            found.append(path.read_bytes().decode("latin-1"))
    return "\n".join(found)


def test_no_log_keeps_digests_only(tmp_path: Path) -> None:
    """Of a step with `no_log` neither parameters nor results nor a reason that repeats them are kept or shown."""
    hidden = "hidden-value-81c2"
    steps = [
        step(name, {"x": hidden}, no_log=True, on_failure="continue", retries=1, delay="1ms")
        for name in ("w", "lie", "half")
    ]
    stage = play(tmp_path, *steps, communications=[{"name": "t", "on": ["ended"], "notify": {"to": "desk", "message": "x"}}])
    stage.have("w", {"x": "older-" + hidden})
    stage.trouble("lie", apply="lies")
    stage.trouble("half", read="unreadable")
    said = stage.run("--json", "--diff")
    shown = [said, stage.engine("status"), stage.engine("report"), stage.engine("status", "--raw")]
    for line in (said.out + said.err).splitlines():
        assert hidden not in line or '"texts"' in line, line  # the playbook itself says it: there it is no secret
    outcomes = {entry.step: entry.body for entry in stage.entries(kind="step.outcome")}
    assert hidden not in json.dumps(outcomes)
    assert hidden not in json.dumps(stage.bodies("step.intent"))
    assert "(not recorded: the step has `no_log`)" == stage.last("lie")["why"]
    assert ["_digest"] == list(stage.bodies("step.intent")[0]["change"])
    assert all(one.exit == 0 for one in shown[1:])


@pytest.mark.parametrize("trouble", [{}, {"apply": "lies"}, {"apply": "breaks"}, {"read": "bug"}])
def test_secrets_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Any]) -> None:
    """A secret is in nothing that is kept or printed, whether the step ends well or not, and also when a host repeats it."""
    monkeypatch.setenv("CANARY", CANARY)
    stage = play(
        tmp_path,
        step(
            "w",
            {"x": 1},
            thing={"token": "{{ secret('env:CANARY') }}", "says": "{{ echo }}"},
            register="w",
            retries=1,
            delay="1ms",
        ),
        variables={"echo": "nothing"},
        communications=[{"name": "t", "on": ["ended"], "notify": {"to": "desk", "message": "{{ run.summary }}"}}],
    )
    data = CANARY.encode()
    forms = [CANARY, json.dumps(CANARY)[1:-1], json.dumps(CANARY, ensure_ascii=False)[1:-1], repr(CANARY)[1:-1], data.hex()]
    forms += [
        quote(CANARY),
        quote(CANARY, safe=""),
        b64encode(data).decode()[:-4],
        b64encode(b"user:" + data).decode()[8:-4],
    ]
    encoded = {"b64": b64encode(data).decode(), "basic": b64encode(b"user:" + data).decode(), "hex": data.hex()}
    stage.have("w", {"x": CANARY, "url": f"http://h/?t={quote(CANARY)}", **encoded})  # the host itself repeats it
    stage.trouble("w", **trouble)
    said = [
        stage.run("--json", "--diff"),
        stage.resume("--json"),
        stage.undo(),
        stage.engine("report"),
        stage.plan("--json"),
    ]
    left = everything(stage, *said)
    for form in forms:
        assert form not in left


def test_a_secret_is_never_put_back_as_stars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a secret was in what a step replaced, undo says so: it does not write `***` into the world."""
    monkeypatch.setenv("CANARY", CANARY)
    stage = play(tmp_path, step("w", {"x": 1}, thing={"token": "{{ secret('env:CANARY') }}"}))
    stage.have("w", {"x": f"before {CANARY}"})
    assert 0 == stage.run().exit
    said = stage.undo()
    assert 1 == said.exit
    assert "was not recorded" in said.text
    assert {"x": 1} == stage.thing("w")


# -- check mode, for every module there is
sys.path.append(str(Path(__file__).parents[1] / "modules"))

import world as worlds  # noqa: E402 (the worlds of the modules' own laws)

WORLDS = [(name, made) for name in catalog.OURS for made in worlds.worlds_of(name).items()]


@pytest.mark.parametrize(("module", "made"), WORLDS, ids=[f"{name}-{made[0]}" for name, made in WORLDS])
def test_check_never_opens_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, made: tuple[str, Any]
) -> None:
    """In check mode no module's `apply` is entered and its world stays as it is, whatever it would have changed."""
    stage = Stage(tmp_path / "stage", {"execution": [step("w", {"x": 1})]})
    ready = opening.opened(stage.playbook, [str(stage.stock)])
    entry = catalog.Catalog().get(module)
    assert entry is not None
    entered: list[str] = []
    with worlds.opened(made[1], tmp_path) as world, stage.store() as store:
        for word in ("apply", "undo"):
            if entry.has(word):
                monkeypatch.setattr(entry.module, word, lambda *_, word=word: entered.append(word))
        site = Site(
            ready.plan, catalog.Catalog(), store, store.start({"name": "x"}), world.wire, world.base,
            check=True, now=world.now,
        )  # fmt: skip
        monkeypatch.setattr(Site, "context", lambda *_: world.context())
        one = replace(ready.plan.playbook.steps[0], module=module, params=world.params, timeout=30.0)
        before = world.seen()
        settled = room.perform(site, one, ready.plan.hosts[0], {})
        assert not entered
        assert before == world.seen()
        assert settled.outcome in ("skipped", "unchanged"), settled
        assert not [item for item in store.entries(site.run) if item.kind == "step.intent"]
        if settled.outcome == "skipped":
            assert settled.why.startswith("check mode, would change ")
