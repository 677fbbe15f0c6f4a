"""What a step may mention, how its parameters are rendered, and what its module is handed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage import Stage, look, step

PROBE = '''
"""The context that a module is handed, written down."""
import json
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {"more": {"description": "Anything."}}}
def read(params, ctx):
    return {"met": True, "_host": ctx.host, "_run": ctx.run, "_step": ctx.step, "_key": ctx.key, "_base": str(ctx.base),
            "_evidence": str(ctx.evidence), "_left": ctx.left(), "_there": ctx.evidence.is_dir()}
def desired(params):
    return {"met": True}
'''


def probed(tmp: Path, hosts: tuple[str, ...] = ("a",), **keywords: Any) -> tuple[Stage, dict[str, Any]]:
    """A stage with a step that writes its context down, and what it wrote."""
    stage = Stage(
        tmp,
        {
            "execution": [step("w", {"x": 1})],
            "verification": [{"name": "p", "probe": keywords.pop("params", {}), **keywords}],
        },
        hosts,
    )
    (stage.base / "modules" / "probe.py").write_text(PROBE)
    assert 0 == stage.run().exit
    return stage, stage.last("p")["reading"]


def test_the_context(tmp_path: Path) -> None:
    """A module is handed its place, its key, the playbook's folder, a folder for evidence, and the time it has left."""
    stage, said = probed(tmp_path, timeout="90s")
    assert ("a", "RB-0001", "verification/p") == (said["_host"], said["_run"], said["_step"])
    assert str(stage.base.resolve()) == said["_base"]
    assert str(stage.state.resolve() / "runs" / "RB-0001" / "evidence" / "a") == said["_evidence"]
    assert said["_there"]
    assert 30 < said["_left"] <= 90


def test_keys_of_idempotency(tmp_path: Path) -> None:
    """The key is the same for every try of a step in a run, and another for every host, item, step and run."""
    each = {"name": "e", "id": "e", "loop": [1, 2], "probe": {"more": "{{ item }}"}}
    stage = Stage(
        tmp_path, {"execution": [step("w", {"x": 1})], "verification": [{"name": "p", "probe": {}}, each]}, ["a", "b"]
    )
    (stage.base / "modules" / "probe.py").write_text(PROBE)
    keys = []
    for _ in range(2):
        assert 0 == stage.run().exit
        found = [
            e.body["reading"]["_key"] for e in stage.entries(kind="step.outcome") if "_key" in (e.body["reading"] or {})
        ]
        assert 6 == len(found)
        keys += found
    assert len(keys) == len(set(keys))


def test_a_key_survives_a_resume(tmp_path: Path) -> None:
    """A step that is taken up again acts under the key that its intent had."""
    stage = Stage(tmp_path, {"execution": [step("w", {"x": 1})]})
    stage.trouble("w", apply="breaks")
    assert 1 == stage.run().exit
    stage.trouble("w")
    assert 0 == stage.resume().exit
    assert 1 == len({body["key"] for body in stage.bodies("step.intent")})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ number }}", 5),
        ("{{ number }}!", "5!"),
        ("{{ flag }}", True),
        ("{{ items }}", ["a", 1]),
        ("{{ inventory_hostname }}", "a"),
        ("{{ group_names }}", ["fraud"]),
        ("{{ groups.fraud }}", ["a"]),
        ("{{ hostvars.a.number }}", 5),
        ("{{ run.id }} {{ run.requester }} {{ run.name }}", "RB-0001 eve A play"),
        ("{{ through }}", "5 and more"),
        ("{{ strongest }}", "extra"),
        ("{{ of_the_play }}", "play"),
        ("{{ of_the_step }}", "step"),
    ],
)
def test_names(tmp_path: Path, text: str, value: Any) -> None:
    """A step may mention variables of every layer, and built-in names; a whole expression keeps its type."""
    book = {
        "execution": [step("w", {"v": text}, vars={"of_the_step": "step"})],
        "vars": {"of_the_play": "play", "strongest": "play"},
    }
    stage = Stage(tmp_path, book)
    variables = {
        "number": 5,
        "flag": True,
        "items": ["a", 1],
        "through": "{{ number }} and more",
        "of_the_step": "inventory",
    }
    group = {"hosts": {"a": {**variables, "of_the_play": "inventory", "strongest": "inventory"}}}
    (stage.stock / "hosts.yml").write_text(json.dumps({"all": {"children": {"fraud": group}}}))
    assert 0 == stage.run("-e", "strongest=extra").exit
    assert value == stage.thing("w")["v"]


def test_data_is_never_rendered(tmp_path: Path) -> None:
    """What came from outside is a value: braces in a result or in -e stay braces."""
    stage = Stage(
        tmp_path,
        {"execution": [{**look("seen"), "register": "seen"}, step("w", {"a": "{{ seen.value.x }}", "b": "{{ given }}"})]},
    )
    stage.have("seen", {"x": "{{ run.id }}"})
    assert 0 == stage.run("-e", "given={{ run.id }}").exit
    assert {"a": "{{ run.id }}", "b": "{{ run.id }}"} == stage.thing("w")


def test_a_fault_has_its_place(tmp_path: Path) -> None:
    """An expression that fails when it is rendered names its file, line and column."""
    stage = Stage(
        tmp_path, {"execution": [{**look("seen"), "register": "seen"}, step("w", {"a": "{{ seen.value.nothing }}"})]}
    )
    assert 1 == stage.run().exit
    why = stage.last("w")["why"]
    assert "play.yml:" in why
    assert "nothing" in why


def test_checked_again_after_rendering(tmp_path: Path) -> None:
    """A parameter that was a text while the plan was checked is checked when its value is there."""
    stage = Stage(
        tmp_path,
        {
            "execution": [
                {**look("seen"), "register": "seen"},
                step("w", {"x": 1}, thing={"crash": "{{ seen.value.class }}"}),
            ]
        },
    )
    stage.have("seen", {"class": "Z"})
    assert 1 == stage.run().exit
    assert "`crash` after rendering" in stage.last("w")["why"]
    assert "play.yml:" in stage.last("w")["why"]
    assert not stage.effects()


def test_a_message_has_no_results_of_many_hosts(tmp_path: Path) -> None:
    """Communications of a run with several hosts mention nothing that differs between them: the plan refuses it."""
    message = {"name": "t", "on": ["ended"], "notify": {"to": "desk", "message": "{{ colour }}"}}
    stage = Stage(
        tmp_path,
        {"execution": [step("w", {"x": 1})], "communications": [message]},
        ["a", "b"],
        {"a": {"colour": "red"}, "b": {"colour": "blue"}},
    )
    said = stage.run()
    assert said.exit in (0, 3)
    assert not stage.messages()
