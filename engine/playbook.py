"""What a playbook is: frozen sections, steps and blocks, each with its place. The six sections are rows of one table.

It does not know how a playbook is read, which modules there are, inventories, or how anything is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from engine import template
from engine.diagnostics import Place
from engine.source import Document, Keys
from modules.contract import Json


@dataclass(frozen=True)
class Row:
    """One row of the table of sections.

    `after`: the sections that must have ended well before it opens. `changes`: whether `apply` is called. `remains`: what
    it means when a difference remains after the second reading.
    """

    after: tuple[str, ...]
    changes: bool
    remains: str
    says: str


SECTIONS: dict[str, Row] = {
    "trigger": Row((), False, "noted", "what calls for a rollback"),
    "forensics": Row(("trigger",), True, "failed", "what is kept before anything is touched"),
    "authority": Row(("trigger",), False, "waiting", "who has to say yes"),
    "execution": Row(("forensics", "authority"), True, "failed", "what is changed"),
    "verification": Row(("execution",), False, "held", "what must be true afterwards"),
    "communications": Row((), True, "reported", "who is told"),
}
#: The sections that hosts walk, in order.
WALKED = ("trigger", "forensics", "execution", "verification")

DEFAULT_TIMEOUT, DEFAULT_DELAY, LONGEST = 300.0, 5.0, 7 * 86400.0
#: Seconds that all captures of a host share which have no `timeout` of their own: evidence must not hold a rollback up.
BOX = 120.0
DEFAULT_EXPIRY, LONGEST_EXPIRY = 3600.0, 8 * 3600.0
#: Seconds in which a second person has to ratify what one did alone.
LONGEST_UNRATIFIED = 86400.0
#: After so many mistakes nobody reads on, and neither does the engine.
ENOUGH = 200
#: Steps and imports that one playbook may have, imports of imports counted.
MOST_STEPS, MOST_IMPORTS = 20_000, 1_000
#: The events at which a message is sent that does not say.
DEFAULT_ON = ("succeeded", "failed")
#: Names that are the engine's own and cannot be registered or set.
BUILT_IN = frozenset({"inventory_hostname", "group_names", "groups", "hostvars", "run", "item", "trigger", "secret"})


@dataclass(frozen=True)
class Step:
    """One entry of a section. `id` is ``section/id``; `arms` are the blocks around it, outermost first."""

    id: str
    name: str
    section: str
    module: str
    params: Json
    document: Document = field(repr=False, compare=False)
    keys: Keys
    when: tuple[str, ...] = ()
    when_places: tuple[Place, ...] = field(default=(), repr=False, compare=False)
    register: str | None = None
    loop: Json = None
    needs: tuple[str, ...] | None = None
    run_once: bool = False
    timeout: float = DEFAULT_TIMEOUT
    retries: int = 0
    delay: float = DEFAULT_DELAY
    until: str | None = None
    on_failure: str = "stop"
    tags: frozenset[str] = frozenset()
    no_log: bool = False
    on: tuple[str, ...] = ()
    vars: Mapping[str, Json] = field(default_factory=dict)
    arms: tuple[tuple[str, str], ...] = ()

    def place(self, *below: str | int, key: bool = False) -> Place:
        """Where the step, or a part of it, stands."""
        return self.document.place((*self.keys, *below), key)

    def mention(self, word: str) -> Place:
        """Where the step first mentions a name."""
        raw = self.document.data
        for key in self.keys:
            raw = raw[key]
        exact = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        for keys, text in _texts(raw):
            if exact.search(text):
                place = self.place(*keys)
                at = exact.search(place.text, place.column - 1)
                return replace(place, column=at.start() + 1, length=len(word)) if at else place
        return self.place()

    @cached_property
    def mentions(self) -> frozenset[str]:
        """Every name that the step's parameters and keywords mention."""
        bare = [template.mentioned(text, bare=True) for text in (*self.when, *((self.until,) if self.until else ()))]
        return frozenset().union(*bare, *(template.mentioned(value) for value in (self.params, self.loop, dict(self.vars))))

    @property
    def short(self) -> str:
        """The id without its section: what `needs` and people use."""
        return self.id.partition("/")[2]


@dataclass(frozen=True)
class Block:
    """Steps that belong together: which of them are its body, its remedy and its clean-up is in their `arms`."""

    id: str
    section: str
    arms: frozenset[str]
    place: Place
    around: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Authority:
    """Who has to say yes: mode, roles, seconds until the question lapses; who may go alone (`role`, `ratify_within`)."""

    mode: str = "automatic"
    roles: tuple[str, ...] = ()
    expires: float = DEFAULT_EXPIRY
    break_glass: Mapping[str, Json] | None = None


@dataclass(frozen=True)
class Playbook:
    """A playbook, whole. `documents` are its own text and those it imports, by the path that is shown."""

    name: str
    strategy: str
    hosts: str
    document: Document = field(repr=False)
    documents: Mapping[str, Document] = field(repr=False)
    steps: tuple[Step, ...]
    blocks: Mapping[str, Block]
    vars: Mapping[str, Json]
    authority: Authority
    serial: tuple[int | float, ...] = ()
    max_failed: int | float = 0
    trigger_mode: str = "all"
    cooldown: float = 0.0
    on_unverified: str = "hold"
    #: Seconds from its start after which a run begins nothing more; 0: no end.
    deadline: float = 0.0
    owner: str = ""
    #: Some steps could not be read: what all of them together make cannot be judged.
    partial: bool = False

    def section(self, name: str) -> tuple[Step, ...]:
        """The steps of a section, in order."""
        return tuple(step for step in self.steps if step.section == name)

    def has(self, section: str) -> bool:
        """Whether the section is written, empty or not."""
        return isinstance(self.document.data, dict) and section in self.document.data


def patience(section: str) -> float:
    """Seconds that a step of this section may take that does not say."""
    return BOX if section == "forensics" else DEFAULT_TIMEOUT


def _texts(value: Json, at: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Yields (key path, text) for every text in `value`."""
    if isinstance(value, str):
        yield at, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _texts(inner, (*at, key))
