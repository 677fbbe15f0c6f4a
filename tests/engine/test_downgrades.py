"""No downgrade: nine ways of going back, on each of the four things that say what may be gone back to.

Every cell of the table has its written verdict and what is tried to break it. An attack is refused by name and changes
nothing in the world; a lawful change of the same kind is accepted, so that refusing everything would not pass. A cell in
which a way makes no sense says why, and what comes nearest to it is tried all the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import test_trust as rosters
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from stage import PEOPLE, TWO_KEYS, Said, Stage, look, step

from engine import authority, canon, chain, ledger, memory, roster, source, sshsig, statement, trust
from modules.directory import _client as registry

WAYS = (
    "older", "equal", "skipped", "expired", "unsigned", "half-signed", "rotated", "fast-forwarded", "local state deleted",
)  # fmt: skip
THINGS = ("roster", "policy", "last-good ledger", "playbook reference")
REFUSED, ACCEPTED = "refused", "accepted"


@dataclass(frozen=True)
class Try:
    """One attempt: what is done in a fresh world (a text that begins with what became of it), the verdict, and words that
    stand in what was said."""

    what: str
    act: Callable[[Path], str]
    verdict: str
    words: str


@dataclass(frozen=True)
class Cell:
    """The written verdict on one way for one thing, and what holds it to that."""

    says: str
    tries: tuple[Try, ...]


def told(stage: Stage, say: Callable[[], Said], seen: Callable[[], Any] | None = None) -> str:
    """What became of a command: accepted with an effect, refused without one; anything else is neither."""
    seen = seen or stage.effects
    before = seen()
    said = say()
    changed = seen() != before
    verdict = {(True, True): ACCEPTED, (False, False): REFUSED}.get((said.exit == 0, changed), "WRONG")
    return f"{verdict} {said.exit} {said.text}"


# ------------------------------------------------------------------------------------------------- the roster
def signed(*acts: Callable[[rosters.World], Any]) -> Callable[[Path], str]:
    """A signed, pinned roster of version 1, and what is done to it."""

    def act(root: Path) -> str:
        world = rosters.begun(root)
        for one in acts:
            one(world)
        found = world.verdict()
        return f"{ACCEPTED if found.startswith('version') else REFUSED} {found}"

    return act


def signed_anew(world: rosters.World) -> None:
    (world.folder / trust.FOLDER / "0001.json").unlink()
    world.change(rosters.content(1, "ana bo moe"), "ana", "bo")


ROSTER = {
    "older": Cell(
        "The highest version seen is remembered outside the repository, in two places: an older one is refused.",
        (
            Try("version 1 after 2", signed(rosters.back_to_one), REFUSED, "LG211 "),
            Try("older than the pin", signed(rosters.older_than_pin), REFUSED, "older than version 2, which is pinned"),
            Try("the next one", signed(rosters.two), ACCEPTED, "version 2"),
        ),
    ),
    "equal": Cell(
        "The same number must be the same text: the digest of what was seen is remembered with its number.",
        (
            Try("the same number, signed anew", signed(signed_anew), REFUSED, "is not the one that this machine has known"),
            Try("the same once more", signed(lambda _: None), ACCEPTED, "version 1"),
        ),
    ),
    "skipped": Cell(
        "Every version from the pin on has its file, each signed as the one before demands: none can be left out.",
        (
            Try("version 3 without 2", signed(rosters.skipped), REFUSED, "LG211 version 2 of the roster is missing"),
            Try(
                "two at once, both there", signed(rosters.edit(rosters.THREE, "ana", "bo", before=rosters.two)), ACCEPTED,
                "version 3",
            ),
        ),
    ),
    "expired": Cell(
        "A roster that has lapsed says nothing any more; who renews it are its own thresholds.",
        (
            Try("a day late", signed(rosters.at("2027-11-02")), REFUSED, "LG212 "),
            Try(
                "renewed",
                signed(rosters.at("2027-12-01", rosters.edit(rosters.content(2, expires="2028-11-01"), "ana", "bo"))),
                ACCEPTED, "version 2",
            ),
        ),
    ),
    "unsigned": Cell(
        "Where it was signed once, or the machine keeps pins, an unsigned roster does not count.",
        (
            Try("the signatures taken out", signed(rosters.unsigned), REFUSED, "is not signed any more"),
            Try("and the pins with them", signed(rosters.pins_gone), REFUSED, "is not signed any more"),
            Try("where nobody ever signed", signed(rosters.everything_gone), ACCEPTED, "version 0"),
        ),
    ),
    "half-signed": Cell(
        "As many as both thresholds say, the old one's and the new one's, or it does not count.",
        (
            Try("by one of two", signed(rosters.edit(rosters.content(2), "ana")), REFUSED, "1 of 2 people of `keeper`"),
            Try(
                "by the old side alone", signed(rosters.edit(rosters.content(2, "mallory moe"), "ana", "bo")), REFUSED,
                "is not signed as it demands itself",
            ),
            Try("by two of two", signed(rosters.two), ACCEPTED, "version 2"),
        ),
    ),
    "rotated": Cell(
        "New people and keys are lawful when those who leave have signed, too; nobody can let themselves in.",
        (
            Try(
                "by those who come alone", signed(rosters.edit(rosters.content(2, "mallory moe"), "mallory", "moe")),
                REFUSED, "is not signed as version 1",
            ),
            Try(
                "by both sides", signed(rosters.edit(rosters.content(2, "bo cy dee"), "bo", "cy")), ACCEPTED, "version 2",
            ),
        ),
    ),
    "fast-forwarded": Cell(
        "A number far ahead is refused and not remembered: nobody locks a machine out with it.",
        (
            Try("version 999999", signed(rosters.edit(rosters.content(999_999), "ana", "bo")), REFUSED, "is missing"),
            Try(
                "and then the true next one",
                signed(
                    rosters.edit(rosters.content(999_999), "ana", "bo"), rosters.World.verdict,
                    lambda world: (world.folder / trust.FOLDER / "999999.json").unlink(), rosters.two,
                ),
                ACCEPTED, "version 2",
            ),
        ),
    ),
    "local state deleted": Cell(
        "Either of the two memories is enough. With both gone trust begins at the pin again, and never before it.",
        (
            Try("the store's memory gone", signed(rosters.forget("state")), REFUSED, "and this machine has seen version 2"),
            Try("the pins' memory gone", signed(rosters.forget("etc")), REFUSED, "and this machine has seen version 2"),
            Try("both gone, before the pin", signed(rosters.older_than_pin), REFUSED, "which is pinned"),
            Try("both gone, the pinned one", signed(rosters.forget("state", "etc")), ACCEPTED, "version 1"),
        ),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- the policy
PAST = {"name": "long-ago", "reason": "audit", "from": "2000-01-01T00:00", "until": "2001-01-01T00:00"}
NOW = {"name": "all-year", "reason": "audit", "from": "2000-01-01T00:00", "until": "2100-01-01T00:00"}


def keyed(root: Path, **more: Any) -> Stage:
    """A run that waits for two keys."""
    stage = Stage(root, {"execution": [step("a", {"x": 1})], "authority": {**TWO_KEYS, **more}}).people()
    assert 5 == stage.run("--no-wait").exit
    return stage


def freeze(stage: Stage, *windows: Mapping[str, Any], text: str = "") -> None:
    (stage.stock / "freeze.yml").write_text(text or json.dumps({"windows": list(windows)}))


def again(stage: Stage) -> Said:
    return stage.resume("--no-wait")


def policy_older(root: Path) -> str:
    stage = keyed(root)
    stage.approve()
    freeze(stage, PAST)
    assert 5 == again(stage).exit  # asked anew under the newer policy
    (stage.stock / "freeze.yml").unlink()
    return told(stage, lambda: again(stage)) + str(stage.bodies("key.asked")[-1].get("again"))


def policy_put_back(root: Path) -> str:
    stage = keyed(root)
    freeze(stage, PAST)
    assert 5 == again(stage).exit
    (stage.stock / "freeze.yml").unlink()
    assert 5 == again(stage).exit
    stage.approve()
    return told(stage, lambda: again(stage))


def policy_equal(other: bool) -> Callable[[Path], str]:
    """The windows under the same name, with the same words or with another end."""

    def act(root: Path) -> str:
        stage = Stage(root, {"execution": [step("a", {"x": 1})], "authority": TWO_KEYS}).people()
        freeze(stage, PAST)
        assert 5 == stage.run("--no-wait").exit
        stage.approve()
        freeze(stage, text="# a remark\n" + json.dumps({"windows": [{**PAST, **({"reason": "none"} if other else {})}]}))
        found = told(stage, lambda: again(stage))
        return found + str(stage.bodies("key.asked")[-1].get("again"))

    return act


def policy_skipped(anew: bool) -> Callable[[Path], str]:
    """Two changes, of which nobody has seen the first."""

    def act(root: Path) -> str:
        stage = keyed(root)
        stage.approve()
        freeze(stage, PAST)
        freeze(stage, PAST, {**PAST, "name": "another"})
        if anew:
            assert 5 == again(stage).exit
            stage.approve()
        found = told(stage, lambda: again(stage))
        return found + str(stage.bodies("key.asked")[-1].get("again"))

    return act


def policy_expired(root: Path) -> str:
    stage = keyed(root, expires="1s")
    stage.approve()
    time.sleep(1.1)
    return told(stage, lambda: again(stage))


def policy_window_over(root: Path) -> str:
    stage = Stage(root, {"execution": [step("a", {"x": 1})]})
    freeze(stage, PAST)
    return told(stage, stage.run)


def policy_window_open(root: Path) -> str:
    stage = Stage(root, {"execution": [step("a", {"x": 1})]})
    freeze(stage, NOW)
    return told(stage, stage.run)


def policy_unsigned(strip: bool) -> Callable[[Path], str]:
    """A signed roster says `least`; the playbook asks for less, with the roster as it is or stripped of its signatures."""

    def act(root: Path) -> str:
        (root / "etc").mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LASTGOOD_TRUST", str(root / "etc"))
            stage = Stage(root / "stage", {"execution": [step("a", {"x": 1})]}).people()
            people = json.loads((stage.stock / "roster.yml").read_text())["people"]
            for one in people:
                one["roles"].append("keeper")
            plain = json.dumps({"people": people})
            (stage.stock / "roster.yml").write_text(plain)
            words = ["-i", str(stage.stock)]
            assert 0 == stage.engine("roster", "init", *words, "--least", "one-click").exit
            for name in PEOPLE:
                assert 0 == stage.engine("roster", "sign", *words, "--key", str(stage.folder / name), "--yes").exit
            assert 0 == stage.engine("roster", "pin", *words, "--yes").exit
            if strip:
                shutil.rmtree(stage.stock / trust.FOLDER)
                (stage.stock / "roster.yml").write_text(plain)
            return told(stage, stage.run)

    return act


def policy_half(both: bool) -> Callable[[Path], str]:
    def act(root: Path) -> str:
        stage = keyed(root)
        stage.approve(*(PEOPLE if both else ("ana",)))
        return told(stage, lambda: again(stage))

    return act


def policy_rotated(anew: bool) -> Callable[[Path], str]:
    """Somebody joins the roster after the keys were given."""

    def act(root: Path) -> str:
        stage = keyed(root)
        stage.approve()
        sshsig.generate(root / "cid", "cid")
        people = json.loads((stage.stock / "roster.yml").read_text())["people"]
        cid = {"name": "cid", "roles": ["fraud-risk"], "keys": [(root / "cid.pub").read_text().strip()]}
        (stage.stock / "roster.yml").write_text(json.dumps({"people": [*people, cid]}))
        if anew:
            assert 5 == again(stage).exit
            stage.approve("ana", "cid")
        found = told(stage, lambda: again(stage))
        return found + str(stage.bodies("key.asked")[-1].get("again"))

    return act


def not_counted(stage: Stage) -> str:
    """Why the keys that were given to the open question do not count."""
    asked, given = stage.bodies("key.asked")[-1], stage.bodies("key.given")
    people = roster.read(source.load(stage.stock / "roster.yml"))
    verdict = authority.judge(authority.asked(asked), people, asked, asked["requester"], given, time.time())
    return "".join(f"; {name}: {why}" for name, why in verdict.not_counted)


def policy_ahead(root: Path) -> str:
    """Keys over a policy of the future, with which nobody would be asked, by the right people."""
    stage = keyed(root)
    asked = {**stage.bodies("key.asked")[-1], "policy": canon.digest({"mode": "automatic"})}
    with stage.store() as store:
        for name, role in PEOPLE.items():
            said = statement.make(asked, "approve", name, role, "", time.time())
            store.append("RB-0001", "key.given", statement.sign(said, sshsig.key_file(root / name, lambda _: "")))
    return told(stage, lambda: again(stage)) + not_counted(stage)


def policy_forgotten(root: Path) -> str:
    """The state is deleted, the same run is asked for again under the same number, and the keys of before are put in."""
    stage = keyed(root)
    stage.approve()
    keys = stage.bodies("key.given")
    shutil.rmtree(stage.state)
    assert 5 == stage.run("--no-wait").exit
    assert "RB-0001" == stage.latest
    with stage.store() as store:
        for key in keys:
            store.append("RB-0001", "key.given", key)
    return told(stage, lambda: again(stage)) + not_counted(stage)


def policy_asked_again(root: Path) -> str:
    stage = keyed(root)
    shutil.rmtree(stage.state)
    assert 5 == stage.run("--no-wait").exit
    stage.approve()
    return told(stage, lambda: again(stage))


POLICY = {
    "older": Cell(
        "A question is bound to the digest of its policy: going back to an earlier one asks anew, and keys "
        "of then stay spent.",
        (
            Try("back to the one that was agreed to first", policy_older, REFUSED, "the freeze windows have changed"),
            Try("put back, and agreed to", policy_put_back, ACCEPTED, "succeeded"),
        ),
    ),
    "equal": Cell(
        "A policy is what it says: the same data in another text is the same, other data under the same names is not.",
        (
            Try("the same names, other words", policy_equal(True), REFUSED, "the freeze windows have changed"),
            Try("a remark added", policy_equal(False), ACCEPTED, "succeeded"),
        ),
    ),
    "skipped": Cell(
        "A policy has no number, so that none can be left out: each is compared as a whole with the one that "
        "was asked under.",
        (
            Try("keys of two policies ago", policy_skipped(False), REFUSED, "the freeze windows have changed"),
            Try("keys for the newest", policy_skipped(True), ACCEPTED, "succeeded"),
        ),
    ),
    "expired": Cell(
        "What has lapsed is never a yes: keys of a question whose time is over do not count. A window that "
        "is over holds nobody.",
        (
            Try("a second after the question's end", policy_expired, REFUSED, "expired"),
            Try("in a window", policy_window_open, REFUSED, "all-year"),
            Try("after a window", policy_window_over, ACCEPTED, "succeeded"),
        ),
    ),
    "unsigned": Cell(
        "freeze.yml and a playbook's `authority` are not signed, and a key is bound to both. The least that "
        "a playbook has to "
        "ask for stands in the signed roster: neither asking for less nor an unsigned roster gets round it.",
        (
            Try("asking nobody", policy_unsigned(False), REFUSED, "asks for `one-click` at least"),
            Try("with the signatures taken out", policy_unsigned(True), REFUSED, "is not signed"),
            Try("two keys where they are asked", policy_half(True), ACCEPTED, "succeeded"),
        ),
    ),
    "half-signed": Cell(
        "One key of two is a question that is still open.",
        (
            Try("one key", policy_half(False), REFUSED, "key 2 of 2"),
            Try("two keys", policy_half(True), ACCEPTED, "succeeded"),
        ),
    ),
    "rotated": Cell(
        "Other people are another policy: the question is asked anew, and keys that were given before answer nothing.",
        (
            Try("keys from before somebody came", policy_rotated(False), REFUSED, "the roster has changed"),
            Try("a key of who came", policy_rotated(True), ACCEPTED, "succeeded"),
        ),
    ),
    "fast-forwarded": Cell(
        "A key for a roster or a policy that is not yet, or never will be, answers another question.",
        (
            Try("a policy of the future", policy_ahead, REFUSED, "it is for another policy"),
            Try("the policy of now", policy_half(True), ACCEPTED, "succeeded"),
        ),
    ),
    "local state deleted": Cell(
        "Each question has a nonce of its own: keys of a run whose record was deleted do not open the run "
        "that has its number.",
        (
            Try("the keys put into the new run", policy_forgotten, REFUSED, "it answers an earlier question of this run"),
            Try("new keys", policy_asked_again, ACCEPTED, "succeeded"),
        ),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- the ledger
def choosing(**more: Any) -> dict[str, Any]:
    choose = {"of": "thing", "with": {"name": "model", "fields": {}}, **more}
    return {
        "trigger": [look("alarm", {"on": True})],
        "execution": [
            {"name": "Choose", "id": "choose", "register": "target", "last_good": choose},
            step("model", {"version": "{{ target.version }}"}),
        ],
        "verification": [look("model"), look("other", {"ok": True})],
    }


def serving(root: Path, *, marked: tuple[str, ...] = ("v2",), **more: Any) -> Stage:
    """A service on v3 with an alarm; v1 and v2 are older, and what is `marked` is bad by a person's word."""
    stage = Stage(root, choosing(**more))
    stage.have("model", {"version": "v3"})
    stage.have("alarm", {"on": True})
    stage.have("other", {"ok": True})
    for version in marked:
        assert 0 == stage.engine("ledger", "mark", "a", version, "--because", "poisoned", "--as", "ana").exit
    return stage


