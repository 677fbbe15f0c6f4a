"""Where a run stands, in four answers: is it safe now, what is it waiting for, what if nobody does anything, what is next.

In: a `Story`. Out: sentences that screen, page, chat and prompt share, and one line for each journal entry.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine import words
from engine.journal import Entry
from engine.story import BAD, Planned, Step, Story
from modules.contract import Json

#: What each exit code of a run means, in the words of `engine doc exit-codes`.
MEANING = {
    0: "done, or nothing to do",
    1: "a step failed; the run can be resumed",
    4: "executed, but verification not met",
    5: "waiting for a key",
    6: "rejected or expired; no host was changed",
    7: "plan stale, or the live state moved",
    8: "another run holds a host",
    130: "interrupted; checkpoint written",
}


STAYS = "it stays exactly as it is now; nothing goes on by itself"


@dataclass(frozen=True)
class Standing:
    """The word that names the state, its exit code (None while it runs), the four answers; `next` is one command."""

    word: str
    exit: int | None
    safe: str
    waiting: str
    nothing: str
    next: str


def of(story: Story, alive: bool | None = None, now: float | None = None) -> Standing:
    """Where the run stands. `alive`: whether a process holds the run; None where nobody has looked. With `now` (UTC, seconds
    since 1970) it is said for how long the steps that run have been waited on."""
    if story.undo_outcome in _CUT_SHORT and not _undo_asked(story):
        return _undoing(story, alive)
    if story.outcome and story.glass and not story.ratified and not _undo_asked(story):
        told = _ended(story)
        word, waiting = f"{told.word} UNRATIFIED", f"a second person, who ratifies what {story.glass['person']} did alone"
        nothing = f"it stays UNRATIFIED, and is told again every day after {words.utc(story.glass['ratify_by'])}"
        if story.outcome in ("failed", "held"):  # a service that is half changed comes first; who has not looked can wait
            return replace(told, word=word, waiting=f"{told.waiting}; and {waiting}", nothing=f"{told.nothing}; {nothing}")
        return replace(told, word=word, waiting=waiting, nothing=nothing, next=f"engine ratify {story.run}")
    if story.outcome:
        return _undo_waiting(story) if _undo_asked(story) else _ended(story)
    if _refused(story) and (alive is False or story.interrupted):
        waiting, again = "somebody to resume it: it then ends as rejected", f"engine resume {story.run}"
        return Standing("REJECTED", 6, stands(story), waiting, "no host is changed: a no is final", again)
    if story.asked and not story.decision and len(story.counted()) < story.needed:
        return _waiting(story, gone=alive is False or story.interrupted)
    if alive is False or story.interrupted:
        return _interrupted(story)
    running = dict.fromkeys(step.key for step in story.steps.values() if step.outcome in ("running", "waiting"))
    going = f"the steps that run now: {words.some(running, 3)}" if running else "its next step"
    longest = waiting_on(story, now) if now is not None else ""
    again = f"engine status {story.run} --follow"
    by_itself = f"it stops at the next safe point, as {story.cancel} has asked" if story.cancel else "it goes on by itself"
    return Standing("RUNNING", None, stands(story), longest.removeprefix("waiting on ") or going, by_itself, again)


def under_way(story: Story, now: float) -> list[tuple[Step, float]]:
    """The steps that go on just now, and for how many seconds, the longest first."""
    going = [step for step in story.steps.values() if step.outcome in ("running", "waiting")]
    return sorted(((step, max(now - (step.started or now), 0.0)) for step in going), key=lambda pair: -pair[1])


def waiting_on(story: Story, now: float, least: float = 0.0, most: int = 2) -> str:
    """Whom the run waits on, the longest first: ``waiting on svc-041 for 40 s, svc-207 for 38 s and 3 more``. Empty when
    nothing has gone on for `least` seconds. A run with one host names its steps."""
    going = [pair for pair in under_way(story, now) if pair[1] >= least]
    if not going:
        return ""
    keys, alone = {step.key for step, _ in going}, len(story.hosts) <= 1

    def named(step: Step) -> str:
        parts = (step.key,) if alone else (step.host,) if len(keys) == 1 else (step.host, step.key)
        return " ".join(part for part in parts if part) or step.key

    told = [f"{named(step)} for {words.seconds(seconds)}" for step, seconds in going]
    first = going[0][0]
    why = f" ({first.why})" if first.outcome == "waiting" and first.why else ""
    where = f", at {first.key}" if len(keys) == 1 and not alone else ""
    return f"waiting on {words.some([told[0] + why, *told[1:]], most)}{where}"


def _waiting(story: Story, gone: bool) -> Standing:
    given, roles = len(story.counted()), story.asked.get("roles") or []
    until = float(story.asked.get("expires") or 0)
    until = min(until, story.deadline or until)
    deadline = f"at {words.utc(until)}" if until else "in the end"
    return Standing(
        f"WAITING for key {given + 1} of {story.needed}",
        5,
        stands(story),
        f"{'another key' if given else 'a key'}, from {' or '.join(roles) or 'the roster'}"
        + (" and then `engine resume`: its process has ended" if gone else ""),
        f"{deadline} the run ends expired (exit 6), and no host is changed",
        f"engine approve {story.run}",
    )


#: How an undo stands that has begun and is not through: the word, and the exit code.
_CUT_SHORT = {"running": ("UNDO INTERRUPTED", 130), "failed": ("UNDO FAILED", 1), "drifted": ("UNDO DRIFTED", 7)}


def _undoing(story: Story, alive: bool | None) -> Standing:
    """A run whose undo has begun and is not through: some of it may be back, whatever it had ended with."""
    again, goes_on = f"engine undo {story.run}", f"engine status {story.run} --follow"
    seen = alive if alive is not None else not (story.outcome or story.interrupted)  # by itself an undo tells of no run
    if story.undo_outcome == "running" and seen:
        return Standing("UNDOING", None, stands(story), "what it puts back now", "it goes on by itself", goes_on)
    word, code = _CUT_SHORT[story.undo_outcome]
    waiting = "a person: see who has changed it since" if code == 7 else "somebody to go on with the undo"
    return Standing(word, code, stands(story), waiting, STAYS, again)


def _undo_asked(story: Story) -> bool:
    """Whether an undo of the run has asked for keys and has not begun; a no among its keys has ended it."""
    refused = any(key.statement.get("decision") == "reject" for key in story.undo_keys)
    return bool(story.undo_asked) and not story.undo_settled and not refused


def _refused(story: Story) -> bool:
    """Whether somebody has said no to the open question."""
    noes = (key for key in story.keys if key.statement.get("decision") == "reject")
    return not story.decision and any(key.at >= story.asked_at for key in noes)


def _undo_waiting(story: Story) -> Standing:
    asked, given = story.undo_asked, sum(not key.refused for key in story.undo_keys)
    needed, roles = int(asked.get("keys") or 0), " or ".join(asked.get("roles") or []) or "the roster"
    until = f"after {words.utc(float(asked.get('expires') or 0))} these keys count no more, and nothing is put back"
    if given >= needed:
        again = f"engine undo {story.run}"
        return Standing("UNDO may begin", 5, stands(story), f"`{again}`: every key is there", until, again)
    waiting = f"{'another key' if given else 'a key'}, from {roles}, before anything is put back"
    word = f"UNDO WAITING for key {given + 1} of {needed}"
    return Standing(word, 5, stands(story), waiting, until, f"engine approve {story.run}")


def _interrupted(story: Story) -> Standing:
    open_ = [f"{step.key} on {step.host}" for step in story.steps.values() if step.open]
    looks = f"; {words.some(open_)} was being changed: resume looks before it acts" if open_ else ""
    going = [f"{step.operation} for {step.key} on {step.host}" for step in story.steps.values() if step.operation]
    looks += f"; its lock was broken by {story.broken}" if story.broken else ""
    return Standing(
        "INTERRUPTED",
        130,
        stands(story) + looks,
        "somebody to resume it",
        f"at the platform goes on: operation {words.some(going)}; nothing waits for it" if going else STAYS,
        f"engine resume {story.run}",
    )


def glass(story: Story) -> str:
    """What one person did alone and whether a second one has looked at it; empty where nobody broke the glass."""
    if not story.glass:
        return ""
    alone, done = f"{story.glass['person']} went alone, as {story.glass['role']}", story.ratified
    if not done:
        return f"{alone}; UNRATIFIED, a second key is due by {words.utc(story.glass['ratify_by'])}"
    late = ", after its time" if done.get("late") else ""
    return f"{alone}; ratified by {done.get('person')} as {done.get('role')} at {words.utc(done['when'])}{late}"


def _ended(story: Story) -> Standing:
    run, culprit = story.run, story.culprit()
    at = f" at {culprit.key}" if culprit else ""
    word, again = story.outcome.upper(), f"engine report {run}"
    safe, waiting, nothing = stands(story), "nothing", "nothing more happens"
    if story.outcome in ("succeeded", "recovered"):
        if story.check:
            word = "CHECKED"
        elif story.outcome == "succeeded" and not story.counts()["changed"]:
            word = "NOTHING TO DO"
        waiting = "a look at what failed: its own remedy worked" if word == "RECOVERED" else waiting
    elif story.outcome == "held":
        word, again = f"HELD{at}", f"engine resume {run}"
        waiting = "a person: measure again, go to another version, or undo"
        nothing = "what was changed keeps serving, unverified"
    elif story.outcome == "undone":
        safe += ". What the alarm was about serves again" if any(step.met for step in _trigger(story)) else ""
        waiting = "a person: the version that was to be replaced is back"
        nothing = "it stays as it was before the run"
    elif story.outcome in ("rejected", "expired"):
        who = words.some(story.decision.get("people") or [])
        word += f" by {who}" if story.outcome == "rejected" and who else ""
        waiting, again = "a new plan with new keys", plan_again(story)
        nothing = "no host is changed"
    elif story.outcome == "not_triggered":
        word, safe = "NOTHING TO DO", "no trigger holds; nothing that serves was changed"
    elif story.outcome in ("failed", "drifted", "cancelled"):
        return _broken_off(story, at)
    return Standing(word, story.exit, safe, waiting, nothing, again)


def _broken_off(story: Story, at: str) -> Standing:
    """A run that failed, was cancelled, or met another state than it expected."""
    run, word, waiting, again = story.run, f"{story.outcome.upper()}{at}", "nothing", f"engine report {story.run}"
    if story.outcome == "failed":
        waiting, again = "a person: resume goes on" + (", undo puts back" if story.changed() else ""), _onward(story)
        if story.cause == "deadline":
            word = "FAILED: deadline passed"
            waiting = "a person: " + ("a new plan with new keys" if story.asked else "more time") + ", or undo"
    elif story.outcome == "drifted":
        waiting, again = "a new plan: the live state is no longer what was approved", plan_again(story)
    else:
        word = "CANCELLED"
        if story.cancel_undo and story.changed():
            waiting, again = "the keys without which nothing is put back: engine undo asks for them", f"engine undo {run}"
    if story.exit == 8:
        word, waiting = "LOCKED", "the other run to end"
    if unsure := _unsettled(story):
        waiting = f"a person who looks whether {unsure.key} on {unsure.host} was done, and says so"
        again = words.resolving(run, unsure.host, unsure.key)
    return Standing(word, story.exit, stands(story), waiting, "it stays as it is now; nothing goes on by itself", again)


def _onward(story: Story) -> str:
    """The command that goes on with a run that failed. One that has ended at its deadline needs more time, or new keys."""
    if story.cause != "deadline":
        return f"engine resume {story.run}"
    return f"engine run {_book(story)} -e to=VERSION" if story.asked else f"engine resume {story.run} --extend 30m"


def _unsettled(story: Story) -> Step | None:
    """The first step that only a person can settle: its own hint names the command. Others a resume looks at again."""
    unsure = (step for step in story.troubles() if step.word == "uncertain")
    return next((step for step in unsure if words.resolving(story.run, step.host, step.key) in step.hint), None)


def _trigger(story: Story) -> list[Step]:
    return [step for step in story.steps.values() if step.section == "trigger"]


def plan_again(story: Story) -> str:
    """The command that makes a new plan for the same playbook and inventory."""
    return f"engine plan {_book(story)}"


def _book(story: Story) -> str:
    """The playbook and its inventories, as they are typed."""
    return " ".join([shlex.quote(story.playbook or "PLAYBOOK"), *(f"-i {shlex.quote(path)}" for path in story.inventories)])


def ways(story: Story) -> str:
    """What a person can do about a run that did not end well, in a sentence with commands."""
    run = story.run
    if story.outcome == "held":
        again = f"`engine run {_book(story)} -e to=VERSION` goes to another version"
        return f"`engine resume {run}` measures again, {again}, `engine undo {run}` puts back what it changed"
    if story.outcome == "undone":
        return f"repair what failed, then `{plan_again(story)}`"
    if story.outcome == "cancelled":
        return f"`engine undo {run}` puts back what it changed, `{plan_again(story)}` starts anew"
    if story.exit == 7:
        return f"see what moved, then `{plan_again(story)}`"
    if not story.changed():
        return f"`{_onward(story)}` goes on from there, `{plan_again(story)}` starts anew"
    return f"`{_onward(story)}` goes on from there, `engine undo {run}` puts back what it changed"


# ------------------------------------------------------------------------------------------------- what has happened
def on_hosts(story: Story, steps: list[Step]) -> str:
    """`` on fraud-eu``, `` on 298 of 300 hosts``; nothing where there is only one host."""
    hosts = [step.host for step in steps if step.host]
    if len(story.hosts) <= 1 or not hosts:
        return ""
    return f" on {words.some(hosts)}" if len(hosts) <= 3 else f" on {len(hosts)} of {len(story.hosts)} hosts"


def stands(story: Story) -> str:
    """Is it safe now: what has been changed and still stands, and what the checks say."""
    if story.check:
        return "only looked: nothing was changed"
    changed, undone = story.changed(), story.hosts_in("undone")
    if not changed:
        return (
            f"put back: {words.plural(len(undone), 'host')} as before the run"
            if undone
            else "nothing that serves was changed"
        )
    text = "changed: " + made(story, changed)
    checks = [step for step in story.steps.values() if step.section == "verification" and step.ended]
    if not checks:
        return f"{text}; not verified yet"
    unmet = [step for step in checks if step.bad]
    if unmet:
        return f"{text}; {len(unmet)} of {words.plural(len(checks), 'check')} not met"
    rest = [row for row in story.rows() if row.section == "verification" and not story.of(row.key)]
    return f"{text}; {words.plural(len(checks), 'check')} met" + (
        f", {len(rest)} to come" if rest and not story.outcome else ""
    )


def made(story: Story, steps: list[Step], most: int = 3) -> str:
    """The changes in words, one part per step: what, from, to, on which hosts."""
    grouped: dict[str, list[Step]] = {}
    for step in steps:
        grouped.setdefault(step.key, []).append(step)
    parts = []
    for key, same in grouped.items():
        facts = {step.fact for step in same}
        what = f"{key} ({facts.pop()})" if len(facts) == 1 else key
        parts.append(what + on_hosts(story, same))
    return words.some(parts, most)


def left_out(story: Story) -> str:
    """What the run did not come to, or did not manage, in the execution section."""
    execution = [row for row in story.rows() if row.section == "execution"]
    bad = [step for step in story.troubles() if step.section == "execution"]
    unmade = [step.key for step in bad if not step.open and step.word != "uncertain"]
    unsure = [step.key for step in story.steps.values() if step.open or step.word == "uncertain"]
    ahead = [row.key for row in execution if all(step.outcome == "next" for step in story.of(row.key))]
    parts = [
        f"not changed as wanted: {words.some(dict.fromkeys(unmade))}" if unmade else "",
        f"uncertain: {words.some(dict.fromkeys(unsure))}" if unsure else "",
        f"not reached: {words.some(ahead)}" if ahead else "",
    ]
    return "; ".join(part for part in parts if part)


def for_people(story: Story) -> list[str]:
    """What is left for a person to look at or decide, most pressing first."""
    found = []
    steps = sorted(story.steps.values(), key=lambda step: step.seq)
    undo = {row.key.partition("[")[0]: row.undo for row in story.planned.values()}
    for step in steps:
        if step.word == "uncertain" or (step.open and story.ended):
            found.append(f"find out whether {step.key} on {step.host} took effect: {step.why or 'its outcome is not known'}")
        if step.operation and (story.ended or story.interrupted):
            found.append(f"look after operation {step.operation} of {step.key} on {step.host}: it may still be under way")
    for step in story.undo_steps:
        if step.outcome in ("drifted", "failed", "none"):
            found.append(f"put back {step.key} on {step.host} by hand: {step.why or 'it has no undo'}")
    for message in story.messages.values():
        if message.sent is None and message.failures:
            found.append(f"say what {message.step} could not ({message.event}): {message.failures[-1][1]}")
    for word, text in (("waived", "was waived: {}"), ("skipped", "was skipped: {}")):
        same: dict[tuple[str, str], list[Step]] = {}
        for step in steps:
            if step.word == word and step.section in ("forensics", "verification"):
                same.setdefault((step.key, step.why), []).append(step)
        found += [
            f"{key}{on_hosts(story, those)} {text.format(why or 'no reason given')}" for (key, why), those in same.items()
        ]
    if story.outcome == "recovered":
        found += [
            f"look at {step.key} on {step.host}, which failed and was remedied: {step.why}" for step in story.troubles()[:5]
        ]
    lasting = {step.key: None for step in story.changed() if undo.get(step.key.partition("[")[0]) is False}
    found += [f"{key} was changed and has no undo" for key in lasting]
    trigger = _trigger(story)
    if trigger and not any(step.met for step in trigger):
        found.append("say why it was started: no trigger held")
    return found


# ------------------------------------------------------------------------------------------------- one line an entry
@dataclass(frozen=True)
class Said:
    """An entry in words: a word for what it is, who did it, one line; `sort` is fact, decision or message."""

    word: str
    actor: str
    text: str
    sort: str = "fact"


def describe(story: Story, entry: Entry) -> Said:
    """One entry in one line. A kind that is not known is shown by its name."""
    body, kind = entry.body, entry.kind
    if kind.startswith("run.") or kind in ("batch.started", "gate.opened"):
        return _of_run(story, kind, entry.step, body)
    if kind == "glass.broken":
        return Said("glass broken", str(body.get("person")), f"everybody is told first; {body.get('why')}", "decision")
    if kind.startswith(("key.", "authority.")):
        return _of_keys(story, entry, body)
    if kind.startswith("message."):
        tail = f": {body.get('why')}" if kind == "message.failed" else ""
        word = "message skipped" if body.get("skipped") else kind.replace(".", " ")
        return Said(word, entry.step or "engine", f"about: {body.get('event', '')}{tail}", "message")
    if kind in ("step.handle", "undo.handle"):
        return Said("under way", str(body.get("module", "")), f"operation {body.get('handle')}")
    if kind.startswith("undo."):
        word = str(body.get("outcome") or kind.partition(".")[2])
        if kind == "undo.ended":
            return Said("undo ended", "engine", word)
        actor = str(body.get("by") or body.get("module") or "engine")
        return Said("undo " + word, actor, str(body.get("why") or words.told(body.get("change"))))
    if kind.startswith("evidence."):
        return _of_evidence(kind, body)
    if kind == "step.intent":
        return Said("intent", str(body.get("module", "")), f"about to change: {words.told(body.get('change'))}")
    if kind == "step.outcome":
        step = Step(entry.host, entry.step, str(body.get("outcome", "")), why=str(body.get("why") or ""))
        step.change, step.reading = body.get("change"), body.get("reading") or {}
        at = f" ({body['at']})" if step.word in BAD and body.get("at") else ""
        return Said(step.said, str(body.get("module", "")), step.fact + at)
    if kind == "candidate.failed":
        return Said("not good", "engine", f"version {body.get('version')} did not pass verification; the next best is tried")
    text = str(body.get("text") or body.get("why") or "")
    if kind == "lock.broken":
        text = f"{entry.host or body.get('lock')} taken from {body.get('of')}: {text}"
    word = {"note": "note", "cancel.asked": "cancel", "lock.broken": "lock broken"}.get(kind, kind)
    return Said(word, str(body.get("by") or "engine"), text, "fact" if word in ("note", kind) else "decision")


def _of_evidence(kind: str, body: Mapping[str, Json]) -> Said:
    if kind == "evidence.sealed":
        altered = (
            f"; NOT AS CAPTURED: {words.some([str(step) for _, step, _ in body['wrong']])}" if body.get("wrong") else ""
        )
        files = words.plural(int(body.get("files") or 0), "file")
        return Said("sealed", "engine", f"{body.get('name')}: {files}, {words.brief(body.get('digest'))}{altered}")
    if kind == "evidence.anchored":
        word = "not anchored" if body.get("why") else "anchored"
        return Said(word, "engine", f"{body.get('bundle')}: {body.get('target')} {body.get('why') or ''}".strip())
    return Said("erased", str(body.get("by") or "engine"), f"{body.get('item')}: {body.get('because')}", "decision")


def _of_run(story: Story, kind: str, step: str, body: Mapping[str, Json]) -> Said:
    if kind == "run.started":
        hosts = words.plural(len(story.hosts), "host")
        check = ", only to look (check)" if story.check else ""
        return Said(
            "started", story.requester, f"asked for {story.name}: {hosts}, plan {story.fingerprint}{check}", "decision"
        )
    if kind == "run.resumed":
        lists = [(name, body.get(name) or []) for name in ("keep", "look", "run")]
        counted = ", ".join(f"{name} {len(found) if isinstance(found, list) else found}" for name, found in lists)
        return Said("resumed", str(body.get("by") or "engine"), counted, "decision")
    if kind == "run.ended":
        return Said(str(body.get("outcome")), "engine", str(body.get("why") or MEANING.get(int(body.get("exit") or 0), "")))
    if kind == "batch.started":
        hosts = words.some(body.get("hosts") or [])
        return Said("batch", "engine", f"batch {body.get('number')}: {hosts}")
    if kind == "gate.opened":
        return Said("gate", "engine", f"{step} may start")
    return Said(kind.partition(".")[2], "engine", str(body.get("why") or ""))


def _of_keys(story: Story, entry: Entry, body: Mapping[str, Json]) -> Said:
    person = str(body.get("person") or "engine")
    if entry.kind == "key.asked":
        until = words.utc(float(body.get("expires") or 0), date=False)
        roles = ", ".join(body.get("roles") or []) or "anybody"
        plan, keys = words.short(str(body.get("digest", ""))), words.plural(int(body.get("keys") or 0), "key")
        act = f" ({(body.get('facts') or {})['act']})" if (body.get("facts") or {}).get("act") else ""
        anew = f"; asked anew, because {body['again']}" if body.get("again") else ""
        return Said("key asked", "engine", f"{keys} from {roles} for plan {plan}{act}, until {until}{anew}", "decision")
    if entry.kind == "key.given":
        ours = story.undo_keys if any(key.seq == entry.seq for key in story.undo_keys) else story.keys
        needed = int(story.undo_asked.get("keys") or 0) if ours is story.undo_keys else story.needed
        mine = next((key for key in ours if key.seq == entry.seq), None)
        said = body.get("statement") or {}
        why = f": {said['reason']}" if said.get("reason") else ""
        if said.get("decision") == "reject":
            return Said("rejected", person, f"as {body.get('role')}{why}", "decision")
        number = sum(1 for key in ours if not key.refused and key.seq <= entry.seq)
        counts = f"not counted: {mine.refused}" if mine and mine.refused else f"key {number} of {needed}"
        return Said("key given", person, f"{counts}, as {body.get('role')}{why}", "decision")
    if entry.kind == "key.ratified":
        why = str((body.get("statement") or {}).get("reason") or "")
        return Said("ratified", person, f"as {body.get('role')}{', late' if body.get('late') else ''}: {why}", "decision")
    if entry.kind == "key.refused":
        return Said("key not counted", person, str(body.get("why") or ""), "decision")
    people = words.some(body.get("people") or [], 5) or "engine"
    return Said(str(body.get("decision") or "settled"), people, str(body.get("why") or ""), "decision")


def order(story: Story) -> list[Planned]:
    """The steps as rows of a screen, with a row for authority where the plan waits for keys."""
    rows = story.rows()
    if not story.asked and not story.decision:
        return rows
    where = next((i for i, row in enumerate(rows) if row.section not in ("trigger", "forensics")), len(rows))
    mode = str(story.asked.get("mode") or story.decision.get("decision") or "")
    return [*rows[:where], Planned("authority", "authority", mode), *rows[where:]]
