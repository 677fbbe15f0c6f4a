"""What a careful colleague would ask of a playbook that is valid: one function a rule, and the table of them.

In: a `Case`. Out: findings with their places. A rule says what is wrong and what to do about it; how grave that is, and from
which profile on, is said by the table at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from engine import template, words
from engine.check import Catalog
from engine.diagnostics import Place
from engine.plan import Plan
from engine.playbook import Playbook, Step
from modules.contract import Json, fraction

#: Each asks for all that the one before it asks for.
PROFILES = ("draft", "team", "production", "regulated")
#: Modules that look, but not at what the model answers: alone they prove nothing.
_NO_JUDGES = frozenset({"wait", "benchmark.latency"})
#: Above this (seconds) a question for keys is open for longer than the facts that it shows stay true.
_LONG = 3600.0


@dataclass(frozen=True)
class Case:
    """What the rules look at: a plan made without hosts, and the catalog."""

    plan: Plan
    catalog: Catalog

    @property
    def book(self) -> Playbook:
        """The playbook."""
        return self.plan.playbook

    def steps(self, section: str) -> tuple[Step, ...]:
        """The steps of a section."""
        return self.book.section(section)

    def at(self, *keys: str, key: bool = True) -> Place:
        """The place of a key of the playbook, or of its value."""
        return self.book.document.place(keys, key)

    def formats(self, step: Step, form: str) -> list[str]:
        """The parameters of the step that have this format in the module's schema."""
        properties: Mapping[str, Json] = self.catalog.get(step.module).schema.get("properties", {})
        return [name for name in _params(step) if properties.get(name, {}).get("format") == form]


@dataclass(frozen=True)
class Finding:
    """One thing to say. `step`: whose first line a comment may excuse it from."""

    summary: str
    place: Place
    hint: str
    step: Step | None = None


Findings = Iterator[Finding]


def _params(step: Step) -> Mapping[str, Json]:
    return step.params if isinstance(step.params, Mapping) else {}


def _written(step: Step) -> set[str]:
    """The keywords and the module as they stand in the text, without what a block around the step adds."""
    return set(step.document.keys(step.keys))


def _given(step: Step, name: str) -> Json:
    """A parameter that is written out; None where it is missing or a template."""
    value = _params(step).get(name)
    return None if isinstance(value, str) and template.templated(value) else value


def _constant(text: str) -> bool:
    """Whether a bare expression mentions nothing, so that it always says the same."""
    return not template.expression(text).names


# ------------------------------------------------------------------------------------------------- the playbook
def owner(case: Case) -> Findings:
    """LG301: somebody answers for the playbook."""
    if not case.book.owner.strip():
        yield Finding("nobody answers for this playbook", case.at("name"), "add `owner:` with the team's name")


def description(case: Case) -> Findings:
    """LG302: the playbook says what it is for."""
    if not str(case.book.document.data.get("description") or "").strip():
        yield Finding("the playbook does not say when it is to be used", case.at("name"), "add a `description:`")


_MISSING = {
    "LG303": ("trigger", "nothing says what calls for this rollback", "add a `trigger:` with a metric that shows it"),
    "LG304": ("forensics", "nothing is kept before it is changed", "add a `forensics:` section: afterwards it is gone"),
    "LG305": ("authority", "nobody has to say yes", "add `authority: {mode: two-key, roles: […]}`"),
    "LG306": ("verification", "nothing is verified afterwards", "add a `verification:` section that asks the model itself"),
    "LG307": ("communications", "nobody is told", "add a `communications:` section with a `notify` step"),
}  # fmt: skip


def _missing(code: str) -> Callable[[Case], Findings]:
    section, summary, hint = _MISSING[code]

    def look(case: Case) -> Findings:
        if not (case.book.has(section) if section == "authority" else case.steps(section)):
            yield Finding(summary, case.at("name"), hint)

    return look


def everything(case: Case) -> Findings:
    """LG361: a pattern that names the services it is meant for."""
    if case.book.hosts.strip() in ("all", "*"):
        place = case.at("hosts", key=False)
        yield Finding("this playbook reaches every model service there is", place, "name the group that it is meant for")


