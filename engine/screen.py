"""What a command prints when it is asked: the recap, the status, the plan, a difference.

In: a `Story`, or a plan's preview. Out: text that answers in one order: is it safe now, what is it waiting for, what if
nobody does anything, what is next. The last line is always the next command.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from engine import look as looks
from engine import standing, words
from engine.look import FEW, PLAIN, WIDE, Style, cut, field, pad
from engine.story import Step, Story
from modules.contract import Change, Json

_COUNTED = ("changed", "unchanged", "skipped", "failed", "unreachable")
_TONES = {0: "good", 4: "bad", 1: "bad", 5: "warn", 6: "bad", 7: "bad", 8: "warn", 130: "warn"}


# ------------------------------------------------------------------------------------------------- recap
def recap(story: Story, look: Style = PLAIN, report: str = "") -> str:
    """The end of a run. A failure says what failed, where it stands, what was tried, what to do. `report`: its path."""
    stand = standing.of(story)
    tone = "warn" if stand.word in ("RECOVERED", "UNDONE", "CANCELLED") else _TONES.get(stand.exit or 0, "bad")
    means = "cancelled; the run is over" if story.outcome == "cancelled" else standing.MEANING.get(stand.exit or 0, "")
    meaning = f"exit {stand.exit}: {means}" if stand.exit is not None else ""
    head = [(f"RECAP {story.run}", ""), (stand.word, tone), (f"in {words.span(story.seconds)}", ""), (meaning, "quiet")]
    lines = [*_packed(head, look), *_counts(story, look)]
    culprit = story.culprit()
    if culprit and stand.exit not in (0, 5, 6):
        lines += _failure(story, culprit, look)
    else:
        if story.why:
            lines += field("why", story.why, look)
        lines += field("stands", stand.safe, look)
        if story.ended is not None and stand.exit == 5:
            lines += [*field("waits for", stand.waiting, look), *field("nothing", stand.nothing, look)]
        lines += [line for step in _checks(story) for line in field("check", step, look)]
    lines += _people(story, look)
    if told := standing.glass(story):
        lines += field("glass", told, look, "" if story.ratified else "bad")
    for i, text in enumerate(standing.for_people(story)[:5], 1):
        lines += field("for you" if i == 1 else "", f"{i} {text}", look, "warn")
    if report:
        lines += field("report", report, look)
    return "\n".join([*lines, look.paint(f"next: {stand.next}", "bold")]) + "\n"


def _packed(pieces: Sequence[tuple[str, str]], look: Style) -> list[str]:
    """Pieces of text with their tones side by side, as many on a line as there is room for."""
    lines, used = [""], 0
    for text, tone in pieces:
        if used and used + 3 + looks.cells(text) > look.width:
            lines, used = [*lines, ""], 0
        for i, part in enumerate(textwrap.wrap(text, look.width - 1, break_on_hyphens=False)):
            lines, used = ([*lines, ""], 0) if i else (lines, used)
            gap = "   " if used else " " if len(lines) > 1 else ""
            lines[-1] += gap + look.paint(part, tone)
            used += len(gap) + looks.cells(part)
    return lines


def _counts(story: Story, look: Style) -> list[str]:
    counts = story.counts()
    names = [*_COUNTED, *(word for word in counts if word not in _COUNTED)]
    # A check that measures until it is satisfied has not retried.
    retries = sum(step.attempts - 1 for step in story.steps.values() if step.attempts > 1 and step.met is None)
    tail = f"({words.plural(retries, 'retry').replace('retrys', 'retries')})" if retries else ""
    lines = field("steps", "  ".join([*(f"{word} {counts[word]}" for word in names), tail]).rstrip(), look)
    if len(story.hosts) <= 1:
        return lines
    if len(story.hosts) <= FEW:
        widest = max(map(len, story.hosts))
        for host in story.hosts:
            mine = story.counts(host)
            told = "  ".join(f"{word} {mine[word]}" for word in names if mine[word]) or "not reached"
            lines.append(cut(f"   {pad(host, widest)}  {told}", look.width))
        return lines
    by_host: dict[str, Counter[str]] = {host: Counter() for host in story.hosts}
    for step in story.steps.values():
        by_host.setdefault(step.host, Counter())[step.word] += step.ended
    worst = {host: _host_word(by_host[host]) for host in story.hosts}
    return lines + field("hosts", _many(worst), look)


def _host_word(counts: Mapping[str, int]) -> str:
    order = ("failed", "timed_out", "unreachable", "uncertain", "undone", "changed", "unchanged", "waived", "skipped")
    return next((word for word in order if counts.get(word)), "not reached")


def _many(worst: Mapping[str, str]) -> str:
    parts = []
    for word, count in Counter(worst.values()).most_common():
        named = words.some([host for host, its in worst.items() if its == word], 5)
        parts.append(f"{count} {word}" + (f" ({named})" if word not in ("changed", "unchanged", "skipped") else ""))
    return f"{len(worst)}: " + ", ".join(parts)


def _checks(story: Story) -> list[str]:
    """What each verification step said; over many hosts, how many met it."""
    found = []
    for row in story.rows():
        steps = [step for step in story.of(row.key) if step.ended] if row.section == "verification" else []
        if len(steps) == 1:
            found.append(f"{row.key} {steps[0].said}: {steps[0].fact}")
        elif steps:
            met = sum(not step.bad for step in steps)
            found.append(f"{row.key} met on {met} of {words.plural(len(steps), 'host')}")
    return found


def _failure(story: Story, step: Step, look: Style) -> list[str]:
    """Four answers: what failed and where it is written, what was and was not changed, what was tried, what to do."""
    same = [other.host for other in story.troubles() if other.key == step.key and other.host]
    where = f"{step.key} on {words.some(same)}" if same else step.key
    place = f" at {step.at}" if step.at else ""
    others = [other.key for other in story.troubles() if other.key != step.key]
    more = f". Also {words.some(dict.fromkeys(others))}" if others else ""
    put_back = Counter(done.outcome for done in story.undo_steps)
    undo = (
        "undo: " + ", ".join(f"{count} {word}" for word, count in put_back.items()) if put_back else "nothing was put back"
    )
    left = standing.left_out(story) if story.outcome != "undone" else ""
    todo = [step.hint, standing.ways(story)] if step.hint else [standing.ways(story)]
    return [
        *field("failed", f"{where}{place}: {step.fact or step.word}{more}", look, "bad"),
        *field("stands", standing.of(story).safe + (f"; {left}" if left else ""), look),
        *field("tried", f"{words.plural(max(step.attempts, 1), 'attempt')} in {words.span(step.seconds)}; {undo}", look),
        *field("do", " ".join(one if one[-1] in ".?!" else one + "." for one in todo), look),
    ]


def _people(story: Story, look: Style) -> list[str]:
    lines = []
    if keys := story.counted():
        given = ", ".join(f"{key.person} as {key.role} {words.utc(key.at, date=False)}" for key in keys)
        lines += field("keys", f"{given}; plan {story.fingerprint}", look)
    if story.messages:
        sent = sum(message.sent is not None and not message.skipped for message in story.messages.values())
        lost = sum(message.sent is None for message in story.messages.values())
        lines += field("messages", f"{sent} sent, {lost} not delivered", look)
    return lines


# ------------------------------------------------------------------------------------------------- status
def status(story: Story, now: float, look: Style = PLAIN, alive: bool | None = None, report: str = "") -> str:
    """Where a run stands. `now`: UTC, seconds since 1970; `alive`: does a process hold the run? None: nobody looked."""
    stand = standing.of(story, alive, now)
    steps = [line for row in looks.steps(story, now, look, alive is not False) for line in row]
    head = look.paint(cut(f"{story.run}  {story.name}", look.width), "bold")
    if story.ended is not None:
        return "\n".join([head, *steps, ""]) + recap(story, look, report)
    begun = words.span(now - (story.started or now))
    until = float(story.asked.get("expires") or 0)
    left = f", expires in {words.span(until - now)}" if stand.exit == 5 and until > now else ""
    state = [(f" {stand.word}", _TONES.get(stand.exit or 0, "bold")), (f"{begun} so far{left}", "quiet")]
    lines = [head, *_packed(state, look), *(field("budget", story.budget, look) if story.budget else [])]
    if story.deadline is not None:
        left_over = words.span(max(story.deadline - now, 0.0))
        lines += field("deadline", f"{words.utc(story.deadline)}, in {left_over}: then the run ends failed", look)
    lines += field("safe?", stand.safe, look)
    if told := standing.glass(story):
        lines += field("glass", told, look, "" if story.ratified else "bad")
    if stand.exit == 5:
        lines += _slots(story, look)
    lines += [*field("waits for", stand.waiting, look), *field("nothing", stand.nothing, look)]
    if stand.exit == 5:
        lines += field("ways", f"engine approve {story.run} | engine reject {story.run} | engine cancel {story.run}", look)
    return "\n".join([*lines, *steps, *looks.metrics(story, look), look.paint(f"next: {stand.next}", "bold")]) + "\n"


def _slots(story: Story, look: Style) -> list[str]:
    """One line for each key that is asked for, and why others do not count."""
    lines, roles = [], " or ".join(story.asked.get("roles") or []) or "the roster"
    for number in range(1, story.needed + 1):
        given = story.counted()[number - 1 : number]
        word, who = "waiting", f"for {'another of ' if number > 1 else ''}{roles}"
        if given:
            word, who = "key given", f"{given[0].person} as {given[0].role}, {words.utc(given[0].at)}"
        lines.append(f" {look.paint(f'key {number}', 'bold')}     {look.sign(word)} {cut(who, look.width - 14 - len(word))}")
    refused = [f"{key.person}: {key.refused}" for key in story.keys if key.refused]
    return lines + [line for text in refused for line in field("no key", f"not counted, {text}", look)]


# ------------------------------------------------------------------------------------------------- plan
_SIGNS = "+ record  ~ change  ! change without undo  = check or nothing to do  > message  ? person"


def plan_text(preview: Mapping[str, Json], full: bool = False, look: Style = PLAIN, next: str = "") -> str:
    """A plan for people: why, now against back to, each step with its undo and its grade. `next`: the command to show."""
    hosts = list(preview.get("hosts") or [])
    head = f"PLAN {words.short(str(preview.get('digest', '')))}  {preview.get('name', '')}"
    lines = [look.paint(cut(head, look.width), "bold")]
    lines += field("hosts", ", ".join(hosts) if full else words.some(hosts, 5), look)
    if preview.get("budget"):
        lines += field("budget", str(preview["budget"]), look)
    if preview.get("deadline"):
        after = f"{words.span(float(preview['deadline']))} after its start, waiting for keys and pauses included"
        lines += field("deadline", f"{after}: then nothing new begins, clean-up runs, and the run ends failed", look)
    for i, said in enumerate(_alarms(preview.get("trigger") or [])):
        lines += field("" if i else "trigger", said, look)
    lines += _sides(preview.get("now") or {}, preview.get("back_to") or {}, look)
    lines += ["", *_plan_rows(preview, full, look)]
    lines += [look.paint(" " + line, "quiet") for line in textwrap.wrap(_SIGNS, look.width - 1)] + _totals(preview, look)
    return "\n".join([*lines, *([look.paint(f"next: {next}", "bold")] if next else [])]) + "\n"


def _alarms(rows: Sequence[Mapping[str, Json]]) -> list[str]:
    """What each trigger says, once, and on how many hosts."""
    same: dict[tuple[str, bool], list[Mapping[str, Json]]] = {}
    for row in rows:
        same.setdefault((str(row.get("id")), bool(row.get("met"))), []).append(row)
    told = []
    for (name, met), found in same.items():
        more = f" (and {words.plural(len(found) - 1, 'more host')})" if found[1:] else ""
        told.append(f"{'holds' if met else 'does not hold'}: {name}: {found[0].get('why', '')}{more}")
    return told


def _sides(now: Mapping[str, Json], back: Mapping[str, Json], look: Style) -> list[str]:
    """Now against back to, a row for each fact; why it is that one stands below."""
    names = [name for name in dict.fromkeys((*now, *back)) if name not in ("now", "why")]
    if not names:
        return []
    half = min(max((look.width - 12) // 2 - 1, 10), 44)
    lines = [f" {'':10}{look.paint(pad('NOW', half), 'bold')} {look.paint('BACK TO', 'bold')}"]
    for name in names:
        left, right = (cut(words.brief(side[name], 200) if name in side else "", half) for side in (now, back))
        lines.append(f" {pad(cut(name, 9), 9)} {pad(left, half)} {right}".rstrip())
    return lines + (field("chosen", str(back["why"]), look) if back.get("why") else [])


def _mark(step: Mapping[str, Json]) -> str:
    """The sign of a step: what kind of thing it does."""
    section, change = step.get("section"), step.get("change")
    if section == "communications":
        return ">"
    if section == "verification" or step.get("grade") == "read-only" or step.get("acts") is False:
        return "="
    if not change and step.get("grade") == "exact":
        return "="
    if section == "forensics":
        return "+"
    return "!" if step.get("undo") == "NONE" else "~"


def _plan_rows(preview: Mapping[str, Json], full: bool, look: Style) -> list[str]:
    """The steps, authority before execution. Where names are long, the section stands above its steps, to leave room."""
    steps = [step for step in preview.get("steps") or [] if step["section"] != "trigger"]
    ids = [str(step["id"]).rpartition("/")[2] for step in steps]
    keys = [f"{step['section']}/{name}" for name, step in zip(ids, steps, strict=True)]
    grouped, wide = looks.crowded(keys, look), look.width >= WIDE
    names = ids if grouped else keys
    widest = min(max(map(len, names), default=10), max(look.width // 3, 20))
    undo_wide = 10 if look.width >= 100 else 5
    room = look.width - 8 - widest - 1 - undo_wide - 17
    lines = [look.paint(f"{'':{9 + widest + room}}{'undo':{undo_wide}} preview", "quiet")] if wide else []
    authority, section = preview.get("authority") or {}, ""
    for number, (name, step) in enumerate(zip(names, steps, strict=True), 1):
        if authority and step["section"] not in ("forensics", "authority"):
            lines, authority = [*lines, _asks(authority, widest, look)], {}
        if grouped and step["section"] != section:
            section = step["section"]
            lines.append(" " + look.paint(section, "bold"))
        lines += _plan_row(number, name, step, look, (widest, room, undo_wide))
        lines += _in_full(step, look) if full else []
    return [*lines, _asks(authority, widest, look)] if authority else lines


def _plan_row(number: int, name: str, step: Mapping[str, Json], look: Style, widths: tuple[int, int, int]) -> list[str]:
    widest, room, undo_wide = widths
    grade, what, sign = str(step.get("grade") or ""), _what(step), _mark(step)
    # Evidence is never unmade, whatever its module could do.
    undo = "-" if step["section"] == "forensics" else str(step.get("undo") or "-")
    tone = {"!": "bad", "~": "bold"}.get(sign, "")
    head = f" {sign} {number:>2}  {pad(cut(name, widest), widest)}"
    if look.width >= WIDE:
        undo = "auto" if undo == "automatic" and undo_wide < 10 else undo
        return [look.paint(f"{head} {pad(cut(what, room), room)} {undo:<{undo_wide}} {grade}".rstrip(), tone)]
    below = f"undo {undo}, {grade}" + (f": {what}" if what else "")
    return [
        look.paint(cut(head.rstrip(), look.width), tone),
        *textwrap.wrap(below, look.width, initial_indent=" " * 7, subsequent_indent=" " * 7),
    ]


def _what(step: Mapping[str, Json]) -> str:
    rows = step.get("change") or []
    made = all(before is None for _, before, _ in rows)
    change = {"before": None if made else {key: old for key, old, _ in rows}, "after": {key: new for key, _, new in rows}}
    on = f" on {step['hosts']} hosts" if int(step.get("hosts") or 1) > 1 else ""
    return words.told(change, 2) + on if rows else str(step.get("why") or step.get("name") or "")


def _in_full(step: Mapping[str, Json], look: Style) -> list[str]:
    lines = [f"         {cut(str(step.get('name') or ''), look.width - 30)}  ({step.get('module')})"]
    for key, before, after in step.get("change") or []:
        lines.append("         " + cut(f"{key}: {words.brief(before, 300)} → {words.brief(after, 300)}", look.width - 9))
    if step.get("why"):
        lines.append("         " + cut(str(step["why"]), look.width - 9))
    return lines


def _asks(authority: Mapping[str, Json], widest: int, look: Style) -> str:
    mode, keys, expires = str(authority.get("mode", "")), int(authority.get("keys") or 0), authority.get("expires")
    until = words.span(float(expires)) if isinstance(expires, int | float) else str(expires or "")
    roles = " + ".join(authority.get("roles") or []) or "the roster"
    asks = (
        f"{words.plural(keys, 'key')} from {roles}" + (f", within {until}" if until else "")
        if keys
        else "no key is asked for"
    )
    name = f"authority {mode}"
    return cut(
        f" ?     {pad(name, widest) if look.width >= WIDE and len(name) <= widest else name + ':'} {asks}", look.width
    )


def _totals(preview: Mapping[str, Json], look: Style) -> list[str]:
    steps = [step for step in preview.get("steps") or [] if step["section"] != "trigger"]
    marks = Counter(map(_mark, steps))
    unsure = sum(step.get("grade") == "NOT PREVIEWABLE" for step in steps)
    changes = marks["~"] + marks["!"]
    without = f" ({marks['!']} without undo)" if marks["!"] else ""
    parts = [
        words.plural(marks["+"], "record"),
        words.plural(changes, "change") + without,
        words.plural(marks["="], "check"),
        words.plural(marks[">"], "message"),
        words.plural(int((preview.get("authority") or {}).get("keys") or 0), "key"),
    ]
    grades = Counter(str(step.get("grade") or "") for step in steps)
    told = ", ".join(f"{count} {grade}" for grade, count in grades.items() if grade)
    lines = field("in all", ", ".join(parts), look)
    lines += field("preview", told, look, "bad" if unsure else "")
    return lines + field("so far", "Nothing has been changed yet.", look)


def diff_text(change: Change | Mapping[str, Json] | None, look: Style = PLAIN) -> str:
    """A change as lines: ``-`` what is, ``+`` what will be; a thing that is absent as a whole has no line."""
    if change is None:
        return ""
    both = change if isinstance(change, Change) else Change.of(change)
    lines: list[str] = []
    for key, before, after in both:
        sides: Iterable[tuple[str, Json, Sequence[str]]] = (("-", before, ("bad",)), ("+", after, ("good",)))
        lines += [
            look.paint(cut(f"{sign} {key}: {words.brief(value, 400)}", 500), *tone)
            for sign, value, tone in sides
            if value is not None
        ]
    return "\n".join(lines) + "\n" if lines else ""
