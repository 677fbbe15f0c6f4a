"""Text -> Playbook: the reader of playbooks, with every mistake of shape at once.

In: a file and the files that it imports. Out: a `Playbook`, and in `found` what is wrong with it. It does not know modules,
only which names are modules: their parameters are checked where the catalog is at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from engine import dialect, source
from engine.diagnostics import Diagnostic, EngineError, Place, did_you_mean, nearest, printable
from engine.playbook import (
    BUILT_IN,
    DEFAULT_DELAY,
    DEFAULT_EXPIRY,
    DEFAULT_ON,
    ENOUGH,
    LONGEST,
    LONGEST_EXPIRY,
    LONGEST_UNRATIFIED,
    MOST_IMPORTS,
    MOST_STEPS,
    SECTIONS,
    Authority,
    Block,
    Playbook,
    Step,
    patience,
)
from engine.source import Document, Keys
from modules.contract import Json, fraction, seconds


@cache
def _shapes() -> dict[str, source.Shape]:
    """The schema, cut where it would walk into steps: each step is checked by itself, once."""
    whole = source.schema("playbook")
    shallow = {"type": "array"}
    top = {
        **whole,
        "$defs": {
            **whole["$defs"],
            "steps": shallow,
            "trigger": _flat(whole, "trigger"),
            "verification": _flat(whole, "verification"),
        },
    }
    defs = whole["$defs"]
    block = {
        **defs["block"],
        "properties": {
            **defs["block"]["properties"],
            "block": {"type": "array", "minItems": 1},
            "rescue": shallow,
            "always": shallow,
        },
    }
    return {
        "top": source.Shape(top),
        "step": source.Shape({**defs["step"], "patternProperties": {}}),
        "block": source.Shape(block),
        "import": source.Shape(defs["import"]),
    }


def _flat(whole: dict[str, Json], name: str) -> dict[str, Json]:
    return {key: value for key, value in whole["$defs"][name].items() if key != "items"}


@cache
def keywords() -> dict[str, dict[str, Json]]:
    """The keywords of a step, by name: their schemas."""
    found: dict[str, dict[str, Json]] = source.schema("playbook")["$defs"]["step"]["properties"]
    return found


def load(path: Path, shown: str, known: Callable[[str], bool], found: list[Diagnostic]) -> Playbook | None:
    """The playbook at `path`. `known` tells module names; mistakes go to `found`. None when nothing could be made of it."""
    folder = path.parent.resolve()

    def fetch(name: str) -> Document:
        if name != path.name and not (path.parent / name).resolve().is_relative_to(folder):
            hint = "put the file itself there: a link is not in the pull request"
            raise EngineError(Diagnostic("LG035", f"`{name}` is a link that leads out of the playbook's folder", hint=hint))
        return source.load(path.parent / name, _beside(shown, name))

    return read(fetch, path.name, known, found)


def _beside(shown: str, name: str) -> str:
    return str(PurePosixPath(shown).parent / name) if "/" in shown else name


def read(
    fetch: Callable[[str], Document], name: str, known: Callable[[str], bool], found: list[Diagnostic]
) -> Playbook | None:
    """The playbook called `name`, its text and its imports by `fetch` (from disk, or from a stored plan)."""
    try:
        document = fetch(name)
    except EngineError as error:
        found.extend(error.diagnostics)
        return None
    if not isinstance(document.data, dict):
        steps = isinstance(document.data, list)
        hint = "put these steps under `execution:`, below" if steps else "start with"
        hint += " `name:`, `strategy:` and `hosts:`"
        found.append(Diagnostic("LG006", "a playbook is a mapping of sections", document.place(), hint=hint))
        return None
    return _Reader(fetch, document, known, found).playbook()


class _Reader:
    def __init__(
        self, fetch: Callable[[str], Document], document: Document, known: Callable[[str], bool], found: list[Diagnostic]
    ) -> None:
        self.fetch, self.document, self.known, self.found = fetch, document, known, found
        self.documents = {document.path: document}
        self.steps: list[Step] = []
        self.blocks: dict[str, Block] = {}
        self.ids: dict[str, Place] = {}
        self.prefixes: dict[str, str] = {}
        self.partial = False
        self.folded: dict[str, str] = {}
        self.imported = 0
        self.stopped = False

    def playbook(self) -> Playbook:
        data = self.document.data
        wrong = source.validate(self.document, _shapes()["top"])
        self.found.extend(dialect.hinted(wrong))
        for section in SECTIONS:
            if section != "authority" and section in data:
                for at, entries in self._lists(section, data[section]):
                    self._entries(section, self.document, at, entries, _Around())
        return self._made(data)

    def _made(self, data: Mapping[str, Json]) -> Playbook:
        serial, trigger, verification = data.get("serial"), data.get("trigger"), data.get("verification")
        return Playbook(
            name=_word(data.get("name")),
            strategy=_word(data.get("strategy")),
            hosts=_word(data.get("hosts")),
            document=self.document,
            documents=self.documents,
            steps=tuple(self._needing(step) for step in self.steps),
            blocks=self.blocks,
            vars=self._vars(self.document, ("vars",), data.get("vars")),
            authority=(asks := self._authority(data.get("authority"))),
            serial=tuple(_amount(part) for part in (serial if isinstance(serial, list) else [serial] if serial else [])),
            max_failed=_amount(data.get("max_failed", 0)),
            trigger_mode="any" if isinstance(trigger, dict) and "any" in trigger else "all",
            cooldown=self._duration(
                self.document, ("trigger", "cooldown"), trigger.get("cooldown") if isinstance(trigger, dict) else None
            )
            or 0.0,
            on_unverified=str(verification.get("on_failure", "hold")) if isinstance(verification, dict) else "hold",
            deadline=self._deadline(data.get("deadline"), asks),
            owner=_word(data.get("owner")),
            partial=self.partial,
        )

    def _needing(self, step: Step) -> Step:
        """An imported step's `needs` are those of its own import, where it has them."""
        prefix = self.prefixes.get(step.id)
        if not (prefix and step.needs):
            return step
        return replace(step, needs=tuple(prefix + name if prefix + name in self.ids else name for name in step.needs))

    def _lists(self, section: str, value: Json) -> Iterator[tuple[Keys, list[Json]]]:
        """The lists of steps in a section: the section itself, or the lists that it holds under a name."""
        if isinstance(value, list):
            yield (section,), value
        elif isinstance(value, dict):
            names = {"trigger": ("any", "all"), "verification": ("steps",)}.get(section, ())
            if section == "trigger" and ("any" in value) == ("all" in value):
                place = self.document.place((section,), key=True)
                summary, hint = "the trigger has `any` and `all`", "keep one of the two lists"
                if "any" not in value:
                    summary, hint = "the trigger has no conditions", "list them under `any:` (one is enough) or `all:`"
                self.found.append(Diagnostic("LG032", summary, place, hint=hint))
            for name in names:
                if isinstance(value.get(name), list):
                    yield (section, name), value[name]

    def _authority(self, value: Json) -> Authority:
        if not isinstance(value, dict) or not isinstance(value.get("mode"), str):
            return Authority()
        roles = value.get("roles")
        expires = self._duration(self.document, ("authority", "expires"), value.get("expires")) or DEFAULT_EXPIRY
        if expires > LONGEST_EXPIRY:
            place = self.document.place(("authority", "expires"))
            self.found.append(
                Diagnostic(
                    "LG033", "a question cannot stay open longer than 8h", place, hint="a key is for now, not for later"
                )
            )
        glass = value.get("break_glass")
        listed = tuple(str(role) for role in roles) if isinstance(roles, list) else ()
        return Authority(value["mode"], listed, expires, self._glass(glass) if isinstance(glass, dict) else None)

    def _glass(self, said: Json) -> dict[str, Json]:
        """Who may go alone, and in how many seconds a second key has to follow."""
        at = ("authority", "break_glass", "ratify_within")
        within = self._duration(self.document, at, said.get("ratify_within")) or LONGEST_UNRATIFIED
        if within > LONGEST_UNRATIFIED:
            hint = "who goes alone is looked at by a second person within a day"
            summary = "a broken glass cannot wait longer than 24h for its second key"
            self.found.append(Diagnostic("LG033", summary, self.document.place(at), hint=hint))
        return {"role": str(said.get("role", "")), "ratify_within": within}

    def _deadline(self, text: Json, asks: Authority) -> float:
        """Seconds that a run may take, its wait for keys included: so no question may stay open for longer."""
        deadline = self._duration(self.document, ("deadline",), text) or 0.0
        if 0 < deadline <= asks.expires and asks.mode != "automatic":
            place, hint = (
                self.document.place(("deadline",)),
                "write a shorter `expires` under `authority`, or a longer deadline",
            )
            self.found.append(Diagnostic("LG033", "the run would end while it may still wait for keys", place, hint=hint))
        return deadline

    def _duration(self, document: Document, at: Keys, text: Json) -> float | None:
        if not isinstance(text, str):
            return None
        try:
            value = seconds(text)
        except ValueError:
            return None  # the schema has said so already
        if not 0 < value <= LONGEST:
            hint = "write a time from 1ms to 7d"
            self.found.append(Diagnostic("LG033", f"`{at[-1]}` cannot be {text}", document.place(at), hint=hint))
            return None
        return value

    def _vars(self, document: Document, at: Keys, value: Json) -> dict[str, Json]:
        if not isinstance(value, dict):
            return {}
        for name in value:
            if name in BUILT_IN or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                why, better = "is the engine's own", f"my_{name}"
                if name not in BUILT_IN:
                    why = "is not a name: letters, digits and `_`, a letter first"
                    better = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_0123456789") or "another"
                place, hint = document.place((*at, name), key=True), f"write `{better}`"
                self.found.append(Diagnostic("LG034", f"the variable `{printable(name)}` {why}", place, hint=hint))
        return dict(value)

    def _entries(self, section: str, document: Document, at: Keys, entries: list[Json], around: _Around) -> None:
        for index, entry in enumerate(entries):
            here = (*at, index)
            if len(self.found) >= ENOUGH or self._too_many(document.place(here)):
                self.partial = True
                return
            if not isinstance(entry, dict):
                self.partial = True
                hint = "write `- name: …` and below it a module with its parameters"
                self.found.append(Diagnostic("LG015", "a step is a mapping", document.place(here), hint=hint))
            elif "block" in entry:
                self._block(section, document, here, entry, around)
            elif "import" in entry:
                self._import(section, document, here, entry, around)
            elif arm := next((arm for arm in ("rescue", "always") if arm in entry), None):
                self.partial = True
                place, hint = document.place((*here, arm), key=True), "write the steps that it is for under `block:`"
                self.found.append(Diagnostic("LG013", f"`{arm}` needs `block` beside it", place, hint=hint))
            else:
                self._step(section, document, here, entry, around)

    def _too_many(self, place: Place) -> bool:
        """Files that import each other twice make more steps than anybody wrote: told once."""
        if len(self.steps) < MOST_STEPS and self.imported < MOST_IMPORTS:
            return False
        if not self.stopped:
            self.stopped = True
            what = f"more than {MOST_STEPS:,} steps or {MOST_IMPORTS:,} imports"
            self.found.append(Diagnostic("LG003", what, place, hint="divide the playbook, or use `loop`"))
        return True

    def _block(self, section: str, document: Document, at: Keys, entry: dict[str, Json], around: _Around) -> None:
        self.found.extend(source.validate(document, _shapes()["block"], at))
        place = document.place((*at, "block"), key=True)
        name = self._id(
            section,
            around.prefix + str(entry.get("id") or _slug(str(entry.get("name") or f"block_{len(self.blocks) + 1}"))),
            place,
        )
        arms = [arm for arm in ("block", "rescue", "always") if isinstance(entry.get(arm), list)]
        self.blocks[name] = Block(name, section, frozenset(arms), place, around.arms)
        inner = around.within(document, at, self._vars(document, (*at, "vars"), entry.get("vars")))
        for arm in arms:
            self._entries(section, document, (*at, arm), entry[arm], inner.arm(name, arm))

    def _import(self, section: str, document: Document, at: Keys, entry: dict[str, Json], around: _Around) -> None:
        self.found.extend(source.validate(document, _shapes()["import"], at))
        path, place = entry["import"], document.place((*at, "import"))
        before, self.partial = self.partial, True  # until the steps are here
        self.imported += 1
        if not isinstance(path, str):
            return
        folder = PurePosixPath(self.document.path).parent
        target = PurePosixPath(document.path).parent.relative_to(folder) / path
        parts: list[str] = []
        for part in target.parts:
            if part == ".." and parts:
                parts.pop()
            else:
                parts.append(part)
        name = "/".join(parts)
        if "{{" in path or ":" in path or "\\" in path or path.startswith(("/", "~")) or ".." in parts:
            hint = "write a path below the playbook's folder, such as steps/freeze.yml, without templates"
            self.found.append(Diagnostic("LG035", f"`{printable(path)}` cannot be imported", place, hint=hint))
            return
        if name in around.files or name == PurePosixPath(self.document.path).name:
            begin = around.files.index(name) if name in around.files else 0
            way = " -> ".join((*around.files[begin:], name))
            self.found.append(
                Diagnostic("LG035", f"`{name}` imports itself: {way}", place, hint="take one of the imports out")
            )
            return
        try:
            loaded = self.fetch(name)
        except EngineError as error:
            if error.diagnostics[0].code == "LG001":
                hint = "it is looked for in the folder of the file that imports it"
                self.found.append(Diagnostic("LG035", f"there is no file `{name}`", place, hint=hint))
            else:
                self.found.extend(replace(one, place=one.place or place) for one in error.diagnostics)
            return
        self.documents[loaded.path] = loaded
        if not isinstance(loaded.data, list):
            hint = "begin with `- name:`"
            self.found.append(Diagnostic("LG035", "an imported file holds a list of steps", loaded.place(), hint=hint))
            return
        inner = around.within(document, at, self._vars(document, (*at, "vars"), entry.get("vars")))
        prefix = around.prefix + (f"{entry['id']}_" if isinstance(entry.get("id"), str) else "")
        self.partial = before
        inner = replace(inner, files=(*around.files, name), prefix=prefix)
        self._entries(section, loaded, (), loaded.data, inner)

    def _step(self, section: str, document: Document, at: Keys, entry: dict[str, Json], around: _Around) -> None:
        module, others = self._module(document, at, entry)
        own = {key: value for key, value in entry.items() if key not in others}
        wrong = _shapes()["step"].problems(own)
        if wrong:
            self.found.extend(dialect.hinted(source.validate(document, _shapes()["step"], at, but=others)))
        if module is None or not isinstance(entry.get("name"), str):
            self.partial = True
            return
        bad = {str(error.absolute_path[0]) for error in wrong if error.absolute_path}
        word = {key: value for key, value in own.items() if key not in bad}
        place = document.place((*at, "id" if "id" in word else "name"))
        name = self._id(section, around.prefix + str(word.get("id") or _slug(entry["name"])), place)
        self.prefixes[name] = around.prefix
        when = (_bare(word["when"]),) if "when" in word else ()
        needs = word.get("needs")
        until = _bare(word["until"]) if "until" in word else None
        if section != "communications" and "on" in word:
            place = document.place((*at, "on"), key=True)
            self.found.append(Diagnostic("LG036", "`on` belongs to communications alone", place, hint="remove it"))
        params = entry[module]
        self.steps.append(
            Step(
                id=name,
                name=entry["name"],
                section=section,
                module=module,
                params={} if params is None else params,
                document=document,
                keys=at,
                when=(*around.when, *when),
                when_places=(*around.when_places, *([document.place((*at, "when"))] if when else [])),
                register=self._register(document, at, word.get("register")),
                loop=word.get("loop"),
                needs=None if needs is None else tuple(needs),
                run_once=word.get("run_once", False),
                timeout=self._duration(document, (*at, "timeout"), word.get("timeout")) or patience(section),
                retries=word.get("retries", 3 if until else 0),
                delay=self._duration(document, (*at, "delay"), word.get("delay")) or DEFAULT_DELAY,
                until=until,
                on_failure=word.get("on_failure", "stop"),
                tags=around.tags | frozenset(word.get("tags", ())),
                no_log=word.get("no_log", False),
                on=tuple(word.get("on", DEFAULT_ON)) if section == "communications" else (),
                vars={**around.vars, **self._vars(document, (*at, "vars"), word.get("vars"))},
                arms=around.arms,
            )
        )

    def _register(self, document: Document, at: Keys, name: Json) -> str | None:
        if name in BUILT_IN:
            place, hint = document.place((*at, "register")), f"write `my_{name}`"
            self.found.append(Diagnostic("LG034", f"the name `{name}` is the engine's own", place, hint=hint))
            return None
        return name if isinstance(name, str) else None

    def _module(self, document: Document, at: Keys, entry: dict[str, Json]) -> tuple[str | None, list[str]]:
        """The one key of the step that is its module, and the keys that its keywords are without; mistakes go to `found`."""
        others = [key for key in entry if key not in keywords()]
        named = [key for key in others if self.known(key)] or [key for key in others if "." in key][:1]
        if not named:
            strange = [key for key in others if key not in dialect.WORDS]
            named = strange if len(strange) == 1 else [key for key in strange if not nearest(key, keywords())][:1]
        if not named:
            hint = "engine doc lists the modules"
            self.found.append(Diagnostic("LG030", "the step names no module", document.place(at), hint=hint))
            return None, []
        if len(named) > 1:
            places = [document.place((*at, key), key=True) for key in named]
            self.found.append(
                Diagnostic(
                    "LG031",
                    f"two modules in one step: {named[0]} and {named[1]}",
                    places[1],
                    hint="make it two steps",
                    context=(places[0], "the first"),
                )
            )
            return None, named
        if not self.known(named[0]) and nearest(named[0], keywords()) and "." not in named[0]:
            place = document.place((*at, named[0]), key=True)
            self.found.append(
                Diagnostic(
                    "LG030",
                    f"`{named[0]}` is neither a keyword nor a module",
                    place,
                    hint=did_you_mean(named[0], keywords()),
                )
            )
            return None, named
        return named[0], named

    def _id(self, section: str, short: str, place: Place) -> str:
        near = self.folded.get(short.lower())
        if near is not None:
            first = self.ids[near]
            self.found.append(
                Diagnostic(
                    "LG037",
                    f"two steps with the id `{short}`",
                    place,
                    hint="give one of them an `id:` of its own",
                    context=(first, "the first"),
                )
            )
        self.ids.setdefault(short, place)
        self.folded.setdefault(short.lower(), short)
        return f"{section}/{short}"