def budget(case: Case) -> Findings:
    """LG362: a number of failed hosts at which the run stops."""
    most = case.book.max_failed
    if isinstance(most, float) and most >= 1.0:
        place = case.at("max_failed", key=False)
        yield Finding("however many hosts fail, the run goes on to the next", place, "allow fewer: `max_failed: 0` or `10%`")


def outside(case: Case) -> Findings:
    """LG360: modules that are not Lastgood's own are code that somebody has to have read."""
    seen = set()
    for step in case.book.steps:
        entry = case.catalog.get(step.module)
        if entry.origin != "lastgood" and step.module not in seen:
            seen.add(step.module)
            summary = f"the module `{step.module}` comes from outside: {entry.origin}"
            hint = f"read it (sha256 {entry.digest[:16]}…) and excuse it here; a changed file changes the plan's digest"
            yield Finding(summary, step.place(step.module, key=True), hint, step)


# ------------------------------------------------------------------------------------------------- who, when, evidence
def automatic(case: Case) -> Findings:
    """LG310: a person says yes."""
    if case.book.has("authority") and case.book.authority.mode == "automatic":
        place = case.at("authority", "mode", key=False)
        yield Finding("nobody has to say yes", place, "let a person decide: `one-click`, or `two-key` with two roles")


def one_click(case: Case) -> Findings:
    """LG311: two people say yes."""
    if case.book.authority.mode == "one-click":
        place = case.at("authority", "mode", key=False)
        yield Finding(
            "one person alone can start this", place, "`two-key` asks two different people, and never the requester"
        )


def open_long(case: Case) -> Findings:
    """LG312: a question that lapses within an hour."""
    if case.book.authority.mode != "automatic" and case.book.authority.expires > _LONG:
        summary = f"the question for keys stays open for {words.span(case.book.authority.expires)}"
        hint = "let it lapse within an hour; facts are older than that by then"
        yield Finding(summary, case.at("authority", "expires", key=False), hint)


def on_missing(case: Case) -> Findings:
    """LG315: a trigger says what a metric that is absent means."""
    for step in case.steps("trigger"):
        if step.module == "prometheus.metric" and "on_missing" not in _params(step):
            summary = "what it means when this metric is not there is not said"
            hint = "`on_missing: hold` (no alarm) or `on_missing: breach` (alarm)"
            yield Finding(summary, step.place(step.module, key=True), hint, step)


def cooldown(case: Case) -> Findings:
    """LG316: one alarm does not start run after run."""
    if case.steps("trigger") and not case.book.cooldown:
        yield Finding("an alarm that stays on starts run after run", case.at("trigger"), "add `cooldown:`, for example 30m")


def optional_evidence(case: Case) -> Findings:
    """LG318: execution waits for all the evidence."""
    for step in case.steps("forensics"):
        if step.on_failure == "continue" or step.when:
            keyword = "on_failure" if step.on_failure == "continue" else "when"
            summary = "execution may start without this evidence"
            yield Finding(summary, step.place(keyword), f"remove `{keyword}`: a failed step can be waived on record", step)


# ------------------------------------------------------------------------------------------------- verification
def always_met(case: Case) -> Findings:
    """LG320: a check that can fail."""
    for step in case.steps("verification"):
        expect, floor = _given(step, "expect"), _given(step, "at_least")
        if step.on_failure == "continue":
            yield Finding("this check counts for nothing: a failure goes on", step.place("on_failure"), "remove it", step)
        if isinstance(floor, str | int | float) and fraction(floor) <= 0:
            place = step.place(step.module, "at_least")
            yield Finding("this check is met by every model", place, "set a floor that the bad version would miss", step)
        if isinstance(expect, str) and "expect" in case.formats(step, "expression") and _constant(expect):
            place, hint = (
                step.place(step.module, "expect"),
                "compare `reply` with something, like reply.label == request.truth",
            )
            yield Finding("what is expected does not depend on the answer", place, hint, step)