def ran(stage: Stage, *words: str) -> str:
    return told(stage, lambda: stage.run(*words))


def sql(stage: Stage, *statements: str) -> None:
    db = sqlite3.connect(stage.state / "journal.db")
    with db:
        for one in statements:
            db.execute(one)
    db.close()


def ledger_older_copy(root: Path) -> str:
    """The store as it was before the mark is put back, and its own memory with it."""
    with pytest.MonkeyPatch.context() as patch:
        (root / "etc").mkdir(parents=True)
        patch.setenv("LASTGOOD_TRUST", str(root / "etc"))
        stage = serving(root / "stage", marked=("v1",))
        shutil.copytree(stage.state, root / "copy")
        assert 0 == stage.engine("ledger", "mark", "a", "v2", "--because", "poisoned").exit
        shutil.rmtree(stage.state)
        shutil.copytree(root / "copy", stage.state)
        return ran(stage)


def ledger_older_version(root: Path) -> str:
    return ran(serving(root, marked=("v1", "v2")), "-e", "to=v1")


def ledger_choice(**more: Any) -> Callable[[Path], str]:
    """v2 is marked, so that v1 is left."""
    return lambda root: ran(serving(root, **more))


def ledger_rewritten(root: Path) -> str:
    """The mark is made to be of another version, and the whole chain is computed anew: as long as before, and whole."""
    stage = serving(root)
    db = sqlite3.connect(stage.state / "journal.db")
    [(seq, at, kind, host, step_, body)] = db.execute(
        "SELECT seq, at, kind, host, step, body FROM entries WHERE run = 'LEDGER'"
    ).fetchall()
    body = body.replace('"v2"', '"v9"')
    hashed = chain.hashed("", "LEDGER", seq, at, kind, host, step_, body)
    with db:
        db.execute("UPDATE entries SET body = ?, hash = ? WHERE run = 'LEDGER'", (body, hashed))
    db.close()
    return ran(stage)


