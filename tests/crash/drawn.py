"""Playbooks nobody wrote: 5 to 20 steps on 1 to 4 hosts, all drawn from one number.

Steps in order, side by side and across (`needs`, and results that later steps mention), retries, conditions, loops, effects
in parts, steps that nobody can read back (class D), steps that one host does for all, blocks in blocks with remedies and
clean-up, batches of one host, and whatever may be asked for when something fails: stop, continue, undo, hold. What comes of
a playbook does not depend on which of two threads is faster, so a run that nobody kills says what should come of one that
is killed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from stage import look, step

HOSTS = "abcd"


@dataclass(frozen=True)
class Drawn:
    """A playbook; `have`: (host, thing) -> what it is before; `trouble`: (host, thing) -> what goes wrong with it;
    `lasting`: the things that nobody can read back, and that are not put back; `parts`: those changed in parts; `forks`:
    threads."""

    seed: int
    book: dict[str, Any]
    hosts: str
    steps: int
    forks: int
    have: dict[tuple[str, str], dict[str, Any]]
    trouble: dict[tuple[str, str], dict[str, Any]]
    lasting: frozenset[str]
    parts: frozenset[str]


@dataclass
class _Pen:
    """What is being drawn. `solid`: registers of steps at the top that always end well, which later ones may mention; `top`:
    ids at the top, which later ones may need."""

    chance: random.Random
    hosts: str
    undoes: bool
    names: list[str] = field(default_factory=list)
    have: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    trouble: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lasting: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    solid: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)

    def likely(self, share: float) -> bool:
        return self.chance.random() < share

    def some(self) -> list[str]:
        """All hosts, or a part of them."""
        if self.likely(0.6):
            return list(self.hosts)
        return self.chance.sample(self.hosts, self.chance.randint(1, len(self.hosts)))

    def leaf(self, may_fail: bool, top: bool = False) -> dict[str, Any]:
        """One step, which sets a thing of its own name."""
        self.names.append(f"s{len(self.names) + 1}")
        name, fields = self.names[-1], {"x": len(self.names), "y": self.names[-1]}
        if may_fail and self.likely(0.5):
            return self.broken(name, fields)
        if self.likely(0.15):
            return self.blind(name, fields, top)
        if self.likely(0.15):
            return self.loop(name, fields, top)
        more: dict[str, Any] = {"register": f"r_{name}"}
        if self.likely(0.15):
            more |= {"retries": 2, "delay": "1ms"}
            for host in self.some():
                self.trouble[host, name] = {"apply": ["breaks", self.chance.randint(1, 2)]}
        elif self.likely(0.1):
            for host in self.some():
                self.trouble[host, name] = {"apply": [self.chance.choice(["late", "breaks_after"]), 1]}
        if self.solid and self.likely(0.25):
            fields["from"] = f"{{{{ {self.chance.choice(self.solid)}.x }}}}"
        thing = self.before(name, fields)
        if self.solid and self.likely(0.15):
            more["when"] = f"{self.chance.choice(self.solid)}.changed"
        elif top:
            self.solid.append(f"r_{name}")
        return step(name, fields, thing=thing | self.once(more, 0.08 if top else 0), **more, **self.needs())

    def once(self, more: dict[str, Any], share: float) -> dict[str, Any]:
        """Whether one host does it for all: then it is one thing of theirs."""
        if self.undoes or not self.likely(share):
            return {}
        more["run_once"] = True
        return {"shared": True}

    def before(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Whether something is there before the step, and whether it is changed part by part."""
        for host in self.hosts if self.likely(0.5) else "":
            self.have[host, name] = {"x": 0, "y": "old"}
            if self.likely(0.1) and "from" not in fields:
                self.have[host, name] = {**fields}
        if not self.likely(0.4):
            return {}
        self.parts.add(name)
        return {"parts": True}

    def broken(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """A step of which every change fails, on some hosts at least."""
        for host in self.some():
            self.trouble[host, name] = {"apply": "breaks"}
        return step(name, fields, **self.needs())

    def blind(self, name: str, fields: dict[str, Any], top: bool) -> dict[str, Any]:
        self.lasting.add(name)
        more: dict[str, Any] = {}
        thing: dict[str, Any] = {"crash": "D", "lasting": True} | self.once(more, 0.3 if top else 0)
        if not self.likely(0.4):
            return step(name, fields, thing=thing, **more, **self.needs())
        self.lasting |= {f"{name}_{item}" for item in "pq"}
        thing |= {"name": f"{name}_{{{{ item }}}}", "fields": fields}
        return {"name": name, "id": name, "loop": ["p", "q"], "thing": thing, **more, **self.needs()}

    def loop(self, name: str, fields: dict[str, Any], top: bool) -> dict[str, Any]:
        items = list("pqr")[: self.chance.randint(2, 3)]
        for host in self.hosts if self.likely(0.3) else "":
            self.have[host, f"{name}_{self.chance.choice(items)}"] = {"x": 0, "y": "old"}
        more: dict[str, Any] = {"register": f"r_{name}"}
        thing = {"name": f"{name}_{{{{ item }}}}", "fields": fields} | self.once(more, 0.2 if top else 0)
        return {"name": name, "id": name, "loop": items, "thing": thing, **more, **self.needs()}

    def needs(self) -> dict[str, Any]:
        """Side by side with what is before it, or after some of it."""
        if len(self.names) < 2 or not self.likely(0.3):
            return {}
        return {"needs": self.chance.sample(self.top, min(len(self.top), self.chance.randint(0, 2)))}

    def block(self, depth: int) -> dict[str, Any]:
        name = f"b{len(self.names)}"
        body: list[Any] = [self.leaf(True) for _ in range(self.chance.randint(1, 2))]
        made: dict[str, Any] = {"name": name, "id": name, "block": body}
        if self.likely(0.7):
            made["rescue"] = [self.leaf(False) for _ in range(self.chance.randint(1, 2))]
        if depth and self.likely(0.4):
            body.append(self.block(depth - 1))
        made["always"] = [self.leaf(False)]
        return made


def drawn(seed: int) -> Drawn:
    """The playbook of this number."""
    chance = random.Random(seed)
    hosts = HOSTS[: chance.choices([1, 2, 3, 4], [50, 30, 12, 8])[0]]
    last = chance.choice(["", "", "", "stop", "continue", "undo", "undo"])
    unmet = chance.choice(["", "", "", "hold", "undo"])
    pen = _Pen(chance, hosts, "undo" in (last, unmet))
    count, steps = chance.randint(5, 20), list[dict[str, Any]]()
    while len(pen.names) < count:
        nested = pen.likely(0.3) and count - len(pen.names) > 2
        steps.append(pen.block(1) if nested else pen.leaf(False, top=True))
        pen.top.append(steps[-1]["id"])
        if pen.likely(0.06):
            pen.names.append(f"s{len(pen.names) + 1}")
            steps.append({**pen.broken(pen.names[-1], {"x": len(pen.names)}), "on_failure": "continue"})
    if last:
        pen.names.append(f"s{len(pen.names) + 1}")
        steps.append({**pen.broken(pen.names[-1], {"x": len(pen.names)}), "on_failure": last})
    checks = [look(name) for name in chance.sample(pen.names, 2)]
    if unmet:
        checks.append(look(chance.choice(pen.names), {"x": 999}, id="unmet"))
    alone = len(hosts) > 1 and pen.likely(0.35)
    book = {
        "execution": steps,
        "verification": {"on_failure": unmet, "steps": checks} if unmet else checks,
        **({"serial": 1} if alone else {}),
        "max_failed": chance.choice([0, 1, len(hosts)]) if alone else len(hosts),
        "communications": [
            {"name": "Tell", "on": ["started", "ended"], "notify": {"to": "desk", "message": "{{ run.summary }}"}}
        ],
    }
    return Drawn(
        seed, book, hosts, len(pen.names), chance.choice([1, 2, 256]), pen.have, pen.trouble, frozenset(pen.lasting),
        frozenset(pen.parts),
    )  # fmt: skip