def independent(case: Case) -> Findings:
    """LG321: a check of what the model answers, or of a metric that follows from it."""
    steps = case.steps("verification")
    if steps and all(step.module in _NO_JUDGES for step in steps):
        summary = "verification never looks at what the model answers"
        hint = "add golden.predictions, replay.requests, or a prometheus.metric of its quality"
        yield Finding(summary, case.at("verification"), hint)


def one_sample(case: Case) -> Findings:
    """LG322: a metric that has held for a while."""
    for step in case.steps("verification"):
        if step.module == "prometheus.metric" and "for" not in _params(step):
            hint = "add `for:`; right after a change a single sample proves little"
            yield Finding("one sample decides this check", step.place(step.module, key=True), hint, step)


# ------------------------------------------------------------------------------------------------- execution
def _no_undo(case: Case) -> list[Step]:
    return [step for step in case.steps("execution") if case.plan.undo.get(step.id) is False]


def lost(case: Case) -> Findings:
    """LG330: what cannot be put back stops the run when it fails."""
    for step in _no_undo(case):
        if step.on_failure != "stop":
            summary = "this step has no undo, and its failure does not stop the run"
            yield Finding(
                summary, step.place("on_failure"), "let it stop (`on_failure: stop`), so that a person looks", step
            )


def half_undo(case: Case) -> Findings:
    """LG331: an undo that is promised can be done."""
    promised = case.book.on_unverified == "undo" or any(step.on_failure == "undo" for step in case.steps("execution"))
    for step in _no_undo(case) if promised else []:
        hint = "give it an undo, or let a failure stop or hold the run instead"
        place = step.place(step.module, key=True)
        yield Finding("a failure is to be undone, and this step cannot be", place, hint, step)


def irreversible(case: Case) -> Findings:
    """LG332: every change can be put back."""
    for step in _no_undo(case):
        hint = "choose parameters that can be undone, or excuse it with the reason"
        yield Finding("this step has no undo", step.place(step.module, key=True), hint, step)


def unreadable(case: Case) -> Findings:
    """LG333: a change that can be read back, so that a crash leaves no doubt."""
    for step in case.steps("execution"):
        entry = case.catalog.get(step.module)
        if entry.acts and entry.crash_class(_params(step)) == "D":
            summary = "if the engine is killed here, nobody can tell whether this was done"
            hint = "use `creates` or `unless`" if step.module == "command" else "use a module that can read what it did"
            yield Finding(summary, step.place(step.module, key=True), hint, step)


def own_timeout(case: Case) -> Findings:
    """LG334: a step that calls somebody says how long that may take."""
    for step in case.steps("execution"):
        if case.formats(step, "url") and "timeout" not in _written(step):
            hint = f"add `timeout:`; without one it is {words.span(step.timeout)}"
            yield Finding("how long this may take is not said", step.place(step.module, key=True), hint, step)


def constant(case: Case) -> Findings:
    """LG335: a condition that can be otherwise."""
    for step in case.book.steps:
        for keyword, texts in (("when", step.when[-1:]), ("until", (step.until,) if step.until else ())):
            if keyword in _written(step) and any(_constant(text) for text in texts):
                summary = f"`{keyword}` says the same every time"
                yield Finding(summary, step.place(keyword), f"remove `{keyword}`, or compare something that changes", step)


# ------------------------------------------------------------------------------------------------- versions
def any_version(case: Case) -> Findings:
    """LG340: a version that may be gone back to has shown that it is good."""
    for step in case.steps("execution"):
        params = _params(step)
        if step.module != "last_good" or "to" in params:
            continue
        where = params.get("where")
        if (where is None and not params.get("floor")) or (isinstance(where, str) and _constant(where)):
            hint = "add a condition, for example where: candidate.tags.validation == 'passed'"
            yield Finding("any earlier version is good enough", step.place(step.module, key=True), hint, step)