def ledger_edited(statement: str, marked: tuple[str, ...] = ("v1", "v2", "v9")) -> Callable[[Path], str]:
    def act(root: Path) -> str:
        stage = serving(root, marked=marked)
        sql(stage, statement)
        return ran(stage)

    return act


def ledger_proven(**how: Any) -> Callable[[Path], str]:
    """A chain of entries that says when v2 was verified; a playbook that takes only what was verified within 30 days."""

    def act(root: Path) -> str:
        stage = serving(root, marked=(), proven="30d")
        now = time.time()
        body = {
            "version": "v2", "digest": "", "was": "", "at": now, "was_digest": "", "was_at": now, "outcome": "succeeded",
            "passed": ["see_model"], "unmet": [], "run": "RB-0000", "seq": 1, "by": "eve",
            **{name: now + value if name == "at" else value for name, value in how.items()},
        }  # fmt: skip
        with stage.store() as store:
            store.append(ledger.CHAIN, "ledger.served", body, "a")
        return ran(stage)

    return act


def ledger_renamed(digest: str, known: str) -> Callable[[Path], str]:
    """The registry says that v2 has `digest`; what is on record of v2, or of the bad one, is `known`."""

    def act(root: Path) -> str:
        stage = serving(root, marked=())
        module = stage.base / "modules/thing.py"
        module.write_text(module.read_text().replace('"digest": None', f'"digest": "{digest}" if version == "v2" else None'))
        with stage.store() as store:
            if known == "bad":
                ledger.marked(store, "b", "v7", digest, True, "poisoned", "ana", time.time())
            else:
                ledger.observed(store, "a", "v2", known, "directory.current", "ana", time.time())
        return ran(stage, "-e", "to=v2")

    return act


