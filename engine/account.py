"""The contents of a report, without its form: what each section says, as rows of plain text.

In: a `Story`. Out: the headline facts and a list of `Part`s that HTML, Markdown and JSON show alike. Everything here comes
from the journal, so an account that is made again is the same to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine import diagnostics, duties, picture, standing, words
from engine.journal import Entry
from engine.look import FEW
from engine.story import BAD, Step, Story
from modules.contract import Json

#: Entries that say nothing which another entry does not say: their anchors stand on that one's row.
_FOLDED = ("step.intent", "undo.intent", "message.queued")


_WELL = ("changed", "unchanged")


@dataclass(frozen=True)
class Row:
    """A row of text cells. `seq`: the journal entries it stands for; `more`: (entries, text) that can be unfolded."""

    cells: tuple[str, ...]
    tone: str = ""
    seq: tuple[int, ...] = ()
    more: tuple[tuple[tuple[int, ...], str], ...] = ()


@dataclass(frozen=True)
class Part:
    """A section: a key for its anchor, a title, sentences, and a table, which may be empty."""

    key: str
    title: str
    lead: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


def parts(story: Story) -> list[Part]:
    """Every section of the report, in its order."""
    made = (_timeline, _decision, _choice, _changes, _checks, _messages, _people, _evidence, _duties, _versions)
    return [part for part in (make(story) for make in made) if part.rows or part.lead]


def headline(story: Story) -> str:
    """The outcome in one line: the word, how long, what is different now, what the checks say."""
    took = f" {'in' if story.ended is not None else 'after'} {words.span(story.seconds)}"
    what = list(dict.fromkeys(fact for step in story.changed() if (fact := words.told(step.change))))
    many = f" and {words.plural(len(what) - 1, 'other change')}" if len(what) > 1 else ""
    stand = standing.of(story)
    said = [what[0] + many if what else stand.safe.partition(". ")[0], _verdict(story)]
    return stand.word + took + ": " + ", ".join(part for part in said if part)


def _verdict(story: Story) -> str:
    """How many of the checks that there are were met."""
    checks = [step for step in story.steps.values() if step.section == "verification" and step.ended]
    planned = sum(row.section == "verification" for row in story.rows()) * len(story.hosts)
    met = sum(not step.bad for step in checks)
    return f"{met} of {words.plural(planned, 'check')} met" if planned and story.changed() else ""


def facts(story: Story) -> list[tuple[str, str]]:
    """The five things that are asked first."""
    stand = standing.of(story)
    alarm = [step for step in story.steps.values() if step.section == "trigger" and step.met]
    why = f"{alarm[0].fact}. " if alarm else "It was started though no trigger holds. " if _triggers(story) else ""
    changed = story.changed()
    what = f"Changed: {standing.made(story, changed)}." if changed else f"{stand.safe[0].upper()}{stand.safe[1:]}."
    asked = f"{story.requester} asked for it" if story.requester else "It started by itself"
    left = _left(story)
    over = "Yes." if not stand.exit else f"No: it waits for {stand.waiting}. If nobody does anything: {stand.nothing}."
    people = f" {words.plural(len(left), 'thing')} left for people." if left else ""
    return [
        ("What happened", why + what),
        ("Who was affected", _affected(story)),
        ("How long it took", _durations(story)),
        ("Who decided", f"{asked}. {_deciders(story)} Plan {story.fingerprint}."),
        ("Is it over?", f"{over}{people}" + (f" Next: {stand.next}" if stand.exit else "")),
    ]


def _triggers(story: Story) -> bool:
    return any(step.section == "trigger" for step in story.steps.values())


def _affected(story: Story) -> str:
    hosts = f"{words.plural(len(story.hosts), 'host')}: {words.some(story.hosts, 5)}."
    series = picture.main_series(story)
    alarm = next((limit for limit in series.limits if limit.section == "trigger"), None) if series else None
    if not series or not alarm:
        return hosts
    values = series.points.values()
    worst = min(values) if alarm.side == "below" else max(values)
    return f"{hosts} The metric was at worst {words.brief(worst)} ({alarm.label})."


def _durations(story: Story) -> str:
    begin, said = story.started or 0.0, []
    changes = [step for step in story.changed() if step.started is not None]
    if changes:
        said.append(f"first change after {words.span((changes[0].started or begin) - begin)}")
        said.append(f"last change after {words.span(max((s.started or 0) + s.seconds for s in changes) - begin)}")
    whole = f"{words.span(story.seconds)} from {words.utc(begin)} to {words.utc(story.ended or story.last)}"
    return "; ".join([whole, *said]) + "."


def _deciders(story: Story) -> str:
    keys = [f"{key.person} as {key.role} ({words.utc(key.at, date=False)})" for key in story.counted()]
    decision = str(story.decision.get("decision") or "")
    if keys:
        return f"{'Keys' if len(keys) > 1 else 'Key'} from {', '.join(keys)}{': ' + decision if decision else ''}."
    people = words.some(story.decision.get("people") or [])
    return f"{decision or 'Not decided'}{' by ' + people if people else ''}: {story.decision.get('why') or 'no key yet'}."


# ------------------------------------------------------------------------------------------------- timeline
def _timeline(story: Story) -> Part:
    return Part("timeline", "Timeline", (), ("Time (UTC)", "What", "Where, who", "In words"), tuple(_moments(story)))


def _moments(story: Story) -> list[Row]:
    """A row for each entry. Where hosts are many, those on which a step went well share a row."""
    rows: list[Row | None] = []
    shared: dict[tuple[int, str, str], tuple[int, list[tuple[Entry, tuple[int, ...]]]]] = {}
    before: dict[tuple[str, str, str], list[Entry]] = {}
    batch = 0
    for entry in story.entries:
        message = str(entry.body.get("key", "")) if entry.kind.startswith("message.") else ""
        which = (entry.kind.partition(".")[0], entry.host, entry.step + message)
        if entry.kind in _FOLDED:
            before.setdefault(which, []).append(entry)
            continue
        batch += entry.kind == "batch.started"
        seqs = (*(one.seq for one in before.pop(which, ())), entry.seq)
        word = standing.describe(story, entry).word
        if len(story.hosts) > FEW and entry.host and word not in BAD and not entry.kind.startswith("undo."):
            place, same = shared.setdefault((batch, entry.step or entry.kind, word), (len(rows), []))
            if not same:
                rows.append(None)
            same.append((entry, seqs))
        else:
            rows.append(_moment(story, entry, seqs))
    for (_, step, word), (place, same) in shared.items():
        rows[place] = _together(story, step, word, same)
    # An intent without an outcome is all there is to know, and must not be lost.
    rows += [_moment(story, entry, (entry.seq,)) for entries in before.values() for entry in entries]
    return sorted((row for row in rows if row), key=lambda row: row.cells[0])


def _moment(story: Story, entry: Entry, seqs: tuple[int, ...]) -> Row:
    said = standing.describe(story, entry)
    host = entry.host if len(story.hosts) > 1 else ""
    where = ", ".join(filter(None, (host, entry.step))) or said.actor
    tone = "decision" if said.sort == "decision" else _tone(said.word)
    return Row((words.utc(entry.at), said.word, where, said.text), tone, seqs)


def _together(story: Story, step: str, word: str, same: Sequence[tuple[Entry, tuple[int, ...]]]) -> Row:
    """Many hosts in one row, each of which can be unfolded."""
    first, last = same[0][0], same[-1][0]
    text = f"until {words.utc(last.at, date=False)}: {standing.describe(story, first).text}"
    more = tuple((seqs, f"{words.utc(entry.at, date=False)} {entry.host}") for entry, seqs in same)
    return Row((words.utc(first.at), word, f"{words.plural(len(same), 'host')}, {step}", text), _tone(word), (), more)


def _tone(word: str) -> str:
    if word in BAD or word in ("held", "rejected", "expired", "drifted", "message failed", "undo failed", "undo drifted"):
        return "bad"
    warns = ("undone", "waived", "holds", "recovered", "cancelled", "interrupted", "key not counted", "undo undone")
    return "warn" if word in warns else ""


# ------------------------------------------------------------------------------------------------- decision
def _decision(story: Story) -> Part:
    asked = story.asked
    lead = [f"Plan {story.digest}"]
    if asked:
        roles = ", ".join(asked.get("roles") or []) or "the roster"
        until = words.utc(float(asked.get("expires") or 0))
        lead.append(
            f"Asked for at {words.utc(story.asked_at)}: {words.plural(story.needed, 'key')} from {roles}, until {until}."
        )
        lead.append(f"What the signers were shown: {_pairs(asked.get('facts') or {})}")
    if story.decision:
        why = f" ({story.decision['why']})" if story.decision.get("why") else ""
        lead.append(f"Settled at {words.utc(story.decided_at)}: {story.decision.get('decision')}{why}.")
        if named := story.decision.get("freeze_override"):
            lead.append(f"Freeze windows that the keys override by name: {', '.join(named)}.")
    if told := standing.glass(story):
        lead.append(f"The glass was broken: {told}.")
    rows = []
    for key in story.keys:
        verdict = f"not counted: {key.refused}" if key.refused else "counted"
        if key.statement.get("decision") == "reject":
            verdict = "rejected"
        same = "" if key.statement.get("facts", asked.get("facts")) == asked.get("facts") else "; was shown other facts"
        cells = (
            words.utc(key.at),
            key.person,
            key.role,
            verdict + same,
            str(key.statement.get("reason") or ""),
            key.fingerprint,
        )
        rows.append(Row(cells, "" if verdict == "counted" else "warn", (key.seq,)))
    return Part(
        "decision", "Who decided", tuple(lead), ("Time (UTC)", "Person", "As", "Verdict", "Reason", "SSH key"), tuple(rows)
    )


def _pairs(facts: Mapping[str, Json]) -> str:
    """Facts in words; a fact that has parts says each of them."""
    said = []
    for name, value in facts.items():
        if name == "began" and isinstance(value, int | float):
            value = words.utc(value)
        parts = (
            ", ".join(f"{key} {words.brief(one, 120)}" for key, one in value.items()) if isinstance(value, Mapping) else ""
        )
        said.append(f"{name.replace('_', ' ')}: {parts or words.brief(value, 120)}")
    return "; ".join(said) or "nothing"


def _choice(story: Story) -> Part:
    """Which versions there were, and why this one: from the step that chose."""
    rows: list[Row] = []
    for step in story.steps.values():
        candidates = step.reading.get("_candidates")
        if not isinstance(candidates, list) or (len(story.hosts) > FEW and rows):
            continue
        for one in candidates[:50]:
            chosen = step.reading.get("version") == one.get("version")
            made = str(one.get("created") or "").replace("T", " ").replace("+00:00", "Z")
            rows.append(
                Row((step.host, str(one.get("version")), made, str(one.get("why") or "")), "decision" if chosen else "")
            )
    return Part("choice", "Which version, and why", (), ("Host", "Version", "Made (UTC)", "Verdict"), tuple(rows))


# ------------------------------------------------------------------------------------------------- what changed
def _grouped(steps: Iterable[Step]) -> Iterable[list[Step]]:
    """Steps that say the same, together: what differs is only the host."""
    same: dict[str, list[Step]] = {}
    for step in steps:
        what = [step.key, step.word, step.why, step.undone, step.change]
        same.setdefault(json.dumps(what, sort_keys=True, default=str), []).append(step)
    return same.values()


def _hosts(story: Story, steps: Sequence[Step]) -> tuple[str, tuple[tuple[tuple[int, ...], str], ...]]:
    """The hosts in a cell, and those that had no room there."""
    names = [step.host for step in steps]
    if len(names) <= 4:
        return ", ".join(names), ()
    return f"{len(names)} of {words.plural(len(story.hosts), 'host')}", tuple(((), name) for name in names)


def _changes(story: Story) -> Part:
    order = {row.key: i for i, row in enumerate(story.rows())}
    wanted = [
        s for s in story.steps.values() if s.section == "execution" or (s.section == "forensics" and s.word not in _WELL)
    ]
    rows: list[Row] = []
    for same in _grouped(sorted(wanted, key=lambda step: (order.get(step.key, 0), step.seq))):
        first, (hosts, more) = same[0], _hosts(story, same)
        changes = words.differences(first.change)
        if first.word == "unchanged" and not first.intended:
            continue
        why = "; ".join(filter(None, (first.why, first.at if first.bad else "")))
        outcome = f"{first.word}: {why}" if why and first.word != "changed" else first.word
        for i, (key, old, new) in enumerate(changes or [("", "", "")]):
            values = (key, words.brief(old, 120), words.brief(new, 120)) if key else ("", "", "")
            cells = (first.key, hosts, *values, outcome, _undo(story, first) if key else "")
            rows.append(Row(cells, _tone(first.word), (), more if i == 0 else ()))
    ahead = [row.key for row in story.rows() if row.section == "execution" and not story.of(row.key)]
    lead = [f"Not reached: {', '.join(ahead)}."] if ahead else []
    if story.check:
        lead.insert(0, "This run only looked (check): what is listed would have been changed.")
    columns = ("Step", "Host", "What", "Before", "After", "Outcome", "Undo")
    return Part("changes", "What was changed", tuple(lead), columns, tuple(rows))


def _undo(story: Story, step: Step) -> str:
    """Whether it was put back, or could be."""
    plan = story.planned.get(step.key.partition("[")[0])
    return step.undone or {True: "automatic, not used", False: "NONE", None: ""}[plan.undo if plan else None]


# ------------------------------------------------------------------------------------------------- verification
def _checks(story: Story) -> Part:
    steps = sorted((s for s in story.steps.values() if s.section == "verification"), key=lambda step: step.seq)
    rows = []
    many = len(story.hosts) > FEW
    for row in story.rows():
        mine = [step for step in steps if step.key == row.key]
        if row.section != "verification":
            continue
        if not mine:
            rows.append(Row((row.key, "", "not reached", "", "", "", "")))
        well = [step for step in mine if not step.bad] if many else []
        if well:
            values = sorted(v for step in well if isinstance(v := step.reading.get("_value"), int | float))
            spread = f"{words.brief(values[0])} to {words.brief(values[-1])}" if values else ""
            hosts, more = _hosts(story, well)
            took = words.span(max(step.seconds for step in well))
            rows.append(Row((row.key, hosts, "met", spread, _limit(well[0]), well[0].fact, f"up to {took}"), "", (), more))
        for step in mine:
            if step.bad or not many:
                verdict = {True: "met", False: "NOT MET", None: step.word}[step.met]
                value = words.brief(step.reading["_value"]) if "_value" in step.reading else ""
                took = f"{words.span(step.seconds)}, {words.plural(max(step.attempts, 1), 'attempt')}"
                cells = (step.key, step.host, verdict, value, _limit(step), step.fact, took)
                rows.append(Row(cells, "bad" if step.bad else "", (step.seq,)))
    columns = ("Check", "Host", "Verdict", "Value", "Limit", "In words", "Took")
    return Part("verification", "Was it verified?", (), columns, tuple(rows))


def _limit(step: Step) -> str:
    for side in ("below", "above"):
        if f"_{side}" in step.reading:
            return f"{side} {words.brief(step.reading['_' + side])}"
    return f"at least {words.brief(step.reading['_limit'])}" if "_limit" in step.reading else ""


def _messages(story: Story) -> Part:
    rows = []
    for message in story.messages.values():
        state = "skipped" if message.skipped else f"sent {words.utc(message.sent)}" if message.sent else "NOT DELIVERED"
        why = message.failures[-1][1] if message.failures else ""
        tries = words.plural(len(message.failures), "failed attempt") if message.failures else ""
        cells = (message.step, message.event, words.utc(message.queued), state, "; ".join(filter(None, (tries, why))))
        rows.append(Row(cells, "" if message.sent else "bad"))
    return Part("communications", "Who was told", (), ("Message", "About", "Written", "State", "Remarks"), tuple(rows))


def _left(story: Story) -> list[str]:
    """What people have to do or decide; first of all about what failed."""
    culprit = story.culprit()
    decide = culprit is not None and story.ended is not None and story.exit != 0
    return [*([standing.ways(story)] if decide else []), *standing.for_people(story)]


def _people(story: Story) -> Part:
    rows = tuple(Row((str(i), text), "warn") for i, text in enumerate(_left(story), 1))
    lead = () if rows else ("Nothing.",)
    return Part("people", "What is left for people", lead, ("", "What") if rows else (), rows)


# ------------------------------------------------------------------------------------------------- evidence, versions
_UNTIMED = {"seconds": None, "why": "its capture met no other clock"}


def _evidence(story: Story) -> Part:
    rows = []
    for step in sorted(story.steps.values(), key=lambda step: step.seq):
        if step.section == "forensics":
            for name, size, digest, clock in _files(step.reading):
                shown = name.partition(f"/{story.run}/")[2] or name
                rows.append(Row((shown, step.host, size, digest, step.key, words.offset(clock or _UNTIMED))))
    lead: tuple[str, ...] = ()
    if rows:
        lead = ("sha256sum of a file must print its digest below; the digests are part of the hash-chained journal.",)
        taken = [e.body for e in story.entries if e.kind in ("run.started", "run.resumed", "undo.started")]
        places = dict.fromkeys((body["machine"], body["files"]) for body in taken if "machine" in body)
        kept = [f"{folder}/runs/{story.run} on {machine}" for machine, folder in places]
        lead += (f"The files lie where the run was carried out: {'; '.join(kept)}.",) if kept else ()
    columns = ("File", "Host", "Bytes", "sha256", "Kept by", "Clock")
    return Part("evidence", "Evidence", tuple(lead), columns, tuple(rows))


def _files(value: Json) -> Iterator[tuple[str, str, str, Json]]:
    """(name, bytes, sha256, clock offset) of every file that a reading tells of, however deep."""
    if isinstance(value, list):
        for one in value:
            yield from _files(one)
    if isinstance(value, Mapping):
        plain = {str(key).lstrip("_"): one for key, one in value.items()}
        if isinstance(plain.get("sha256"), str):
            name = str(plain.get("path") or plain.get("name") or "?")
            yield name, str(plain.get("size", "")), plain["sha256"], plain.get("clock_offset")
        for one in value.values():
            if isinstance(one, list | Mapping):
                yield from _files(one)


def _duties(story: Story) -> Part:
    """What regulators ask: answered from the record, or open."""
    rows = tuple(Row(row, "warn" if row[3] == "nothing" else "") for row in duties.rows(story))
    lead = (
        "What the record says of what is asked after an incident; whether a duty applies is for counsel. A note answers too."
    )
    return Part("duties", "For regulators", (lead,), ("Asked by", "Question", "Answer", "From"), rows)


def _versions(story: Story) -> Part:
    head = story.entries[-1] if story.entries else None
    told = [
        ("engine", story.engine),
        ("playbook", story.playbook),
        ("strategy", story.strategy),
        ("plan", story.digest),
        *((f"module {name}", str(digest)) for name, digest in sorted((story.plan.get("modules") or {}).items())),
        ("journal", f"{len(story.entries)} entries of {story.run}, the last one {head.hash}" if head else ""),
    ]
    rows = tuple(Row((name, diagnostics.printable(value, 200))) for name, value in told if value)
    return Part("versions", "Versions of everything", (), ("What", "Version or digest"), rows)