def fixed_version(case: Case) -> Findings:
    """LG341: the version is chosen when it is needed, not when the playbook is written."""
    for step in case.steps("execution"):
        for name in (name for name in case.formats(step, "version") if name != "floor"):
            if (step.module, name) != ("last_good", "to") and _given(step, name) is not None:
                hint = 'take it from a last_good step: version: "{{ target.version }}"'
                yield Finding("this version is the same in every incident", step.place(step.module, name), hint, step)


def taken_choice(case: Case) -> Findings:
    """LG342: who runs the playbook may name the version, the playbook does not."""
    for step in case.steps("execution"):
        if step.module == "last_good" and _params(step).get("to") is not None:
            place, hint = step.place(step.module, "to"), "leave it out; -e to=VERSION names one where it is needed"
            yield Finding("`to` in the playbook takes the choice away from last_good", place, hint, step)


# ------------------------------------------------------------------------------------------------- communications
def failure_untold(case: Case) -> Findings:
    """LG350: people hear of a rollback that did not work."""
    told = {event for step in case.steps("communications") for event in step.on}
    missing = [event for event in ("failed", "held") if event not in told]
    if case.steps("communications") and missing and "ended" not in told:
        summary = f"nobody is told when a run ends {' or '.join(missing)}"
        yield Finding(summary, case.at("communications"), f"add `on: [{', '.join(missing)}, …]` to one of the steps")


def waiting_untold(case: Case) -> Findings:
    """LG351: people hear that their key is needed."""
    told = {event for step in case.steps("communications") for event in step.on}
    if case.steps("communications") and case.book.authority.mode != "automatic" and "waiting" not in told:
        summary = "nobody is told when the run waits for a key"
        yield Finding(summary, case.at("communications"), "add `waiting` to the `on:` of a message to those who have one")


def somewhere(case: Case) -> Findings:
    """LG352: where a message goes can be checked before anything happens."""
    for step in case.steps("communications"):
        to = _params(step).get("to")
        if isinstance(to, str) and template.templated(to):
            hint = "write the destination's name; its address is in destinations.yml"
            yield Finding(
                "where this message goes is decided while the run goes on", step.place(step.module, "to"), hint, step
            )


@dataclass(frozen=True)
class Rule:
    """A rule: its code, the profile from which it warns, and the one from which it is an error (None: never)."""

    code: str
    look: Callable[[Case], Findings]
    warns: str | None
    fails: str | None

    def severity(self, profile: str) -> str | None:
        """How grave a finding is under this profile; None: nothing to say."""
        reached = PROFILES.index(profile)
        for word, start in (("error", self.fails), ("warning", self.warns)):
            if start is not None and reached >= PROFILES.index(start):
                return word
        return None


RULES = (
    Rule("LG301", owner, "team", "production"),
    Rule("LG302", description, "regulated", None),
    *(Rule(code, _missing(code), "team", "production") for code in _MISSING),
    Rule("LG310", automatic, "team", "production"),
    Rule("LG311", one_click, None, "regulated"),
    Rule("LG312", open_long, "regulated", None),
    Rule("LG315", on_missing, "team", "production"),
    Rule("LG316", cooldown, "production", "regulated"),
    Rule("LG318", optional_evidence, "production", "regulated"),
    Rule("LG320", always_met, "draft", "team"),
    Rule("LG321", independent, "team", "production"),
    Rule("LG322", one_sample, "production", "regulated"),
    Rule("LG330", lost, "team", "production"),
    Rule("LG331", half_undo, "team", "production"),
    Rule("LG332", irreversible, "regulated", None),
    Rule("LG333", unreadable, "production", "regulated"),
    Rule("LG334", own_timeout, "regulated", None),
    Rule("LG335", constant, "draft", "production"),
    Rule("LG340", any_version, "team", "production"),
    Rule("LG341", fixed_version, "production", "regulated"),
    Rule("LG342", taken_choice, "production", None),
    Rule("LG350", failure_untold, "team", "production"),
    Rule("LG351", waiting_untold, "production", "regulated"),
    Rule("LG352", somewhere, "production", None),
    Rule("LG360", outside, "production", "regulated"),
    Rule("LG361", everything, "production", "regulated"),
    Rule("LG362", budget, "production", "regulated"),
)
