"""Each step against its module, every name against what is known where it is used, the strategy against its rules.

In: a playbook, the catalog, the hosts' variables. Out: diagnostics, and what the modules are (digest, undo). It reads no
live state, and it collects: every mistake is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from engine import source, template
from engine.diagnostics import Diagnostic, Place, did_you_mean, printable
from engine.layout import Options
from engine.playbook import BUILT_IN, ENOUGH, SECTIONS, Playbook, Step
from modules.contract import Json

#: Tags without which a `data` rollback is not one: purge or restore, train again, gate on the result, deploy.
STRATEGIES = ("version", "checkpoint", "configuration", "data")
#: What a version is never called: it would be another one tomorrow.
_MOVING = frozenset({"latest", "current", "newest", "head"})
DATA_TAGS = ("data", "retrain", "gate", "deploy")


class Entry(Protocol):
    """A module of the catalog, as far as the plan knows it."""

    name: str
    digest: str
    origin: str
    module: Any

    @property
    def schema(self) -> dict[str, Json]:
        """The parameters."""

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""

    def has(self, word: str) -> bool:
        """Whether the module has this optional function."""

    def can_undo(self, params: Json) -> bool:
        """Whether what it does with these parameters can be put back."""

    def crash_class(self, params: Json) -> str:
        """A, B, C or D."""


class Catalog(Protocol):
    """The table of modules that floor 7 hands down."""

    def get(self, name: str) -> Any:
        """The module of that name, or None."""

    def names(self) -> list[str]:
        """Every name there is."""


@dataclass(frozen=True)
class HostRow:
    """One host as the plan holds it: only the variables that the playbook can reach."""

    name: str
    groups: tuple[str, ...]
    vars: Mapping[str, Json]
    outside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Modules:
    """What the playbook's modules say: digest by name, for each step that changes things whether it can be undone, for each
    step the names in parameters that are bare expressions; and every name that the playbook mentions."""

    digests: Mapping[str, str]
    undo: Mapping[str, bool]
    bare: Mapping[str, frozenset[str]]
    names: frozenset[str]


def steps(book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]) -> Modules:
    """Checks everything that playbook, modules and hosts make together; mistakes go to `found`."""
    checker = _Checker(book, catalog, rows, options, found)
    checker.steps()
    checker.strategy()
    if options.tags or options.skip_tags:
        checker.tags()
    return Modules(checker.digests, checker.undo, checker.bare, frozenset(checker.used))


def _raw(step: Step) -> Mapping[str, Json]:
    value: Json = step.document.data
    for key in step.keys:
        value = value[key]
    found: Mapping[str, Json] = value
    return found


class _Checker:
    """Each step against its module, and every name it mentions against what is known there."""

    def __init__(
        self, book: Playbook, catalog: Catalog, rows: Sequence[HostRow], options: Options, found: list[Diagnostic]
    ) -> None:
        self.book, self.catalog, self.rows, self.options, self.found = book, catalog, rows, options, found
        self.digests: dict[str, str] = {}
        self.undo: dict[str, bool] = {}
        self.bare: dict[str, frozenset[str]] = {}
        self.used: set[str] = set()
        self.shapes: dict[str, source.Shape] = {}
        self.entries: dict[str, Any] = {}
        self.registers: dict[str, Step] = {}
        #: Modules that are not there, and what to write instead: looking for one asks every installed package.
        self.absent: dict[str, str] = {}
        #: Conditions of blocks and imports that were looked at with an earlier step.
        self.seen: set[Place] = set()
        self.order = {step.id: index for index, step in enumerate(book.steps)}
        everywhere = set.intersection(*(set(row.vars) for row in rows)) if rows else set()
        self.anywhere = set().union(*(row.vars for row in rows)) if rows else set()
        self.names = everywhere | set(book.vars) | set(options.extra) | BUILT_IN

    def steps(self) -> None:
        for step in self.book.steps:
            if step.register:
                first = self.registers.setdefault(step.register, step)
                if first is not step:
                    self._say(
                        "LG038",
                        f"two steps register `{step.register}`",
                        step.place("register"),
                        "choose another name",
                        first.place("register"),
                        "the first",
                    )
        used = self.used
        for step in self.book.steps:
            if len(self.found) >= ENOUGH:
                return
            self._module(step)
            used |= self._step_names(step)
        self._vars_names(used)
        to = {"to"} if self._takes_to("to") else set()
        for name in self.options.extra:
            if name not in used and name not in self.book.vars and not self._takes_to(name):
                self._say(
                    "LG044",
                    f"-e {printable(name)}=… is used nowhere in this playbook",
                    Place("-e", 1, 1, len(name), f"{printable(name)}=…"),
                    did_you_mean(name, (used | set(self.book.vars)) - BUILT_IN | to, "leave it out"),
                )

    def _takes_to(self, name: str) -> bool:
        return name == "to" and any(step.module == "last_good" for step in self.book.steps)

    def _say(
        self, code: str, summary: str, place: Place, hint: str = "", other: Place | None = None, label: str = ""
    ) -> None:
        self.found.append(Diagnostic(code, summary, place, hint=hint, context=(other, label) if other else None))

    def _module(self, step: Step) -> None:
        """The step against its module: whether it is there, may stand here, and takes these parameters."""
        entry = self._entry(step)
        if entry is None:
            return
        self.entries[step.module] = entry
        self.digests[step.module] = entry.digest
        place = step.place(step.module, key=True)
        allowed = getattr(entry.module, "SECTIONS", None)
        if allowed and step.section not in allowed:
            summary = f"`{step.module}` belongs in {' or '.join(allowed)}, and this is {step.section}"
            self._say("LG041", summary, place, f"move the step to {allowed[0]}")
        if not SECTIONS[step.section].changes and entry.acts:
            summary = f"`{step.module}` changes things; {step.section} only looks"
            self._say("LG041", summary, place, "move it to execution")
        special = self._formats(step, entry.schema, step.params) if isinstance(step.params, dict) else []
        self.found.extend(special)
        shape = self.shapes.setdefault(step.module, source.Shape(entry.schema))
        if isinstance(step.params, str) and template.templated(step.params):
            summary = f"the parameters of {step.module} should be a mapping"
            self._say("LG015", summary, step.place(step.module), "write the parameters out")
        elif not shape.problems(step.params):
            self._taken(step, entry)
        elif _raw(step)[step.module] is None:
            self._say("LG013", f"{step.module} needs parameters", place, f"engine doc {step.module} shows them")
        else:
            mistakes = source.validate(step.document, shape, (*step.keys, step.module), step.module)
            told = {one.place for one in special}
            self.found.extend(one for one in mistakes if one.place not in told)

    def _entry(self, step: Step) -> Any:
        """The step's module, or None where it is not there or cannot be used."""
        place, hint = step.place(step.module, key=True), "repair the file, or take it out of modules/"
        if step.module not in self.absent:
            try:
                entry = self.catalog.get(step.module)
            except Exception as error:  # noqa: BLE001 (a module of someone else: whatever it raises, it cannot be used)
                self._say("LG040", str(error), place, hint)
                return None
            if entry is not None:
                return entry
            names = self.catalog.names()
            self.absent[step.module] = did_you_mean(step.module, names, "engine doc lists the modules")
        self._say("LG040", f"no module `{step.module}`", place, self.absent[step.module])
        return None

    def _taken(self, step: Step, entry: Entry) -> None:
        """What follows from parameters that the module takes: its undo, its crash class, what it hands on."""
        if entry.acts:
            self.undo[step.id] = entry.can_undo(step.params)
        if step.retries and entry.crash_class(step.params) == "D":
            summary = f"`{step.module}` cannot be read back, so it is never tried twice"
            hint = "remove `retries`" + (", or use `creates` or `unless`" if step.module == "command" else "")
            self._say("LG042", summary, step.place("retries"), hint)
        self._borrowed(step, entry.schema, step.params)

    def _borrowed(self, step: Step, schema: Mapping[str, Json], params: Mapping[str, Json]) -> None:
        """Parameters of a registry module that are handed to this one (`last_good`: `of` names it, `with` holds them)."""
        for name, prop in schema["properties"].items():
            other = params.get(prop.get("x-params-of"))
            if not isinstance(other, str) or template.templated(other):
                continue
            entry = self.catalog.get(other) if other in self.catalog.names() else None
            if entry is None or not entry.has("history"):
                known = [one for one in self.catalog.names() if _has(self.catalog, one, "history")]
                summary = f"`{printable(other)}` keeps no history" if entry else f"no module `{printable(other)}`"
                hint = did_you_mean(other, known, "modules that keep one: " + ", ".join(known))
                self._say("LG040", summary, step.place(step.module, prop["x-params-of"]), hint)
                continue
            asked = {**entry.schema, "required": [key for key in entry.schema.get("required", ()) if key != "version"]}
            shape = self.shapes.setdefault(f"with {other}", source.Shape(asked))
            self.found.extend(source.validate(step.document, shape, (*step.keys, step.module, name), other))

    @staticmethod
    def _formats(step: Step, schema: Mapping[str, Json], params: Mapping[str, Json]) -> list[Diagnostic]:
        """What a schema cannot say of a version, an address, a path."""
        found = []
        for name, value in params.items():
            form = schema.get("properties", {}).get(name, {}).get("format")
            if isinstance(value, str) and not template.templated(value) and (wrong := misformed(form, value)):
                code, summary, hint = wrong
                found.append(Diagnostic(code, summary, step.place(step.module, name), hint=hint))
        return found

    def _step_names(self, step: Step) -> set[str]:
        """Checks every expression of the step; returns the names that it mentions."""
        used: set[str] = set()
        if step.section == "communications":
            known_more: set[str] = set()
        else:
            known_more = {"item"} if step.loop is not None else set()
        own = known_more | set(step.vars)
        for text, place in zip(step.when, step.when_places, strict=True):
            if place not in self.seen:
                self.seen.add(place)
                used |= self._expression(step, place, text, own)
        if step.until is not None:
            used |= self._expression(step, step.place("until"), step.until, own, until=True)
        entry = self.entries.get(step.module)
        properties = entry.schema.get("properties", {}) if entry else {}
        params = step.params if isinstance(step.params, dict) else {}
        for name, value in params.items():
            if properties.get(name, {}).get("format") == "expression" and isinstance(value, str):
                more = set(properties[name].get("x-names", ()))
                names = self._expression(step, step.place(step.module, name), value, own | more) - more
                self.bare[step.id] = self.bare.get(step.id, frozenset()) | names
                used |= names
        bare = {name for name in params if properties.get(name, {}).get("format") == "expression"}
        rendered = {name: value for name, value in params.items() if name not in bare}
        for root, value in (((step.module,), rendered), (("loop",), step.loop), (("vars",), dict(step.vars))):
            # a step's own `vars` may not see one another's circle; `item` is not yet there when the loop is made
            here = own - {"item"} if root == ("loop",) else own
            for keys, text in template.texts(value):
                used |= self._text(step, step.place(*root, *keys), text, here)
        if isinstance(step.loop, str) and not template.templated(step.loop):
            hint = f'write loop: "{{{{ {printable(step.loop, 40)} }}}}"'
            self._say("LG015", "`loop` is a list, or a template that gives one", step.place("loop"), hint)
        return used

    def _text(self, step: Step, place: Place, text: str, own: set[str]) -> set[str]:
        try:
            parts = template.parts(text)
        except template.Fault as fault:
            self.found.append(_fault(fault, place))
            return set()
        return {name for part in parts for name in self._part(step, place, part, own)}

    def _expression(self, step: Step, place: Place, text: str, own: set[str], until: bool = False) -> set[str]:
        try:
            part = template.expression(text)
        except template.Fault as fault:
            self.found.append(_fault(fault, place))
            return set()
        if not part.decides:
            hint = "compare it with something, for example `x == 'yes'` or `x is defined`"
            self._say("LG022", f"`{printable(text)}` never gives true or false", place, hint)
        return set(self._part(step, place, part, own, until))

    def _part(self, step: Step, place: Place, part: template.Part, own: set[str], until: bool = False) -> frozenset[str]:
        for name in sorted(part.names - part.optional - own - {"secret"}):
            registered = self.registers.get(name)
            if registered is step and until:
                continue
            if registered is not None:
                self._later(step, place, name, registered)
            elif name == "item" or (name not in self.names and (self.rows or name in BUILT_IN)):
                self._unknown(place, name, own)
            elif not self.rows and name not in self.names:
                continue  # without an inventory, any name may be one of its variables
        return part.names

    def _later(self, step: Step, place: Place, name: str, by: Step) -> None:
        sections = list(SECTIONS)
        if step.section != "communications" and sections.index(by.section) > sections.index(step.section):
            self._say(
                "LG024",
                f"`{name}` is registered later, in {by.section}",
                _inside(place, name),
                "move the step, or use another name",
                by.place("register"),
                "registered here",
            )
        elif by is step:
            self._say(
                "LG024",
                f"`{name}` is registered by this very step",
                _inside(place, name),
                "only `until` may look at the step's own result",
            )

    def _unknown(self, place: Place, name: str, own: set[str]) -> None:
        known = (self.names | set(self.registers) | own) - {"item", "secret", "trigger"}
        if name == "item":
            hint = "`item` is there only where the step has a `loop`"
        elif name in self.anywhere:
            missing = [row.name for row in self.rows if name not in row.vars]
            many = f"{len(missing)} of {len(self.rows)} hosts do not have it, {missing[0]} is the first"
            hint = f"{missing[0]} does not have it; the other hosts do" if len(missing) == 1 else many
        else:
            hint = did_you_mean(name, known, "register it in an earlier step, or set it in the inventory or under `vars`")
        self._say("LG020", f"`{name}` is not defined", _inside(place, name), hint)

    def _vars_circles(self) -> None:
        """Variables that need each other; a circle of the inventory's own is told once, with a host that has it."""
        told: set[frozenset[str]] = set()
        fixed = set(self.options.extra)
        for row in self.rows or (None,):
            raw = {**(row.vars if row else {}), **self.book.vars}
            plain = fixed | (row.outside if row else frozenset())
            for circle in _var_circles({name: value for name, value in raw.items() if name not in plain}):
                if frozenset(circle) in told:
                    continue
                told.add(frozenset(circle))
                mine = next((name for name in circle if name in self.book.vars), None)
                where = f" of {row.name}" if row and mine is None else ""
                summary = f"variables{where} in a circle: {' -> '.join([*circle, circle[0]])}"
                place = self.book.document.place(("vars", mine) if mine else ("hosts",))
                self._say("LG023", summary, place, "give one of them a value that does not mention the others")

    def _vars_names(self, used: set[str]) -> None:
        """The playbook's own variables may mention others."""
        self._vars_circles()
        for name, value in self.book.vars.items():
            try:
                parts = template.parts(value)
            except template.Fault as fault:
                self._say(fault.code, fault.message, self.book.document.place(("vars", name)), fault.hint)
                continue
            for part in parts:
                used |= part.names
                for other in sorted(part.names - part.optional - self.names):
                    if self.rows:
                        self._say(
                            "LG020",
                            f"`{other}` is not defined",
                            self.book.document.place(("vars", name)),
                            did_you_mean(other, self.names),
                        )

    def strategy(self) -> None:
        """What makes a playbook one of its strategy (language: the table of strategies)."""
        book, steps = self.book, self.book.section("execution")
        if book.document.data.get("execution") == []:
            place = book.document.place(("execution",), key=True)
            self._say("LG050", "execution has no steps", place, "say what is to be changed")
        if book.strategy not in STRATEGIES or book.partial or not steps:
            return
        moving = [step for step in steps if book.strategy in getattr(self._module_of(step), "MOVES", ())]
        place = book.document.place(("strategy",))
        if steps and not moving and all(step.module in self.entries for step in steps):
            movers = sorted(n for n in self.catalog.names() if _moves(self.catalog, n, book.strategy))
            self._say(
                "LG050",
                f"no step of execution makes this a `{book.strategy}` rollback",
                place,
                "modules that do: " + ", ".join(movers),
            )
        if book.strategy == "data":
            have = {tag for step in steps for tag in step.tags}
            if missing := [f"`{tag}`" for tag in DATA_TAGS if tag not in have]:
                steps_are = "a step" if len(missing) == 1 else "steps"
                summary = f"a data rollback needs {steps_are} of execution tagged {', '.join(missing)}"
                hint = "its four acts are: data (purge or restore), retrain, gate (judge the result), deploy"
                self._say("LG051", summary, place, hint)

    def _module_of(self, step: Step) -> Any:
        entry = self.entries.get(step.module)
        return entry.module if entry else None

    def tags(self) -> None:
        known = {tag for step in self.book.steps for tag in step.tags}
        for tag in (*self.options.tags, *self.options.skip_tags):
            if tag not in known and tag not in ("all", "always", "never", "tagged", "untagged"):
                self._say(
                    "LG047",
                    f"no step has the tag `{printable(tag)}`",
                    Place("--tags" if tag in self.options.tags else "--skip-tags", 1, 1, len(tag), printable(tag)),
                    did_you_mean(tag, known, "tags: " + ", ".join(sorted(known)) if known else "no step has tags"),
                )


