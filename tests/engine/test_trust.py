"""Which roster counts: TUF's cases as a table, each attack refused by name and each lawful change accepted."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from signing import NOW, soft

from engine import roster, source, trust
from engine.diagnostics import EngineError
from engine.roster import Roster
from engine.sshsig import Signer
from engine.trust import Mark, Trust

NAMES = ("ana", "bo", "cy", "dee", "mallory", "moe")
KEYS: dict[str, Signer] = {name: soft(name=name) for name in NAMES}
YEAR = "2027-11-01T00:00:00Z"


def content(version: int, people: str = "ana bo cy", wanted: int = 2, **more: Any) -> dict[str, Any]:
    """The data of a roster in which everybody of `people` is a keeper."""
    listed = [{"name": name, "roles": ["keeper", "ml-oncall"], "keys": [KEYS[name].key.line]} for name in people.split()]
    head = {"version": version, "environment": "production", "expires": YEAR, "thresholds": {"keeper": wanted}}
    return {**head, "people": listed, **more}


@dataclass
class World:
    """An inventory in a repository, and what lies outside it."""

    root: Path
    now: float = NOW

    @property
    def folder(self) -> Path:
        return self.root / "repository" / "inventories" / "production"

    @property
    def home(self) -> Path:
        return self.root / "etc"

    def outside(self) -> Trust:
        return Trust(self.home, self.root / "state")

    def write(self, data: dict[str, Any]) -> None:
        """Puts roster.yml there (JSON is YAML)."""
        (self.folder / "roster.yml").write_text(json.dumps(data))

    def sign(self, data: dict[str, Any], *by: str) -> None:
        for name in by:
            trust.sign(self.folder, data, KEYS[name])

    def change(self, data: dict[str, Any], *by: str) -> None:
        """A change as a pull request makes it: the text, and signatures beside it."""
        self.write(data)
        self.sign(data, *by)

    def look(self) -> Roster:
        document = source.load(self.folder / "roster.yml")
        return trust.current(document, "production", self.outside(), self.now)

    def verdict(self) -> str:
        """``version N``, or the code and what is wrong."""
        try:
            return f"version {self.look().version}"
        except EngineError as error:
            [found] = error.diagnostics
            return f"{found.code} {found.summary}"


def begun(root: Path) -> World:
    """Version 1, signed by ana and bo, pinned; this machine has seen it."""
    made = World(root)
    for folder in (made.folder, made.home, root / "state", root / "repository" / ".git"):
        folder.mkdir(parents=True)
    first = content(1)
    made.change(first, "ana", "bo")
    pin(made, first)
    assert "version 1" == made.verdict()
    return made


@pytest.fixture
def world(tmp_path: Path) -> World:
    return begun(tmp_path)


def pin(world: World, data: dict[str, Any]) -> None:
    digest = trust.stated(data)["subject"][0]["digest"]["sha256"]
    trust.pin(world.home, "production", Mark(data["version"], f"sha256:{digest}"))


def two(world: World) -> None:
    """A lawful version 2: dee has come."""
    world.change(content(2, "ana bo cy dee"), "ana", "bo")


def seen_two(world: World) -> None:
    two(world)
    assert "version 2" == world.verdict()


def back_to_one(world: World) -> None:
    seen_two(world)
    world.write(content(1))
    (world.folder / trust.FOLDER / "0002.json").unlink()


def forget(*places: str) -> Callable[[World], None]:
    """The way back, with the memory of these places deleted first."""

    def act(world: World) -> None:
        back_to_one(world)
        for place in places:
            (world.root / place / trust.SEEN).unlink()

    return act


def other_history(world: World) -> None:
    """Two versions 2 that ana and bo have both signed: the second one is shown to a machine that has seen the first."""
    seen_two(world)
    (world.folder / trust.FOLDER / "0002.json").unlink()
    world.change(content(2, "ana bo cy moe"), "ana", "bo")


def other_history_below(world: World) -> None:
    other_history(world)
    world.change(content(3, "ana bo moe"), "ana", "bo")


def skipped(world: World) -> None:
    world.change(content(3, "ana bo cy dee"), "ana", "bo")


def edit(data: dict[str, Any], *by: str, before: Callable[[World], None] | None = None) -> Callable[[World], None]:
    def act(world: World) -> None:
        if before:
            before(world)
        world.change(data, *by)

    return act


def tampered(change: Callable[[dict[str, Any]], Any], version: int = 1) -> Callable[[World], None]:
    """One file of the signed versions, changed."""

    def act(world: World) -> None:
        path = world.folder / trust.FOLDER / f"{version:04d}.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return act


def at(moment: str, then: Callable[[World], None] | None = None) -> Callable[[World], None]:
    def act(world: World) -> None:
        if then:
            then(world)
        world.now = roster.moment(moment)

    return act


def lapsed_key(data: dict[str, Any], name: str) -> dict[str, Any]:
    made = copy.deepcopy(data)
    for person in made["people"]:
        if person["name"] == name:
            person["keys"] = [{"key": person["keys"][0], "until": "2026-01-01"}]
    return made


def lapsed_signs(world: World) -> None:
    """ana's key has lapsed by version 2's own word, and signs version 2 all the same."""
    world.change(lapsed_key(content(2), "ana"), "ana", "bo")


def twice(envelope: dict[str, Any]) -> dict[str, Any]:
    return envelope | {"signatures": [envelope["signatures"][0]] * 2}


def payload(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def act(envelope: dict[str, Any]) -> dict[str, Any]:
        said = change(json.loads(base64.b64decode(envelope["payload"])))
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return envelope | {"payload": base64.b64encode(text.encode()).decode()}

    return act


def unsigned(world: World) -> None:
    world.write({"people": content(1)["people"]})


def pins_gone(world: World) -> None:
    unsigned(world)
    (world.home / trust.PINS).unlink()


def everything_gone(world: World) -> None:
    pins_gone(world)
    for place in ("etc", "state"):
        (world.root / place / trust.SEEN).unlink()


def pin_line(text: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        (world.home / trust.PINS).write_text(text)

    return act


def other_environment(world: World) -> None:
    world.change(content(1, environment="staging"), "ana", "bo")


def inside(world: World) -> None:
    home = world.root / "repository" / "etc"
    (world.root / "etc").rename(home)
    (world.root / "etc").symlink_to(home)


def writable(world: World) -> None:
    (world.home / trust.PINS).chmod(0o666)


def later_pin(world: World) -> None:
    seen_two(world)
    pin(world, content(2, "ana bo cy dee"))
    (world.folder / trust.FOLDER / "0001.json").unlink()


def older_than_pin(world: World) -> None:
    later_pin(world)
    world.write(content(1))
    for place in ("etc", "state"):
        (world.root / place / trust.SEEN).unlink()


SIGNED, ORDER, LAPSED, PINNED = "LG210", "LG211", "LG212", "LG213"
THREE = content(3, "ana bo dee")

#: case -> what is done to the world, the verdict
CASES: list[tuple[str, Callable[[World], None], str]] = [
    # lawful
    ("nothing has changed", lambda _: None, "version 1"),
    ("a version more, signed by both thresholds", two, "version 2"),
    ("two versions more, the chain is there", edit(THREE, "ana", "bo", before=two), "version 3"),
    ("a keeper is replaced, both sides sign", edit(content(2, "bo cy dee"), "bo", "cy"), "version 2"),
    ("everybody is replaced, all of them sign", edit(content(2, "dee mallory moe"), "ana", "bo", "dee", "moe"), "version 2"),
    ("a threshold is raised, by as many", edit(content(2, wanted=3), "ana", "bo", "cy"), "version 2"),
    (
        "a threshold is lowered, by as many as before",
        edit(content(3), "ana", "bo", "cy", before=edit(content(2, wanted=3), "ana", "bo", "cy")),
        "version 3",
    ),
    ("a stranger has signed as well", edit(content(2), "ana", "bo", "mallory"), "version 2"),
    ("a second before it lapses", at("2027-10-31T23:59:59Z"), "version 1"),
    ("a lapsed roster is renewed", at("2027-12-01", edit(content(2, expires="2028-11-01"), "ana", "bo")), "version 2"),
    ("trust begins at a later version", later_pin, "version 2"),
    (
        "an unsigned one, which the pins allow",
        lambda w: (
            unsigned(w),
            [(w.root / p / trust.SEEN).unlink() for p in ("etc", "state")],
            pin_line("production 0 unsigned\n")(w),
        ),
        "version 0",
    ),
    ("an unsigned one, where nobody pins anything", everything_gone, "version 0"),
    # rolled back
    ("an older version", back_to_one, f"{ORDER} roster.yml is version 1, and this machine has seen version 2"),
    ("an older version, the store's memory deleted", forget("state"), f"{ORDER} roster.yml is version 1, and this machine"),
    ("an older version, the pins' memory deleted", forget("etc"), f"{ORDER} roster.yml is version 1, and this machine"),
    (
        "an older text beside newer signatures",
        lambda w: (two(w), w.write(content(1))),
        f"{ORDER} roster.yml is version 1, and version 2 lies",
    ),
    ("older than the pin", older_than_pin, f"{ORDER} roster.yml is version 1, older than version 2, which is pinned"),
    ("unsigned again", unsigned, f"{ORDER} roster.yml is not signed any more: this machine has seen version 1"),
    ("unsigned again, the pins deleted", pins_gone, f"{ORDER} roster.yml is not signed any more"),
    # equal, and not the same
    (
        "the same number, another text",
        lambda w: w.write(content(1, "ana bo moe")),
        f"{SIGNED} roster.yml is not what version 1 was signed for",
    ),
    (
        "the same number, signed anew",
        lambda w: ((w.folder / trust.FOLDER / "0001.json").unlink(), w.change(content(1, "ana bo moe"), "ana", "bo")),
        f"{ORDER} version 1 of the roster of `production` is not the one",
    ),
    ("another version 2 than was seen", other_history, f"{ORDER} version 2 of the roster of `production` is not the one"),
    (
        "another history below a newer version",
        other_history_below,
        f"{ORDER} version 2 of the roster of `production` is not",
    ),
    # skipped and fast-forwarded
    ("a version is left out", skipped, f"{ORDER} version 2 of the roster is missing"),
    ("far ahead", edit(content(999_999), "ana", "bo"), f"{ORDER} version 2 of the roster is missing"),
    (
        "another version's file in its place",
        lambda w: (
            two(w),
            (w.folder / trust.FOLDER / "0001.json").write_text((w.folder / trust.FOLDER / "0002.json").read_text()),
        ),
        "holds version 2 of `production`, not version 1",
    ),
    # signed by too few, or by the wrong ones
    ("not signed at all", edit(content(2)), f"{SIGNED} version 2 of the roster is missing"),
    (
        "half signed",
        edit(content(2), "ana"),
        "is not signed as version 1, the one before it, demands: 1 of 2 people of `keeper`",
    ),
    (
        "signed by the author of the change alone",
        edit(content(2, "ana bo cy mallory"), "mallory"),
        f"{SIGNED} version 2 of the roster is not signed as version 1",
    ),
    (
        "signed by members of the new version alone",
        edit(content(2, "mallory moe"), "mallory", "moe"),
        f"{SIGNED} version 2 of the roster is not signed as version 1",
    ),
    (
        "signed by members of the old version alone",
        edit(content(2, "mallory moe"), "ana", "bo"),
        f"{SIGNED} version 2 of the roster is not signed as it demands itself: 0 of 2",
    ),
    (
        "one of the old and one of the new",
        edit(content(2, "ana moe mallory"), "ana", "moe"),
        f"{SIGNED} version 2 of the roster is not signed as version 1",
    ),
    (
        "a threshold lowered by as few",
        edit(content(3), "ana", "bo", before=edit(content(2, wanted=3), "ana", "bo", "cy")),
        f"{SIGNED} version 3 of the roster is not signed as version 2",
    ),
    ("a threshold of one", edit(content(2, wanted=1), "ana", "bo"), "LG110"),
    ("a threshold above its members", edit(content(2, wanted=4), "ana", "bo"), "LG110"),
    (
        "another role decides",
        edit(content(2, thresholds={"ml-oncall": 2}), "mallory"),
        f"{SIGNED} version 2 of the roster is not signed as version 1",
    ),
    ("one signature twice", tampered(twice), "has signed twice"),
    (
        "by a key that has lapsed",
        lapsed_signs,
        f"{SIGNED} version 2 of the roster is not signed as it demands itself: 1 of 2",
    ),
    # changed files
    (
        "a person added to the signed text",
        tampered(payload(lambda it: it["predicate"]["roster"]["people"].append(content(1, "moe")["people"][0]) or it)),
        f"{SIGNED}",
    ),
    (
        "another thing that was signed",
        tampered(payload(lambda it: it | {"predicateType": "urn:lastgood:key:2"})),
        "something else than a roster",
    ),
    (
        "a statement with more in it",
        tampered(payload(lambda it: it | {"predicate": it["predicate"] | {"more": 1}})),
        "not exactly a statement about its roster",
    ),
    ("no statement", tampered(payload(lambda it: {"a": 1})), "something else than a roster"),
    ("no envelope", tampered(lambda it: {"people": []}), "this is no signed statement"),
    (
        "another signature",
        tampered(lambda it: it | {"signatures": [{"keyid": KEYS["ana"].key.fingerprint, "sig": "AAAA"}]}),
        f"{SIGNED}",
    ),
    # lapsed
    ("it has lapsed", at("2027-11-01"), f"{LAPSED} roster.yml, version 1, has lapsed"),
    ("it lapsed a year ago", at("2028-11-01"), f"{LAPSED} roster.yml, version 1, has lapsed"),
    # another place
    ("another environment's roster", other_environment, f"{SIGNED} roster.yml is the roster of `staging`"),
    (
        "nobody has pinned it",
        pin_line("staging 1 sha256:" + "00" * 32 + "\n"),
        f"{PINNED} nobody on this machine has pinned",
    ),
    ("no pins at all", lambda w: (w.home / trust.PINS).unlink(), f"{PINNED} nobody on this machine has pinned"),
    ("pinned as unsigned", pin_line("production 0 unsigned\n"), f"{PINNED} nobody on this machine has pinned"),
    (
        "another version 1 is pinned",
        pin_line("production 1 sha256:" + "00" * 32 + "\n"),
        f"{ORDER} version 1 of the roster of `production` is not the one",
    ),
    (
        "unsigned, pins for another environment",
        lambda w: (everything_gone(w), pin_line("staging 0 unsigned\n")(w)),
        f"{SIGNED} roster.yml is not signed, and this machine takes no unsigned roster",
    ),
    ("pins in the repository", inside, f"{PINNED} the pins in"),
    ("pins that anybody can change", writable, f"{PINNED}"),
    ("a pin that is a riddle", pin_line("production one\n"), f"{PINNED}"),
    ("two pins for one environment", pin_line("production 0 unsigned\nproduction 0 unsigned\n"), f"{PINNED}"),
]


@pytest.mark.parametrize(("act", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_verdicts(act: Callable[[World], Any], expected: str, world: World) -> None:
    """The written verdict on each case: a lawful change is taken, an attack refused by its own name."""
    act(world)
    found = world.verdict().replace(f"{world.folder}/", "")
    assert expected in found, found
    assert found == world.verdict().replace(f"{world.folder}/", ""), "and again"


def test_the_table_is_whole() -> None:
    """At least 36 cases, of which a dozen are lawful: refusing everything would not pass."""
    assert len(CASES) >= 36
    assert 12 <= sum(row[2].startswith("version") for row in CASES)


def test_a_refused_roster_is_not_remembered(world: World) -> None:
    """Only a roster that counted raises what this machine has seen: nobody can lock it out with a number."""
    edit(content(999_999), "ana", "bo")(world)
    assert world.verdict().startswith(ORDER)
    assert [Mark(1, trust.Trust(world.home).seen("production")[0].digest)] == world.outside().seen("production")[:1]
    (world.folder / trust.FOLDER / "999999.json").unlink()
    two(world)
    assert "version 2" == world.verdict()


def test_both_places_remember(world: World) -> None:
    """The newest version is written down beside the pins and in the store; each is enough."""
    seen_two(world)
    assert [2, 2] == [mark.version for mark in world.outside().seen("production")]
    (world.home / trust.SEEN).unlink()
    assert "version 2" == world.verdict()
    assert [2, 2] == [mark.version for mark in world.outside().seen("production")], "and what was lost is written again"


def test_a_place_that_cannot_be_written_is_no_obstacle(world: World) -> None:
    """Where nothing can be written beside the pins, as when they belong to root, the store alone remembers."""
    (world.home / trust.SEEN).unlink()
    (world.home / trust.SEEN).mkdir()
    seen_two(world)
    assert [2] == [mark.version for mark in world.outside().seen("production")]
    assert [world.home / trust.SEEN] == world.outside().remember("production", Mark(3, "sha256:" + "00" * 32))


def test_the_trust_folder_is_named_by_the_environment() -> None:
    """LASTGOOD_TRUST names it; without, it is the machine's own."""
    assert Path("/etc/lastgood") == trust.trust(None, {}).home
    assert Path("/srv/trust") == trust.trust(None, {"LASTGOOD_TRUST": "/srv/trust"}).home
