"""The picture of a run: one axis, named limits, numbered marks, gaps where samples are missing."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from journals import make

from engine import picture, story
from engine.journal import Entry

SVG = "{http://www.w3.org/2000/svg}"


def drawn(one: story.Story, width: int = 960) -> ElementTree.Element:
    """The picture as XML: that it parses is the first test of every picture."""
    text = picture.svg(one, width)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def told(name: str) -> story.Story:
    return story.tell(make.load(name))


def kinds(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if kind in (one.get("class") or "").split()]


@pytest.mark.parametrize("width", [340, 960])
@pytest.mark.parametrize("scene", [scene.__name__ for scene in make.SCENES])
def test_every_journal_has_a_picture_that_stays_in_its_frame(scene: str, width: int) -> None:
    """Well-formed, with nothing drawn outside of its width and height."""
    root = drawn(told(scene), width)
    height = float(root.get("height") or 0)
    for one in root.iter():
        for name, most in (
            ("x", width),
            ("x1", width),
            ("x2", width),
            ("cx", width),
            ("y", height),
            ("y1", height),
            ("y2", height),
        ):
            if name in one.attrib:
                assert -0.1 <= float(one.get(name) or 0) <= most + 0.1, (one.tag, one.attrib)


def test_curve_and_bars_share_one_axis() -> None:
    """The last sample before the alarm and the bar of the trigger stand at the same place."""
    root = drawn(told("rollback"))
    ends = [float(line.get("points", "").split()[-1].split(",")[0]) for line in kinds(root, "curve")]
    trigger = kinds(root, "bar")[0]
    assert any(abs(end - float(trigger.get("x") or 0)) < 2 for end in ends)


def test_missing_samples_are_a_gap() -> None:
    """No line is drawn over the minutes without data: the curve has as many pieces as there are gaps, and one more."""
    assert 3 == len(kinds(drawn(told("rollback")), "curve"))


def test_limits_are_drawn_and_named() -> None:
    """Beside each limit stands what it is: the alarm, or what is wanted."""
    root = drawn(told("rollback"))
    assert ["good above 0.95", "alarm below 0.9"] == [x.text for x in kinds(root, "wanted") + kinds(root, "alarm") if x.text]
    assert 1 == len(kinds(root, "zone"))


def test_marks_are_numbered_in_the_order_of_time_and_do_not_cover_each_other() -> None:
    """Alarm, two keys, first and last change, verified: six circles, none over another."""
    seen = picture.marks(told("rollback"))
    assert ["trigger", "key 1", "key 2", "first change", "last change", "verified"] == [
        re.match(r"[a-z]+( \d| change)?", mark.text)[0] for mark in seen  # type: ignore[index]
    ]  # fmt: skip
    assert [mark.at for mark in seen] == sorted(mark.at for mark in seen)
    for width in (340, 960):
        places = [float(one.get("cx") or 0) for one in kinds(drawn(told("rollback"), width), "number")]
        assert 6 == len(places)
        assert all(after - before > 17 for before, after in pairwise(places))


def test_every_bar_says_in_words_what_its_shape_says() -> None:
    """What failed is hatched, what changed is filled, what looked is hollow, waiting is dotted: and words beside it."""
    bars = {bar.key: bar for bar in picture.bars(told("held"))}
    assert ("hatched", "failed, 6.2s") == (bars["verification/golden_set"].look, bars["verification/golden_set"].note)
    assert ("filled", "hollow", "dotted") == (
        bars["execution/alias"].look,
        bars["execution/choose"].look,
        bars["authority"].look,
    )
    assert (None, "not reached") == (bars["verification/latency"].begin, bars["verification/latency"].note)


def test_what_was_put_back_has_a_bar() -> None:
    """An undo is part of the picture."""
    bar = next(bar for bar in picture.bars(told("undone")) if bar.key == "undo")
    assert "3 of 3 changes put back, 6.3s" == bar.note


def test_a_fleet_is_one_bar_for_each_step() -> None:
    """Three hundred hosts make no more rows than one."""
    bars = picture.bars(story.tell(make.fleet().entries))
    assert ["authority", "execution/alias", "execution/serve", "verification/golden_set"] == [bar.key for bar in bars]
    assert "failed on 3 of 300 hosts" in bars[2].note


def test_a_run_without_a_metric_has_its_bars() -> None:
    """Without a curve there are only the steps; without steps there is no picture."""
    root = drawn(story.tell(make.fleet().entries))
    assert [] == kinds(root, "curve")
    assert 4 == len(kinds(root, "bar"))
    assert "" == picture.svg(story.Story(), 960)


def test_a_flat_curve_and_a_lone_sample_can_be_drawn() -> None:
    """One sample, or many of one value, and a limit of the same value: still a picture."""
    for points in ([[make.START, 0.5]], [[make.START + i, 0.0] for i in range(5)]):
        one = story.Story()
        reading = {"_query": "q", "_series": points, "_below": points[0][1], "met": True}
        body = {"outcome": "unchanged", "reading": reading, "seconds": 0.0, "started": make.START}
        one.add(Entry("RB-1", 1, make.START, "step.outcome", "h", "trigger/x", json.dumps(body)))
        assert kinds(drawn(one), "curve")


def test_names_from_outside_are_text() -> None:
    """A query or a step that looks like markup is shown as it is."""
    one = story.Story()
    reading = {"_query": "<script>alert(1)</script>", "_series": [[make.START, 1.0]], "_below": 2.0}
    body = {"outcome": "unchanged", "reading": reading, "seconds": 1.0, "started": make.START}
    one.add(Entry("RB-1", 1, make.START, "step.outcome", "h", "trigger/<b>", json.dumps(body)))
    root = drawn(one)
    assert [] == list(root.iter(SVG + "script"))
    assert any(name.text == "<script>alert(1)</script>" for name in kinds(root, "name"))


def test_the_picture_is_told_in_words() -> None:
    """Who cannot see it hears the metric, the steps and the marks."""
    root = drawn(told("rollback"))
    said = root.find(SVG + "desc")
    assert said is not None
    assert said.text is not None
    assert "alarm below 0.9" in said.text
    assert "execution/alias changed, 0.9s" in said.text
    assert "Mark 1: trigger: fraud_precision was 0.71, below 0.9 for 5m" in said.text