def misformed(form: str | None, value: str) -> tuple[str, str, str] | None:
    """What a schema cannot say of a version, an address, a path: code, summary and hint, if it is wrong."""
    shown = f"`{printable(value)}`"
    if form == "version" and (value.lower() in _MOVING or "/" in value or "\\" in value or ".." in value):
        hint = "write the version's own name: others move, and nobody could say what was approved"
        return "LG045", f"{shown} does not name one version", hint
    if form == "url" and not _address(value):
        hint = "write http://… or https://…, without a user and without a `#` part"
        return "LG046", f"{shown} is not an address that can be called", hint
    if form == "path" and (value.startswith(("~", "file:")) or "\\" in value or "\0" in value):
        return "LG046", f"{shown} is not a path", "write a path that starts at the playbook's folder, or at /"
    return None


def _address(text: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not parts.fragment
            and parts.username is None
            and parts.port != 0
        )
    except ValueError:
        return False


def _var_circles(raw: Mapping[str, Json]) -> list[list[str]]:
    """The circles of variables that mention each other, each beginning at its first name."""
    waits = {name: sorted(other for other in template.mentioned(value) if other in raw) for name, value in raw.items()}
    waits = {name: others for name, others in waits.items() if others}
    found: list[list[str]] = []
    while waits:
        try:
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][:-1][::-1]
            begin = circle.index(min(circle))
            found.append([*circle[begin:], *circle[:begin]])
            waits = {name: others for name, others in waits.items() if name not in circle}
        else:
            break
    return found


def _has(catalog: Catalog, name: str, word: str) -> bool:
    try:
        entry = catalog.get(name)
    except Exception:  # noqa: BLE001 (only a hint is being made; the module itself is reported where it is used)
        return False
    return entry is not None and entry.has(word)


def _moves(catalog: Catalog, name: str, strategy: str) -> bool:
    try:
        entry = catalog.get(name)
    except Exception:  # noqa: BLE001 (only a hint is being made; the module itself is reported where it is used)
        return False
    return entry is not None and strategy in getattr(entry.module, "MOVES", ())


def _inside(place: Place, word: str) -> Place:
    """The place of `word` inside the text at `place`, if it stands on that line."""
    at = place.text.find(word, place.column - 1)
    return replace(place, column=at + 1, length=len(word)) if at >= 0 and word else place


def _fault(fault: template.Fault, place: Place) -> Diagnostic:
    return Diagnostic(fault.code, fault.message, _inside(place, fault.name) if fault.name else place, hint=fault.hint)
