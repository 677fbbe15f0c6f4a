"""What regulators ask of a record, answered from it: AI Act article 73, NIST AI RMF MANAGE 2.3, 2.4 and 4.1.

In: a `Story` that kept its entries. Out: rows of who asks, what, the answer, and what the answer is from. What the record
does not say is OPEN, with who should say it; a note that begins with the question's word answers it. It gives no legal
advice: it says what is on record, and does not judge whether a duty applies.

Sources: Regulation (EU) 2024/1689, article 73 (2)-(6); NIST AI 100-1, MANAGE 2.3, 2.4, 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine import standing, words
from engine.story import Story

DAY = 86400.0
AI_ACT, NIST = "AI Act, art. 73", "NIST AI RMF, MANAGE "


@dataclass(frozen=True)
class Duty:
    """One question. `word`: what a note begins with that answers it; `answer`: from the record, empty where it is silent;
    `who`: who should say it then."""

    asked_by: str
    question: str
    word: str
    who: str
    answer: Callable[[Story], str] = lambda _: ""


def rows(story: Story) -> list[tuple[str, str, str, str]]:
    """(asked by, question, answer, from) for every duty."""
    notes = _notes(story)
    found = []
    for duty in DUTIES:
        said, told = notes.get(duty.word, ""), duty.answer(story)
        if said or told:
            source = " and ".join(filter(None, ("the record" if told else "", "a note" if said else "")))
            found.append((duty.asked_by, duty.question, "; ".join(filter(None, (told, said))), source))
        else:
            how = f'engine note {story.run} "{duty.word}: …"'
            found.append((duty.asked_by, duty.question, f"OPEN, to be filled by {duty.who}: {how}", "nothing"))
    return found


def _notes(story: Story) -> dict[str, str]:
    """word -> what the newest note says that begins with it."""
    found = {}
    known = {duty.word for duty in DUTIES}
    for entry in story.entries:
        word, colon, text = str(entry.body.get("text") or "").partition(":") if entry.kind == "note" else ("", "", "")
        if colon and word.strip().lower() in known:
            found[word.strip().lower()] = f"{text.strip()} ({entry.body.get('by')}, {words.utc(entry.at)})"
    return found


def _aware(story: Story) -> float | None:
    """When the engine first read that a trigger holds."""
    met = [step for step in story.steps.values() if step.section == "trigger" and step.met]
    return min((step.started for step in met if step.started is not None), default=None)


def _awareness(story: Story) -> str:
    at = _aware(story)
    if at is not None:
        return f"the trigger was first read to hold at {words.utc(at)}; people may have known earlier"
    return ""


def _due(story: Story) -> str:
    at = _aware(story)
    if at is None:
        return ""
    days = ((2, "widespread, or critical infrastructure"), (10, "a death"), (15, "any other serious incident"))
    return "if it is one: " + ", ".join(f"by {words.utc(at + n * DAY)[:10]} ({what}, {n} days)" for n, what in days)


def _affected(story: Story) -> str:
    chosen = [step.reading for step in story.steps.values() if "_candidates" in step.reading]
    moved = sorted({f"from {one.get('_now')} to {one.get('version')}" for one in chosen})
    return f"{story.name}: {words.some(story.hosts, 5)}" + (f"; {words.some(moved)}" if moved else "")


def _alteration(story: Story) -> str:
    """Article 73 (6): nothing that could affect a later evaluation of the causes may be altered before authorities know."""
    changes = [step for step in story.changed() if step.started is not None]
    if not changes:
        return "nothing was changed"
    first = min(step.started or 0.0 for step in changes)
    seals = [entry for entry in story.entries if entry.kind == "evidence.sealed" and entry.at <= first]
    kept = (
        f"evidence was sealed before, at {words.utc(seals[0].at)} ({seals[0].body['digest']})"
        if seals
        else "NO evidence was sealed before"
    )
    return f"it was changed at {words.utc(first)}: {standing.made(story, changes)}; {kept}"


def _told(story: Story) -> str:
    sent = [message for message in story.messages.values() if message.sent is not None and not message.skipped]
    return ", ".join(f"{message.step} at {words.utc(message.sent or 0)}" for message in sent)


def _corrective(story: Story) -> str:
    changed = story.changed()
    return standing.stands(story) if changed or story.ended is not None else ""


def _procedure(story: Story) -> str:
    ended = f", {story.outcome} after {words.span(story.seconds)}" if story.ended is not None else ", not over yet"
    return f"playbook {story.name} ({story.strategy}), plan {story.digest}{ended}"


def _responsible(story: Story) -> str:
    keys = [f"{key.person} as {key.role}" for key in story.counted()]
    decided = (
        f"decided by {', '.join(keys)}" if keys else str(story.decision.get("why") or "") and "the playbook asks nobody"
    )
    return "; ".join(filter(None, (f"asked for by {story.requester}" if story.requester else "", decided)))


def _monitored(story: Story) -> str:
    watched = [step for step in story.steps.values() if step.section in ("trigger", "verification") and step.ended]
    return words.some([f"{step.key} ({step.said}: {step.fact})" for step in watched], 4)


def _retired(story: Story) -> str:
    marks = [step for step in story.changed() if step.module.endswith((".tag", ".mark"))]
    return standing.made(story, marks) if marks else ""


def _erased(story: Story) -> str:
    gone = [entry for entry in story.entries if entry.kind == "evidence.erased"]
    return "; ".join(f"{one.body['item']} at {words.utc(one.at)} by {one.body['by']}: {one.body['because']}" for one in gone)


DUTIES = (
    Duty(AI_ACT, "When did you become aware?", "aware", "the incident's lead", _awareness),
    Duty(AI_ACT, "When was the causal link established, and what is it?", "cause", "the incident's lead"),
    Duty(AI_ACT, "Is it a serious incident, and of which class?", "severity", "legal counsel"),
    Duty(AI_ACT, "By when would it have to be reported?", "due", "legal counsel", _due),
    Duty(AI_ACT, "Which system and which versions are affected?", "affected", "the model's owner", _affected),
    Duty(
        AI_ACT, "Was the system altered before the authorities knew? (6)", "alteration", "the incident's lead", _alteration
    ),
    Duty(AI_ACT, "Which authority was informed, when; or why not?", "authority", "legal counsel"),
    Duty(AI_ACT, "What corrective action was taken?", "corrective", "the incident's lead", _corrective),
    Duty(
        NIST + "2.3", "Which procedure was followed to respond and recover?", "procedure", "the playbook's owner", _procedure
    ),
    Duty(
        NIST + "2.4",
        "Who is responsible for superseding the system, and did they decide?",
        "responsible",
        "the model's owner",
        _responsible,
    ),
    Duty(NIST + "2.4", "How is the superseded version kept from use?", "retired", "the model's owner", _retired),
    Duty(NIST + "4.1", "What is monitored after deployment?", "monitored", "the model's owner", _monitored),
    Duty(NIST + "4.1", "Who was told?", "told", "the incident's lead", _told),
    Duty(NIST + "4.1", "How can users report and appeal?", "appeal", "the product's owner"),
    Duty(
        "Data protection",
        "Which personal data in the evidence was erased?",
        "erased",
        "the data protection officer",
        _erased,
    ),
)