def ledger_tomorrow(root: Path) -> str:
    stage = serving(root)
    with stage.store() as store:
        store.append(ledger.CHAIN, "ledger.tomorrow", {}, "a")
    return ran(stage)


def ledger_deleted(*gone: str, check: bool = False) -> Callable[[Path], str]:
    """The machine keeps pins; of `state`, `memory` (in the state folder) and `etc` (beside the pins), these are deleted."""

    def act(root: Path) -> str:
        (root / "etc").mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LASTGOOD_TRUST", str(root / "etc"))
            stage = serving(root / "stage")
            assert (root / "etc" / memory.FILE).is_file()
            if "state" in gone:
                shutil.rmtree(stage.state)
            if "rows" in gone:
                sql(stage, "DELETE FROM entries WHERE run = 'LEDGER'")
            if "memory" in gone:
                (stage.state / memory.FILE).unlink()
            if "etc" in gone:
                (root / "etc" / memory.FILE).unlink()
            if check:
                said = stage.engine("ledger", "check", "a", "v2")
                return f"{REFUSED if said.exit else ACCEPTED} {said.text}"
            return ran(stage)

    return act


CUT = "DELETE FROM entries WHERE run = 'LEDGER' AND seq = 3"
EDIT = "UPDATE entries SET body = replace(body, 'true', 'false') WHERE run = 'LEDGER'"
LEDGER = {
    "older": Cell(
        "The ledger only grows, and each machine remembers how far: an older copy of it is refused. A "
        "version that is older "
        "is what a rollback is for, unless it is marked.",
        (
            Try("a copy from before the mark", ledger_older_copy, REFUSED, "LG068"),
            Try("its end cut", ledger_edited(CUT), REFUSED, "LG068"),
            Try("a marked version, by name", ledger_older_version, REFUSED, "is marked bad in the ledger by ana: poisoned"),
            Try("the newest that is not marked", ledger_choice(), ACCEPTED, "succeeded"),
        ),
    ),
    "equal": Cell(
        "As long as before and not the same is another history: the hash of the newest entry is remembered, too.",
        (
            Try("the chain computed anew", ledger_rewritten, REFUSED, "it is another history"),
            Try("the same ledger", ledger_choice(), ACCEPTED, "succeeded"),
        ),
    ),
    "skipped": Cell(
        "Entries follow each other by number and by hash: one that is left out breaks the chain.",
        (
            Try("an entry taken out of the middle", ledger_edited(CUT.replace("3", "2")), REFUSED, "LG073"),
            Try("every entry there", ledger_choice(marked=("v2", "v9")), ACCEPTED, "succeeded"),
        ),
    ),
    "expired": Cell(
        "What a run has proven holds for as long as the playbook's `proven` says.",
        (
            Try(
                "verified 31 days ago", ledger_proven(at=-31 * 86400.0), REFUSED,
                "was last put in place and verified 31.0 d ago",
            ),
            Try("verified 29 days ago", ledger_proven(at=-29 * 86400.0), ACCEPTED, "succeeded"),
        ),
    ),
    "unsigned": Cell(
        "Entries of the ledger are chained and not signed, so an edited one is found by its hash; who "
        "computes the chain anew "
        "meets what the machine remembers (equal).",
        (
            Try(
                "a mark edited away", ledger_edited(EDIT), REFUSED, "LG073",
            ),
            Try("nothing edited", ledger_choice(), ACCEPTED, "succeeded"),
        ),
    ),
    "half-signed": Cell(
        "The ledger asks nobody for signatures; what comes nearest is a version that passed some of its "
        "checks: it is not proven.",
        (
            Try(
                "one check not met", ledger_proven(unmet=["see_other"]), REFUSED,
                "has never been put in place and verified",
            ),
            Try("no check at all", ledger_proven(passed=[]), REFUSED, "has never been put in place and verified"),
            Try("every check met", ledger_proven(), ACCEPTED, "succeeded"),
        ),
    ),
    "rotated": Cell(
        "A name stands for one content: another under it is refused, and a bad one is bad under any name.",
        (
            Try(
                "other content under a good name", ledger_renamed("sha256:two", "sha256:one"), REFUSED,
                "is not what served under this name",
            ),
            Try(
                "bad content under a new name", ledger_renamed("sha256:bad", "bad"), REFUSED,
                "is marked bad in the ledger by ana",
            ),
            Try("the same content", ledger_renamed("sha256:one", "sha256:one"), ACCEPTED, "succeeded"),
        ),
    ),
    "fast-forwarded": Cell(
        "What a newer engine wrote may forbid a version, so nothing is chosen past it; a proof from the "
        "future proves nothing.",
        (
            Try("an entry of a newer engine", ledger_tomorrow, REFUSED, "LG066"),
            Try("verified next year", ledger_proven(at=365 * 86400.0), REFUSED, "at a time that is still to come"),
            Try("verified now", ledger_proven(), ACCEPTED, "succeeded"),
        ),
    ),
    "local state deleted": Cell(
        "How far it had grown is remembered in the state folder and beside the pins, and either is enough: "
        "also for a pipeline "
        "that asks. With everything gone, on a machine without pins, nobody can know; the registry's own marks still hold.",
        (
            Try("the state folder deleted", ledger_deleted("state"), REFUSED, "LG068"),
            Try("the state folder deleted, a pipeline asks", ledger_deleted("state", check=True), REFUSED, "LG068"),
            Try("its rows and one memory deleted", ledger_deleted("rows", "memory"), REFUSED, "LG068"),
            Try("its rows and the other memory deleted", ledger_deleted("rows", "etc"), REFUSED, "LG068"),
            Try("both memories deleted, the ledger there", ledger_deleted("memory", "etc"), ACCEPTED, "succeeded"),
        ),
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- the playbook's references
def changed_book(way: str) -> Callable[[Path], str]:
    """A run that waits for keys, and what becomes of its playbook meanwhile."""

    def act(root: Path) -> str:
        stage = keyed(root)
        newer = stage.playbook.read_text()
        stage.approve()
        if way == "older":
            stage.write(newer.replace('"x": 1', '"x": 0'))
        elif way == "touched":
            stage.playbook.write_text(newer)
        return told(stage, lambda: again(stage))

    return act


def saved_plan(older: bool) -> Callable[[Path], str]:
    """A plan is saved, then its playbook goes back to what it was before; or stays."""

    def act(root: Path) -> str:
        stage = Stage(root, {"execution": [step("a", {"x": 1})]})
        plan = root / "plan.json"
        assert 0 == stage.plan("--out", str(plan)).exit
        if older:
            stage.write(stage.playbook.read_text().replace('"x": 1', '"x": 0'))
        return told(stage, lambda: stage.run(what=plan))

    return act


def asking(*words: str, **more: Any) -> Callable[[Path], str]:
    return lambda root: ran(serving(root, marked=(), **more), *words)


def key_pair(folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    form, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(form, info))
    return key


def model_signature(folder: Path, key: ec.EllipticCurvePrivateKey, leave_out: str = "") -> str:
    """An OpenSSF signature over the files of a version, all of them but `leave_out`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    rows = [
        {"name": name, "algorithm": "sha256", "digest": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in names
        if name != leave_out
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(row["digest"]) for row in rows)).hexdigest()
    said = {
        "_type": "https://in-toto.io/Statement/v1", "subject": [{"name": folder.name, "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files"}, "resources": rows},
    }  # fmt: skip
    kind, payload = "application/vnd.in-toto+json", json.dumps(said).encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    made = base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()
    box = {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": [{"sig": made}]}
    return json.dumps({"dsseEnvelope": box})


def restored(sign: str, **more: Any) -> Callable[[Path], str]:
    """A registry in which 2.0.0 serves; the playbook goes back to 1.0.0, which only the key `now` may have signed. `sign`:
    nobody, half, old or now."""

    def act(root: Path) -> str:
        point = {"path": "models/fraud", "version": "1.0.0", "signed_by": "now.pub", **more}
        execution = [{"name": "Point", "id": "point", "directory.current": point}]
        stage = Stage(root, {"strategy": "version", "execution": execution, "verification": [look("other", {"ok": True})]})
        stage.have("other", {"ok": True})
        place = stage.base / "models/fraud"
        for version in ("1.0.0", "2.0.0"):
            files = {"model.json": version.encode(), "vocab.txt": b"a b"}
            registry.publish(place, version, files, by="ana", created=datetime.now(UTC) - timedelta(days=3))
        registry.point(place, "2.0.0")
        keys = {name: key_pair(stage.base, name) for name in ("old", "now")}
        if sign != "nobody":
            made = model_signature(
                place / "versions/1.0.0", keys["old" if sign == "old" else "now"], "vocab.txt" if sign == "half" else ""
            )
            (place / "versions/1.0.0.sig").write_text(made)
        return told(stage, stage.run, lambda: registry.serving(place))

    return act


def record_gone(verb: str) -> Callable[[Path], str]:
    """A run has gone back to a version; its record is deleted, and somebody goes on with it, or has it undone."""

    def act(root: Path) -> str:
        stage = keyed(root)
        stage.approve()
        shutil.rmtree(stage.state)
        return told(stage, lambda: stage.engine(verb, "RB-0001", "-y"))

    return act


REFERENCE = {
    "older": Cell(
        "A run and a saved plan hold the playbook's text: an older one in its place is refused, and what was "
        "planned is not run.",
        (
            Try("an older playbook under a run's keys", changed_book("older"), REFUSED, "LG061"),
            Try("an older playbook under a saved plan", saved_plan(True), REFUSED, "LG06"),
            Try("a version under the floor", asking("-e", "to=v1", floor="v2"), REFUSED, "is under the floor v2"),
            Try("an older version that is good", asking("-e", "to=v1"), ACCEPTED, "succeeded"),
        ),
    ),
    "equal": Cell(
        "The same text is the same playbook, whenever it was written.",
        (
            Try("written anew, the same", changed_book("touched"), ACCEPTED, "succeeded"),
            Try("the saved plan's own", saved_plan(False), ACCEPTED, "succeeded"),
            Try("the version that serves", asking(where="candidate.serving"), REFUSED, "serves now"),
        ),
    ),
    "skipped": Cell(
        "Versions may be passed over only with a reason that is told; one that is not there is never taken for another.",
        (
            Try("a version that is not there", asking("-e", "to=v9"), REFUSED, "there is no version v9"),
            Try("a floor that is not there", asking(floor="v0"), REFUSED, "the floor v0 is not in the history"),
            Try("one passed over, because it is marked", ledger_choice(), ACCEPTED, "succeeded"),
        ),
    ),
    "expired": Cell(
        "A playbook's `max_age` ends what may be gone back to.",
        (
            Try("older than it may be", asking(max_age="1d"), REFUSED, "d old, more than 1d"),
            Try("young enough", asking(max_age="9999d"), ACCEPTED, "succeeded"),
        ),
    ),
    "unsigned": Cell(
        "Where the playbook says `signed_by`, a version without a signature does not serve.",
        (
            Try("a version that nobody signed", restored("nobody"), REFUSED, "the version is not signed"),
            Try("a version that was signed", restored("now"), ACCEPTED, "succeeded"),
        ),
    ),
    "half-signed": Cell(
        "A signature is over all files of a version, or over none.",
        (
            Try("one of two files", restored("half"), REFUSED, "was not signed: it was added"),
            Try("all files", restored("now"), ACCEPTED, "succeeded"),
        ),
    ),
    "rotated": Cell(
        "The playbook names the key, so it changes with the playbook and its keys; a signature of the key "
        "before does not hold.",
        (
            Try("signed with the key of before", restored("old"), REFUSED, "it was not made with now.pub"),
            Try("signed with the key of now", restored("now"), ACCEPTED, "succeeded"),
            Try("the playbook names the key of before", restored("old", signed_by="old.pub"), ACCEPTED, "succeeded"),
        ),
    ),
    "fast-forwarded": Cell(
        "A name that moves by itself, like `latest`, is no version: nobody could say what was approved.",
        (
            Try("latest", restored("now", version="latest"), REFUSED, "does not name one version"),
            Try("current", restored("now", version="current"), REFUSED, "does not name one version"),
            Try("a version's own name", restored("now"), ACCEPTED, "succeeded"),
        ),
    ),
    "local state deleted": Cell(
        "Without its record a run is not gone on with and not undone: what it referred to is known to nobody.",
        (
            Try("resume", record_gone("resume"), REFUSED, "there are no runs"),
            Try("undo", record_gone("undo"), REFUSED, "there are no runs"),
            Try("a new run, with new keys", policy_asked_again, ACCEPTED, "succeeded"),
        ),
    ),
}  # fmt: skip

TABLE: dict[str, dict[str, Cell]] = dict(zip(THINGS, (ROSTER, POLICY, LEDGER, REFERENCE), strict=True))
TRIES = [
    pytest.param(one, id=f"{thing}, {way}: {one.what}")
    for thing, cells in TABLE.items()
    for way, cell in cells.items()
    for one in cell.tries
]


@pytest.mark.parametrize("one", TRIES)
def test_a_downgrade(one: Try, tmp_path: Path) -> None:
    """What is tried ends as its cell says: refused by name with nothing changed, or accepted."""
    found = one.act(tmp_path / "world")
    assert found.startswith(one.verdict), found
    assert one.words in found, found


def test_the_table_is_whole() -> None:
    """36 cells, each with a verdict in words, an attack that is refused, and a lawful change that is accepted."""
    assert {(thing, way) for thing in THINGS for way in WAYS} == {(thing, way) for thing in TABLE for way in TABLE[thing]}
    cells = [cell for row in TABLE.values() for cell in row.values()]
    assert 36 == len(cells) == sum(len(cell.says) > 40 for cell in cells)
    assert [] == [cell.says for cell in cells if {REFUSED, ACCEPTED} != {one.verdict for one in cell.tries}]
