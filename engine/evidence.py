"""No change before the evidence is sealed: what stands between a host's forensics and its execution.

In: a `Site`, and hosts as they come to the gate. Out: whether a host may go on, with its reasons in the journal; or an
EngineError, after which nothing may be changed. How a bundle is made is `seal`'s affair.

Hosts that come while a bundle is being made go into the next one together, so a wide fleet makes few of them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence

from engine import abreast, anchor, custody, question, seal, step, waiver
from engine.anchor import Anchored
from engine.chain import Entry
from engine.effect import Settled
from engine.seal import Sealed
from engine.site import Site
from engine.waiver import Waived
from engine.walk import Walk


class Evidence:
    """The evidence of one run, sealed as its hosts come to the gate."""

    def __init__(self, site: Site) -> None:
        self.site = site
        plan = site.plan
        asked = any(node.step and node.chosen and node.section == "forensics" for node in plan.nodes.values())
        #: Whether there is anything to seal before a change: a playbook without forensics keeps none.
        self.needed = asked and not site.check and site.signer is not None
        self._turn = threading.Lock()
        self._waiting: set[str] = set()
        self._wrong: dict[str, list[tuple[str, str]]] = {}
        self._waived: dict[waiver.Place, Waived] | None = None

    def secured(self, walk: Walk) -> bool:
        """Whether the host's evidence is sealed as it was captured. Where it is not, its steps have failed, on record.

        Raises EngineError when nothing can be sealed, or nobody can tell who may waive.
        """
        wrong = self._unwaived(walk.row.name)  # before the seal, so that no bundle is made for a gate that stays shut
        wrong = wrong or (self._once(walk.row.name) if self.needed else [])
        for name, why in wrong:
            one = self.site.plan.nodes[name.partition("[")[0]].step
            if one is None:
                raise AssertionError(name)
            hint = f"engine resume {self.site.run} captures it again; engine waive {self.site.run} {one.short} lets it pass"
            step.record(self.site, one, walk.row.name, name, Settled("failed", why, hint, started=self.site.now()))
            with walk.lock:
                walk.status[one.id] = "bad"
        return not wrong

    def _unwaived(self, host: str) -> list[tuple[str, str]]:
        """(step, why) of the host's captures whose waiver does not count, or no more, where the playbook asks for keys.

        Raises EngineError when nobody can tell who may waive.
        """
        said = self.site.plan.playbook.authority
        if said.mode == "automatic" or self.site.check:
            return []
        with self._turn:
            if self._waived is None:  # nobody waives while a run is being run
                self._waived = waiver.waived(self.site.journal.entries(self.site.run))
        mine = {name: one for (where, name), one in self._waived.items() if where == host}
        if not mine:
            return []
        people, site, now = question.current(self.site).roster, self.site, self.site.now()
        told = {
            name: waiver.fault(one, people, said.roles, site.requester, site.plan.digest, now) for name, one in mine.items()
        }
        return [(name, f"its waiver does not count: {why}") for name, why in told.items() if why]

    def _once(self, host: str) -> list[tuple[str, str]]:
        """Seals the evidence of `host`, and of whoever waits beside it. Returns (step, why) of what was altered."""
        self._waiting.add(host)
        with self._turn:
            if host not in self._wrong:
                hosts = set(self._waiting)
                fresh = hosts - _sealed_already(self.site.journal.entries(self.site.run))
                told = sealed(self.site, fresh) if fresh else None
                for one in hosts:
                    self._wrong[one] = [(name, why) for where, name, why in told.wrong if where == one] if told else []
                self._waiting -= hosts
            return self._wrong[host]


def sealed(site: Site, hosts: Collection[str] | None = None) -> Sealed | None:
    """Seals what is new of these hosts (of all, if None), and takes the head to the run's anchors. Raises EngineError."""
    if site.signer is None:
        raise AssertionError("nothing is sealed without a signer")
    earlier = seal.sealed(site.journal.entries(site.run))
    told = seal.make(site.journal, site.run, site.signer, hosts, now=site.now)
    if told and site.anchors:
        anchored(site, told, earlier[-1] if earlier else None, site.signer.key.fingerprint, site.anchors)
    return told


def anchored(site: Site, told: Sealed, before: Sealed | None, signer: str, targets: Sequence[str]) -> list[Anchored]:
    """Takes a bundle's head to every target, side by side, and records what became of each."""
    folder, now = seal.folder(site.journal, site.run) / told.name, site.now()
    text = anchor.line(folder, told, before, signer, custody.utc(now))
    found = abreast.each(lambda target: anchor.anchor(target, text, folder, site.wire, site.now()), list(targets), 8)
    for one in found:
        site.journal.append(site.run, "evidence.anchored", anchor.body(told, one))
    return found


def _sealed_already(entries: Iterable[Entry]) -> set[str]:
    """The hosts that an earlier attempt has sealed, and of which nothing was captured since."""
    found: set[str] = set()
    for entry in entries:
        if entry.kind == "evidence.sealed":
            found |= set(entry.body["hosts"]) - {host for host, _, _ in entry.body["wrong"]}
        elif entry.kind == "step.outcome" and entry.step.startswith("forensics/"):
            found.discard(entry.host)
    return found
