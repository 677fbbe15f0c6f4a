"""Leave to change something: a run's question is asked, its keys are judged, and the answer is held to while it is used.

In: a `Site`, the run's outbox. Out: entries `key.asked`, `glass.broken` and `authority.settled`, and for each host and step
the reason why it may not be touched now. It stops nothing and starts nothing: the run does.

What was asked is read again while it matters. A change of roster or policy asks anew; a key whose holder has left opens
nothing that cannot be taken back; a window that has begun meanwhile holds every host that has not begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine import authority, outbox, question, words
from engine import policy as policies
from engine.check import HostRow
from engine.diagnostics import EngineError
from engine.journal import Entry
from engine.outbox import Outbox
from engine.playbook import Step
from engine.policy import Policy
from engine.site import Site

Json = Any
Poll = Callable[[Mapping[str, Json]], None]
#: Seconds for which hosts that begin share one reading of the freeze windows.
RECENT = 1.0
#: Decisions with which a run goes on.
GO = ("automatic", "approved")


class Leave:
    """The leave of one run. `asked`: its open question; `settled`: how it was answered, once it was with a yes."""

    def __init__(self, site: Site, messages: Outbox, poll: Poll | None = None) -> None:
        self.site, self.outbox, self.poll = site, messages, poll
        self.asked: Entry | None = None
        self.settled: dict[str, Json] = {}
        self.telling = False  # the glass is broken, and everybody is being told
        self._policy: tuple[float, Policy] | None = None  # when it was read, and what it was

    def restore(self, asked: Entry | None, settled: dict[str, Json]) -> None:
        """Takes over what the record says."""
        self.asked, self.settled = asked, settled

    def unproven(self, entries: Sequence[Entry]) -> str:
        """Why the yes that a run's record has is none, in words; empty: it is one, or nobody has to be asked. The keys are
        verified again, as of then: who can write the record could otherwise write the answer.

        Raises EngineError where nobody can tell who may say yes. Of who has left since it goes by what the plan keeps.
        """
        said, settled, plan = self.site.plan.playbook.authority, self.settled, self.site.plan
        if not settled or self.site.check or said.mode == "automatic":
            return ""
        answer = next(e for e in reversed(entries) if e.kind == "authority.settled" and e.body == settled)
        before = [e for e in entries if e.seq < answer.seq]
        asked = [e for e in before if e.kind == "key.asked" and e.body["digest"] == plan.digest]
        if not asked:
            return "nobody was asked"
        request, keys = asked[-1].body, question.given(e for e in before if e.seq > asked[-1].seq)
        told = {name: settled.get(name) or [] for name in ("keys", "freeze_override")}
        until, why = (settled.get("glass") or {}).get("until"), ""
        for now in (question.current(self.site), policies.stored(plan.roster)):
            found = authority.judge(authority.rule_of(said), now.roster, request, self.site.requester, keys, answer.at)
            mine = {"keys": [dict(key) for key in found.keys], "freeze_override": list(found.overrides)}
            alone = found.keys[0]["at"] + authority.GLASS if found.glass else None
            same = (told, until) == (mine, alone) or not request.get("format")  # an earlier version kept less of it
            if found.state == "approved" and same:
                return ""
            why = why or (found.why if found.state != "approved" else "its keys say something else")
        return why

    @property
    def granted(self) -> bool:
        """Whether execution may begin."""
        return bool(self.settled)

    @property
    def waits(self) -> bool:
        """Whether it is people that are waited for."""
        return bool(self.asked) and not self.granted and not self.telling

    def remind(self) -> None:
        """Tells of the open question again: it may have been the last thing before a crash."""
        if self.asked and not self.granted:
            self.outbox.event("waiting")

    def look(self) -> str:
        """Asks, or looks at what was answered. Returns the decision, once there is one. Raises EngineError."""
        if self.asked is None:
            return self._ask()
        if changed := question.outdated(self.site, self.asked):
            return self._ask(changed)
        verdict = question.judge(self.site, self.asked)
        if verdict.state == "waiting":
            self.telling = False
            if self.poll:
                self.poll(self.asked.body)
            return ""
        if verdict.glass:
            return self._alone(self.asked, verdict)
        return self._settle(verdict.state, verdict.why, verdict)

    def _ask(self, again: str = "") -> str:
        said = self.site.plan.playbook.authority
        if self.site.check:
            return self._settle("automatic", "check mode: nothing will be changed")
        if why := authority.weaker(authority.rule_of(said), question.current(self.site).roster):
            return self._settle("rejected", why)
        if said.mode == "automatic":
            if found := question.frozen(self.site):
                names = ", ".join(f"`{one.name}` until {words.utc(one.until)} ({one.reason})" for one in found)
                why = f"freeze window {names}: only keys that name it let a run through, and this playbook asks for none"
                return self._settle("rejected", why)
            return self._settle("automatic", "the playbook asks nobody")
        self.asked = question.ask(
            self.site, authority.rule_of(said), self.site.plan.digest, question.about(self.site), again
        )
        self.outbox.event("waiting")
        return ""

    def _settle(self, decision: str, why: str, verdict: authority.Verdict | None = None, **more: Json) -> str:
        """Writes the answer down; in the same commit the keys that count are used, and never again."""
        body = {"decision": decision, "why": why, "people": list(verdict.people) if verdict else [], **more}
        if verdict and self.asked:
            keys = [dict(key) for key in verdict.keys]
            body |= {"nonce": self.asked.body["nonce"], "keys": keys, "freeze_override": list(verdict.overrides)}
        self.site.journal.append(self.site.run, "authority.settled", body)
        if decision in GO:
            self.settled = body
        return decision

    # -- one person alone

    def _alone(self, asked: Entry, verdict: authority.Verdict) -> str:
        """The glass is broken: everybody is told first. Settled as soon as one message has arrived somewhere."""
        [key], self.telling = verdict.keys, True
        entries = self.site.journal.entries(self.site.run, asked.seq)
        broken = next((e for e in entries if e.kind == "glass.broken" and e.body["key"] == key["digest"]), None)
        if broken is None:
            within = asked.body["break_glass"]["ratify_within"]
            body = {"key": key["digest"], "person": key["person"], "role": key["role"], "why": verdict.why,
                    "ratify_by": self.site.now() + within, "until": key["at"] + authority.GLASS}  # fmt: skip
            self.outbox.event("break_glass", of=("glass.broken", body))
            return ""
        tried = {e.body["key"]: e for e in entries if e.kind in ("message.sent", "message.failed") and _about(e)}
        if any(e.kind == "message.sent" and not e.body.get("skipped") for e in tried.values()):
            glass = {name: broken.body[name] for name in ("person", "role", "ratify_by", "until")}
            return self._settle("approved", verdict.why, verdict, glass=glass)
        queued = [e for e in entries if e.kind == "message.queued" and _about(e)]
        if len(tried) == len(queued) and all(_given_up(e) for e in tried.values()):
            why = "the glass was broken, and nobody could be told: no host was changed"
            return self._settle("rejected", why, verdict)
        return ""

    # -- while it is used

    def held(self, row: HostRow) -> str:
        """Why a host that has not begun may not begin now: a freeze window that no key has named. Empty: it may."""
        if self.site.check:
            return ""
        named = self.settled.get("freeze_override") or ()
        try:
            found = [one for one in self._recent().open_now([row], self.site.now()) if one.name not in named]
        except EngineError as error:
            return error.diagnostics[0].summary
        return "; ".join(
            f"the freeze window `{one.name}` has begun ({one.reason}), until {words.utc(one.until)}" for one in found
        )

    def _recent(self) -> Policy:
        """The policy as of at most a second ago: a wide fleet's hosts begin together, and it is read from the disk."""
        if self._policy is None or time.monotonic() - self._policy[0] > RECENT:
            self._policy = time.monotonic(), question.current(self.site)
        return self._policy[1]

    def lapsed(self, one: Step) -> str:
        """Why the answer no longer covers this step of execution. Empty: it does.

        Of a step that can be undone the keys are not looked at again: what was approved goes on to its end.
        """
        if self.site.check or one.section != "execution" or one.id not in self.site.plan.undo:
            return ""
        glass = self.settled.get("glass")
        if glass and self.site.now() >= glass["until"]:
            return f"{glass['person']} broke the glass more than 30 minutes ago: what is left needs the keys of a new run"
        if self.site.plan.undo[one.id] or not self.settled.get("keys"):
            return ""
        try:
            return question.revoked(self.site, self.settled["keys"])
        except EngineError as error:
            return error.diagnostics[0].summary


def _about(entry: Entry) -> bool:
    return bool(entry.body.get("event") == "break_glass")


def _given_up(entry: Entry) -> bool:
    return entry.kind == "message.sent" or int(entry.body["attempt"]) >= outbox.TRIES
