"""Journals as the engine writes them, told by hand: each scene is a run that a person on call would recognise.

`python tests/engine/journals/make.py` writes the `.jsonl` files beside it; a test compares them. The fleet stays in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

from engine.journal import Entry

HERE = Path(__file__).parent
START = 1795403342.0  # 2026-11-23 03:09:02Z
PLAYBOOK = "playbooks/fraud-scorer.yml"
ROLES = ["ml-oncall", "fraud-risk"]
FINGERPRINTS = {"ana": "SHA256:3q9mVJ1kQy8sQGv5", "kofi": "SHA256:Zt0yHc4bW1mTqk2E", "lena": "SHA256:aa77bJx0c1Pq93Lm"}
STEPS = [
    ("trigger", "precision_fell", "Precision fell under its floor", "prometheus.metric", "-", 11),
    ("forensics", "keep_wrong", "Keep the requests that it got wrong", "http.capture", "-", 20),
    ("forensics", "keep_version", "Keep the compromised version itself", "mlflow.snapshot", "-", 24),
    ("execution", "choose", "Choose the version to go back to", "last_good", "-", 33),
    ("execution", "alias", "Point the alias at it", "mlflow.alias", "automatic", 41),
    ("execution", "serve", "Make the server load it", "v2.model", "automatic", 45),
    ("execution", "purge_cache", "Empty the score cache", "command", "NONE", 50),
    ("verification", "golden_set", "The golden set scores as it did", "golden.predictions", "-", 57),
    ("verification", "latency", "It is as fast as it was", "benchmark.latency", "-", 60),
    ("verification", "precision_stays", "Precision stays up", "prometheus.metric", "-", 63),
]
PLACES = {f"{section}/{ident}": f"{PLAYBOOK}:{line}:7" for section, ident, *_, line in STEPS}
NAMES = {f"{section}/{ident}": (name, module) for section, ident, name, module, *_ in STEPS}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Book:
    """A journal being written: `at` is the clock, in seconds after the start."""

    def __init__(
        self, run: str, hosts: list[str], batches: list[list[str]] | None = None, only: tuple[str, ...] = ()
    ) -> None:
        self.run, self.entries, self.at = run, [], 0.0
        digest = "sha256:" + sha("plan of " + run)
        self.digest = digest
        chosen = [row for row in STEPS if not only or row[1] in only]
        gates = [[name, [], True] for name in ("trigger", "forensics", "execution", "verification")]
        shown = [
            {"section": section, "id": f"{section}/{ident}", "name": name, "module": module, "undo": undo, "grade": "exact"}
            for section, ident, name, module, undo, _ in chosen
            if section != "trigger"
        ]
        plan = {"digest": digest, "steps": [*gates, *([f"{row[0]}/{row[1]}", [], True] for row in chosen)]}
        modules = {module: "sha256:" + sha(module) for _, module in NAMES.values()}
        body = {
            "plan": {**plan, "modules": modules, "preview": {"steps": shown}},
            "digest": digest,
            "playbook": PLAYBOOK,
            "name": "Roll a fraud model back to its last known-good version",
            "strategy": "version",
            "requester": "mira",
            "hosts": hosts,
            "batches": batches or [hosts],
            "inventories": ["inventories/production"],
            "check": False,
            "engine": "0.1.0",
        }
        self.say("run.started", body)

    def say(self, kind: str, body: dict, host: str = "", step: str = "", after: float = 0.0) -> None:
        self.at = round(self.at + after, 3)
        previous = self.entries[-1].hash if self.entries else ""
        text = json.dumps(body, sort_keys=True, ensure_ascii=False)
        row = (self.run, len(self.entries) + 1, START + self.at, kind, host, step, text)
        self.entries.append(Entry(*row, sha(previous + json.dumps(row))))

    def intent(self, host: str, step: str, before, after, attempt: int = 1) -> None:
        module = NAMES[step.partition("[")[0]][1]
        body = {"change": {"before": before, "after": after}, "attempt": attempt, "key": sha(host + step)[:16]}
        self.say("step.intent", {**body, "module": module, "params": {}, "crash": "B"}, host, step, 0.01)

    def outcome(self, host: str, step: str, outcome: str, seconds: float, reading=None, change=None, **more) -> None:
        name, module = NAMES[step.partition("[")[0]]
        self.at += seconds
        body = {
            "outcome": outcome,
            "module": module,
            "reading": reading or {},
            "change": change,
            "started": START + round(self.at - seconds, 3),
            "seconds": seconds,
            "attempts": 0 if outcome == "skipped" else 1,
            "why": "",
            "hint": "",
            "register": None,
            "at": PLACES[step.partition("[")[0]],
            "name": name,
        }
        self.say("step.outcome", {**body, **more}, host, step)

    def change(self, host: str, step: str, seconds: float, before, after, reading=None, **more) -> None:
        after = {key: value for key, value in after.items() if not key.startswith("_")}
        self.intent(host, step, before, after)
        change = {"before": before, "after": after}
        self.outcome(host, step, "changed", seconds, {**(after or {}), **(reading or {})}, change, **more)

    def ask(self, expires: float = 1800.0) -> None:
        facts = {
            "host": "fraud-eu",
            "now": "47",
            "back_to": "46",
            "because": "precision 0.71, floor 0.9",
            "no_undo": ["purge_cache"],
        }
        body = {"mode": "two-key", "roles": ROLES, "keys": 2, "expires": START + self.at + expires, "digest": self.digest}
        self.say("key.asked", {**body, "nonce": sha(self.run)[:12], "facts": facts})

    def key(self, person: str, role: str, after: float, why: str) -> None:
        asked = next(entry.body for entry in reversed(self.entries) if entry.kind == "key.asked")
        said = {
            "type": "lastgood.key/1",
            "decision": "approve",
            "run": self.run,
            "digest": self.digest,
            "nonce": asked["nonce"],
        }
        said |= {"person": person, "role": role, "requester": "mira", "reason": why, "at": START + self.at + after}
        said |= {"expires": asked["expires"], "facts": asked["facts"]}
        body = {"person": person, "role": role, "fingerprint": FINGERPRINTS[person], "statement": said, "signature": "U1NI"}
        self.say("key.given", body, after=after)

    def end(self, outcome: str, code: int, why: str = "", after: float = 0.2) -> None:
        self.say("run.ended", {"outcome": outcome, "exit": code, "why": why}, after=after)

    def message(self, event: str, works: bool = True) -> None:
        key = sha(self.run + event)[:16]
        step = "communications/tell"
        self.say("message.queued", {"step": step, "event": event, "key": key}, step=step)
        if works:
            self.say("message.sent", {"key": key, "event": event, "seconds": 0.3}, step=step, after=0.3)
        else:
            why = "chat.example does not answer: refused"
            self.say("message.failed", {"key": key, "event": event, "why": why, "attempt": 5}, step=step, after=9.0)


def curve(begin: float, end: float, low: float, high: float, step: float = 15.0, gap: tuple[float, float] = (0, 0)) -> list:
    """A metric that goes smoothly from `low` to `high`, with a little noise, the same every time; `gap` has no samples."""
    points, count = [], max(int((end - begin) / step), 2)
    for i in range(count + 1):
        at = begin + i * step
        if gap[0] < at < gap[1]:
            continue
        share = 1 / (1 + math.exp(-10 * (i / count - 0.5)))
        points.append([START + at, round(low + (high - low) * share + 0.008 * math.sin(i * 2.4), 4)])
    return points


def precision(host: str) -> dict:
    return {"_query": f'fraud_precision{{service="{host}"}}'}


def trigger(book: Book, host: str, met: bool = True) -> None:
    points = curve(-600, 0, 0.957, 0.712, gap=(-420, -360))
    why = "fraud_precision was 0.71, below 0.9 for 5m"
    reading = {"met": met, "_value": 0.712, "_limit": 0.9, "_below": 0.9, "_why": why, "_series": points, **precision(host)}
    book.outcome(host, "trigger/precision_fell", "unchanged", 0.2, reading)


def evidence(book: Book, host: str) -> None:
    folder = f"/srv/rollback/.lastgood/runs/{book.run}/evidence/{host}"
    wrong = {"_path": f"{folder}/wrong-requests.jsonl", "_sha256": sha("wrong" + host), "_size": 184233, "_rows": 412}
    book.change(host, "forensics/keep_wrong", 4.1, {"stored": False}, {"stored": True}, wrong)
    kept = {"_path": f"{folder}/fraud-47.json", "_sha256": sha("kept" + host), "_files": 4, "_version": "47", "_missing": []}
    kept["_digest"] = "sha256:" + sha("v47")
    book.change(host, "forensics/keep_version", 9.3, {"stored": False}, {"stored": True}, kept)


CANDIDATES = [
    {"version": "47", "created": "2026-11-21T08:12:00+00:00", "eligible": False, "why": "serves now"},
    {"version": "46", "created": "2026-11-02T08:12:00+00:00", "eligible": True, "why": "is chosen"},
    {
        "version": "45",
        "created": "2026-10-19T08:12:00+00:00",
        "eligible": False,
        "why": "does not fulfil: candidate.tags.ok",
    },
    {"version": "44", "created": "2026-10-02T08:12:00+00:00", "eligible": False, "why": "is marked bad: RB-0097"},
]


def choose(book: Book, host: str) -> None:
    why = "46 is the newest of 1 that may be gone back to; 47 serves now"
    reading = {"version": "46", "_digest": "sha256:" + sha("v46"), "_now": "47", "_candidates": CANDIDATES, "_why": why}
    book.outcome(host, "execution/choose", "unchanged", 0.4, reading)


def move(book: Book, host: str) -> None:
    choose(book, host)
    book.change(host, "execution/alias", 0.9, {"version": "47"}, {"version": "46"}, {"_uri": "models:/fraud@champion"})
    book.change(host, "execution/serve", 21.4, {"version": "47"}, {"version": "46"}, {"_ready": True}, attempts=2)


def golden(book: Book, host: str, met: bool = True) -> None:
    value = 0.981 if met else 0.902
    why = f"precision {value} on 500 rows, at least 0.97 is wanted"
    reading = {"met": met, "_value": value, "_limit": 0.97, "_rows": 500, "_why": why}
    more = {} if met else {"why": why, "hint": "engine candidates shows the other versions", "attempts": 3}
    book.outcome(host, "verification/golden_set", "unchanged" if met else "failed", 6.2, reading, **more)


def latency(book: Book, host: str) -> None:
    reading = {"met": True, "_value": 0.0412, "_limit": 0.08, "_why": "p99 41 ms of 200 requests, below 80 ms"}
    book.outcome(host, "verification/latency", "unchanged", 3.8, reading)


def stays(book: Book, host: str, seconds: float = 600.0) -> None:
    points = curve(book.at - 60, book.at + seconds, 0.72, 0.974)
    why = "fraud_precision was 0.974, above 0.95 for 10m"
    reading = {
        "met": True,
        "_value": 0.974,
        "_limit": 0.95,
        "_above": 0.95,
        "_why": why,
        "_series": points,
        **precision(host),
    }
    book.outcome(host, "verification/precision_stays", "unchanged", seconds, reading, attempts=40)


def opening(book: Book, host: str, keys: int = 2) -> None:
    trigger(book, host)
    book.message("started")
    book.ask()
    evidence(book, host)
    if keys > 0:
        book.key("ana", "ml-oncall", 42.0, "alarm confirmed on the dashboard")
    if keys > 1:
        book.say("key.refused", {"person": "mira", "why": "mira asked for this run, and who asks never counts"}, after=31.0)
        book.key("kofi", "fraud-risk", 74.0, "payments confirm good customers hit")
        book.say("authority.settled", {"decision": "approved", "why": "2 of 2 keys", "people": ["ana", "kofi"]})
        book.say("gate.opened", {}, step="execution", after=0.1)


def rollback() -> Book:
    book = Book("RB-0142", ["fraud-eu"])
    opening(book, "fraud-eu")
    move(book, "fraud-eu")
    book.change("fraud-eu", "execution/purge_cache", 2.2, {"done": False}, {"done": True})
    book.say("note", {"text": "support told: declined customers may retry", "by": "ana"}, after=20.0)
    golden(book, "fraud-eu")
    latency(book, "fraud-eu")
    stays(book, "fraud-eu")
    book.message("succeeded")
    book.end("succeeded", 0)
    return book


def held() -> Book:
    book = Book("RB-0143", ["fraud-eu", "fraud-us"], [["fraud-eu"], ["fraud-us"]])
    book.say("batch.started", {"number": 1, "hosts": ["fraud-eu"]})
    opening(book, "fraud-eu")
    move(book, "fraud-eu")
    book.outcome("fraud-eu", "execution/purge_cache", "skipped", 0.0, why="when: cache.enabled is false")
    golden(book, "fraud-eu", met=False)
    book.message("failed", works=False)
    book.end("held", 4, "verification/golden_set is not met on fraud-eu")
    return book


def undone() -> Book:
    book = Book("RB-0144", ["fraud-eu", "fraud-us"])
    opening(book, "fraud-eu")
    for host in ("fraud-eu", "fraud-us"):
        choose(book, host)
        book.change(host, "execution/alias", 0.9, {"version": "47"}, {"version": "46"})
    book.change("fraud-us", "execution/serve", 20.2, {"version": "47"}, {"version": "46"})
    book.intent("fraud-eu", "execution/serve", {"version": "47"}, {"version": "46"})
    book.outcome(
        "fraud-eu",
        "execution/serve",
        "failed",
        63.0,
        {"version": "47"},
        {"before": {"version": "47"}, "after": {"version": "46"}},
        attempts=3,
        why="the server says ready and still answers as version 47",
        hint="look at the server's model folder: is version 46 there?",
    )
    book.say("undo.started", {"by": "the playbook (on_failure: undo)"}, after=0.1)
    for host, step in (("fraud-us", "execution/serve"), ("fraud-eu", "execution/alias"), ("fraud-us", "execution/alias")):
        change = {"before": {"version": "47"}, "after": {"version": "46"}}
        book.say("undo.intent", {"change": change, "module": NAMES[step][1]}, host, step, 0.1)
        back = {"before": change["after"], "after": change["before"]}
        body = {"outcome": "undone", "change": back, "why": "", "module": NAMES[step][1]}
        book.say("undo.outcome", body, host, step, after=2.0)
    book.say("undo.ended", {"outcome": "undone"}, after=0.1)
    book.message("failed")
    book.end("undone", 1, "execution/serve failed on fraud-eu; what was changed has been put back")
    return book


def failed() -> Book:
    book = Book("RB-0145", ["fraud-eu"])
    opening(book, "fraud-eu")
    choose(book, "fraud-eu")
    book.change("fraud-eu", "execution/alias", 0.9, {"version": "47"}, {"version": "46"})
    book.outcome(
        "fraud-eu",
        "execution/serve",
        "unreachable",
        31.0,
        attempts=4,
        why="http://scorer.eu.example:8080 does not answer: Connection refused",
        hint="is it up, and is the address right?",
    )
    book.end("failed", 1, "execution/serve unreachable on fraud-eu")
    return book


def waiting() -> Book:
    book = Book("RB-0146", ["fraud-eu"])
    opening(book, "fraud-eu", keys=1)
    return book


def interrupted() -> Book:
    book = Book("RB-0147", ["fraud-eu"])
    opening(book, "fraud-eu")
    choose(book, "fraud-eu")
    book.change("fraud-eu", "execution/alias", 0.9, {"version": "47"}, {"version": "46"})
    book.intent("fraud-eu", "execution/serve", {"version": "47"}, {"version": "46"})
    book.say("run.interrupted", {"why": "Ctrl-C twice"}, after=4.0)
    return book


def resumed() -> Book:
    book = interrupted()
    host = "fraud-eu"
    lists = {
        "keep": ["execution/alias"],
        "look": ["execution/serve"],
        "run": ["execution/purge_cache", "verification/golden_set"],
    }
    book.say("run.resumed", {"by": "ana", **lists}, after=65.0)
    book.outcome(host, "execution/serve", "unchanged", 1.1, {"version": "46"})
    book.outcome(host, "execution/purge_cache", "skipped", 0.0, why="when: cache.enabled is false")
    golden(book, host)
    latency(book, host)
    stays(book, host, 120.0)
    book.end("succeeded", 0)
    return book


def fleet(count: int = 300) -> Book:
    """Side by side on many hosts: two fail, one does not answer."""
    hosts = [f"svc-{i:03}" for i in range(1, count + 1)]
    book = Book("RB-0148", hosts, [hosts[:3], hosts[3:]], only=("alias", "serve", "golden_set"))
    book.say("batch.started", {"number": 1, "hosts": hosts[:3]})
    book.say("authority.settled", {"decision": "automatic", "why": "the playbook says automatic", "people": []})
    for number, batch in ((1, hosts[:3]), (2, hosts[3:])):
        if number == 2:
            book.say("batch.started", {"number": 2, "hosts": batch}, after=1.0)
        lost = {host for i, host in enumerate(batch) if number == 2 and i in (40, 170)}
        for host in batch:
            book.change(host, "execution/alias", 0.05, {"version": "47"}, {"version": "46"})
        for host in batch:
            if host in lost:
                book.outcome(host, "execution/serve", "failed", 0.3, why="still answers as version 47", attempts=3)
            elif number == 2 and host == batch[-1]:
                book.outcome(host, "execution/serve", "unreachable", 0.3, why="does not answer: refused", attempts=4)
            else:
                book.change(host, "execution/serve", 0.1, {"version": "47"}, {"version": "46"})
        for host in batch:
            if host not in lost and not (number == 2 and host == batch[-1]):
                golden(book, host)
                book.at -= 6.1
    book.end("failed", 1, "3 of 300 hosts failed; max_failed is 2")
    return book


SCENES = (rollback, held, undone, failed, waiting, interrupted, resumed)


def lines(book: Book) -> Iterator[str]:
    for entry in book.entries:
        row = {name: getattr(entry, name) for name in ("run", "seq", "at", "kind", "host", "step", "body", "hash")}
        yield json.dumps(row, sort_keys=True, ensure_ascii=False)


def load(name: str) -> list[Entry]:
    """The entries of a golden journal."""
    rows = [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        Entry(row["run"], row["seq"], row["at"], row["kind"], row["host"], row["step"], json.dumps(row["body"]), row["hash"])
        for row in rows
    ]


if __name__ == "__main__":
    for scene in SCENES:
        (HERE / f"{scene.__name__}.jsonl").write_text("\n".join(lines(scene())) + "\n", encoding="utf-8")