@dataclass(frozen=True)
class _Around:
    """What a step takes over from the blocks and imports around it."""

    when: tuple[str, ...] = ()
    when_places: tuple[Place, ...] = ()
    tags: frozenset[str] = frozenset()
    vars: Mapping[str, Json] = field(default_factory=dict)
    arms: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    prefix: str = ""

    def within(self, document: Document, at: Keys, more: Mapping[str, Json]) -> _Around:
        entry = document.data
        for key in at:
            entry = entry[key]
        when, places = self.when, self.when_places
        if isinstance(entry.get("when"), str | bool):
            when, places = (*when, _bare(entry["when"])), (*places, document.place((*at, "when")))
        tags = self.tags | frozenset(tag for tag in entry.get("tags") or () if isinstance(tag, str))
        return replace(self, when=when, when_places=places, tags=tags, vars={**self.vars, **more})

    def arm(self, block: str, arm: str) -> _Around:
        return replace(self, arms=(*self.arms, (block, arm)))


def _word(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _bare(value: Json) -> str:
    """`when: true` means the expression `true`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _slug(name: str) -> str:
    return (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "step")[:64]


def _amount(value: Json) -> int | float:
    """A number of hosts (int) or a part of them (float from 0 to 1); 0 for what the schema has refused already."""
    try:
        # JSON Schema takes 2.0 for a whole number
        return int(value) if isinstance(value, int | float) else fraction(str(value))
    except ValueError:
        return 0
