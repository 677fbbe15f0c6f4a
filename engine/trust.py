"""Which roster counts: one that follows, version by version and signature by signature, from the one that is pinned.

In: a roster's text, the signed versions beside it, the pins outside the repository, the newest version seen so far. Out: the
`Roster`, or EngineError that names what is wrong with it (LG210 to LG213). A place beside the inventory gives a roster no
authority: who can change the repository could otherwise write themselves into it.

The rules are those that TUF has for its root: version N+1 is signed by as many people of each role as the thresholds of N
say, and as those of N+1 say, both; it begins at a version pinned by hand; what was seen once is never gone back behind.
Version N is `roster.sig/000N.json`, an envelope whose statement holds that whole roster, so none between can be missing.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import canon, envelope, roster, source, statement
from engine.diagnostics import Diagnostic, EngineError, printable
from engine.envelope import Envelope
from engine.roster import Roster
from engine.sshsig import Refused, Signer

Json = Any

TYPE = "urn:lastgood:roster:1"
#: Where the signed versions lie, beside roster.yml.
FOLDER = "roster.sig"
#: Outside the repository: what was pinned by hand, and the newest versions that this machine has seen.
PINS, SEEN = "roster-pins", "roster-seen"
HOME = Path("/etc/lastgood")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+(\d{1,7})\s+(unsigned|sha256:[0-9a-f]{64})")
_SIGNED, _ORDER, _LAPSED, _PINNED = "LG210", "LG211", "LG212", "LG213"


@dataclass(frozen=True)
class Mark:
    """A version of an environment's roster, and its digest."""

    version: int
    digest: str


#: An environment that the pins do not name.
_STRANGE = Mark(1, "")


@dataclass(frozen=True)
class Trust:
    """What lies outside the repository. `home`: the folder of the pins; `store`: the folder of the runs. Both remember the
    newest version seen, so that losing one of them does not open the way back."""

    home: Path = HOME
    store: Path | None = None

    def pins(self) -> dict[str, Mark] | None:
        """environment -> the version at which trust begins; version 0: unsigned. None where nobody pins anything."""
        path = self.home / PINS
        try:
            path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _wrong(_PINNED, f"{path} cannot be read: {error.strerror}", "mend its permissions") from None
        for one in (path, self.home):
            status = one.stat()
            if status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise _wrong(
                    _PINNED, f"{one} can be changed by others than its owner", f"chown root {one}; chmod go-w {one}"
                )
        return _marks(path)

    def demands(self, environment: str) -> bool:
        """Whether this environment has to have a signed roster here: where pins are kept, each one that they do not name
        `unsigned`. Else the same hosts under another name would have none."""
        pins = self.pins()
        return pins is not None and pins.get(environment, _STRANGE).version > 0

    def seen(self, environment: str) -> list[Mark]:
        """The newest versions that were seen, as each place remembers them."""
        places = [folder / SEEN for folder in (self.home, self.store) if folder]
        found = [_marks(path).get(environment) for path in places if path.is_file()]
        return [mark for mark in found if mark]

    def remember(self, environment: str, mark: Mark) -> list[Path]:
        """Writes down that this version was seen, in both places. Returns those that could not be written."""
        failed = []
        for folder in (self.home, self.store):
            if folder is None or not folder.is_dir():
                continue
            path = folder / SEEN
            try:
                marks = _marks(path) if path.is_file() else {}
                if marks.get(environment, Mark(0, "")).version < mark.version:
                    _write(path, marks | {environment: mark})
            except OSError:
                failed.append(path)
        return failed


def trust(store: Path | None = None, environ: Mapping[str, str] = os.environ) -> Trust:
    """What this machine trusts: LASTGOOD_TRUST, or /etc/lastgood."""
    return Trust(Path(environ.get("LASTGOOD_TRUST") or HOME), store)


def _marks(path: Path) -> dict[str, Mark]:
    """The lines ``environment version digest`` of a file. Raises EngineError for any other line."""
    found: dict[str, Mark] = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        match = _LINE.fullmatch(text)
        if text and (not match or match[1] in found or (match[3] == "unsigned") != (match[2] == "0")):
            hint = "a line is: production 1 sha256:…, or: staging 0 unsigned"
            raise _wrong(_PINNED, f"{path}:{number} cannot be read: {printable(text)}", hint)
        if match:
            found[match[1]] = Mark(int(match[2]), match[3])
    return found


def _write(path: Path, marks: Mapping[str, Mark], head: str = "") -> None:
    """All of the file or nothing: written beside it, then moved into its place."""
    text = head + "".join(f"{name} {mark.version} {mark.digest}\n" for name, mark in sorted(marks.items()))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(path)


def pin(home: Path, environment: str, mark: Mark) -> Path:
    """Pins the environment's roster at this version. Returns the file. Raises OSError."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / PINS
    known = _marks(path) if path.is_file() else {}
    _write(path, known | {environment: mark}, "# Who may change a roster begins here: environment, version, digest.\n")
    return path


def current(document: source.Document, environment: str, outside: Trust, now: float) -> Roster:
    """The roster in `document`, if it counts at `now`. Raises EngineError (LG110, LG210 to LG213). Remembers its version."""
    people = roster.read(document)
    folder = Path(document.path).resolve().parent
    pins, seen = outside.pins(), outside.seen(environment)
    if pins is not None:
        _apart(outside.home, folder)
    if not people.version:
        _unsigned(people, environment, pins, seen)
        return people
    if people.environment != environment:
        summary = f"{people.path} is the roster of `{people.environment}`, and these hosts are in `{environment}`"
        raise _wrong(_SIGNED, summary, "put back the roster of this environment", document)
    begin = (pins or {}).get(environment)
    if begin is None or not begin.version:
        summary = (
            f"nobody on this machine has pinned the roster of `{environment}`: nobody can say whether this one is right"
        )
        raise _wrong(_PINNED, summary, "compare its digest with somebody who knows it, then: engine roster pin", document)
    chain = _chain(people, folder, begin)
    newest = max(seen, key=lambda mark: mark.version, default=Mark(0, ""))
    _forward(people, folder, seen)
    _known(chain, (begin, *seen), environment)
    _followed(chain, folder, now, max(newest.version, begin.version))
    if now >= people.expires:
        summary = f"{people.path}, version {people.version}, has lapsed"
        raise _wrong(_LAPSED, summary, "sign a new version: engine roster renew, then engine roster sign", document)
    outside.remember(environment, Mark(people.version, people.digest))
    return people


def before(folder: Path, version: int, environment: str, outside: Trust) -> bool:
    """Whether this machine can tell that the version before `version` is right: it follows from the one that is pinned.

    Raises EngineError (LG210, LG211) where it can tell that it is not.
    """
    begin = (outside.pins() or {}).get(environment)
    if begin is None or not 0 < begin.version < version:
        return False
    chain = _versions(folder, begin.version, version - 1, environment)
    _known(chain, (begin, *outside.seen(environment)), environment)
    _followed(chain, folder, 0.0, version)
    return True


def _known(chain: Mapping[int, _Version], marks: Iterable[Mark], environment: str) -> None:
    """Raises EngineError for a version that is another than the pinned one, or than the one that was seen."""
    for mark in marks:
        if mark.version in chain and chain[mark.version].digest != mark.digest:
            summary = f"version {mark.version} of the roster of `{environment}` is not the one that this machine has known"
            raise _wrong(_ORDER, summary, "there is another history of it: find out whose, before anything is changed")


def _apart(home: Path, folder: Path) -> None:
    """Raises EngineError for pins that lie where the roster lies: who can change the one could change the other."""
    roots = [folder, *(above for above in (folder, *folder.parents) if (above / ".git").exists())]
    if any(home.resolve().is_relative_to(root) for root in roots):
        summary = f"the pins in {home} lie in the same repository as the roster"
        raise _wrong(_PINNED, summary, "keep them outside it: /etc/lastgood, or another folder named by LASTGOOD_TRUST")


def _unsigned(people: Roster, environment: str, pins: Mapping[str, Mark] | None, seen: list[Mark]) -> None:
    """Raises EngineError where this machine wants signatures and the roster has none."""
    if signed := max((mark.version for mark in seen), default=0):
        summary = f"{people.path} is not signed any more: this machine has seen version {signed} of it"
        raise _wrong(_ORDER, summary, f"put back version {signed} or a newer one, with its {FOLDER}/")
    if pins is not None and pins.get(environment, _STRANGE).version:
        summary = f"{people.path} is not signed, and this machine takes no unsigned roster for `{environment}`"
        hint = f"engine roster init makes a signed one; or write `{environment} 0 unsigned` into the pins"
        raise _wrong(_SIGNED, summary, hint)


@dataclass(frozen=True)
class _Version:
    """One signed version: its roster, the envelope that holds it."""

    people: Roster
    signed: Envelope
    digest: str


def _chain(people: Roster, folder: Path, begin: Mark) -> dict[int, _Version]:
    """The versions from the pinned one to that of roster.yml. Raises EngineError when one is missing or says otherwise."""
    if people.version < begin.version:
        summary = f"{people.path} is version {people.version}, older than version {begin.version}, which is pinned"
        raise _wrong(_ORDER, summary, "take the newest roster of the repository")
    found = _versions(folder, begin.version, people.version, people.environment, people.version)
    if found[people.version].people.digest != people.digest:
        summary = f"{people.path} is not what version {people.version} was signed for"
        hint = f"put it back, or raise it to version {people.version + 1} and have that signed: engine roster sign"
        raise _wrong(_SIGNED, summary, hint)
    return found


def _versions(folder: Path, first: int, last: int, environment: str, now: int = 0) -> dict[int, _Version]:
    """The signed versions from `first` to `last`; `now` is that of roster.yml. Raises EngineError when one is missing."""
    found = {}
    for number in range(first, last + 1):
        path = folder / FOLDER / f"{number:04d}.json"
        if not path.is_file():
            summary = f"version {number} of the roster is missing: {folder}/roster.yml is version {now or last + 1}"
            hint = f"every version from {first} on has its file in {FOLDER}/; versions follow each other by one"
            raise _wrong(_SIGNED if number == now else _ORDER, summary, hint)
        found[number] = _version(path, number, environment)
    return found


def _version(path: Path, number: int, environment: str) -> _Version:
    """A signed version, read and not yet verified. Raises EngineError."""
    try:
        signed = envelope.read(source.strict_json(path.read_bytes(), str(path)))
        said = signed.data
        if set(said) != {"_type", "subject", "predicateType", "predicate"} or said["predicateType"] != TYPE:
            raise Refused("it holds something else than a roster")
        data = said["predicate"]["roster"]
        if said != stated(data):
            raise Refused("it is not exactly a statement about its roster")
    except (Refused, KeyError, TypeError) as error:
        reason = error.reason if isinstance(error, Refused) else "it is not a signed roster"
        raise _wrong(_SIGNED, f"{path} does not count: {reason}", "take it from the repository again") from None
    people = roster.read(source.parse(json.dumps(data), str(path)))
    if (people.version, people.environment) != (number, environment):
        summary = f"{path} holds version {people.version} of `{people.environment}`, not version {number} of `{environment}`"
        raise _wrong(_ORDER, summary, "take it from the repository again")
    return _Version(people, signed, people.digest)


def stated(data: Mapping[str, Json]) -> dict[str, Json]:
    """The statement that is signed for the roster that `data` is."""
    return envelope.statement(TYPE, {"roster.yml": canon.digest(data)}, {"roster": dict(data)})


def _forward(people: Roster, folder: Path, seen: list[Mark]) -> None:
    """Raises EngineError for a roster behind what was seen, or behind what lies signed beside it."""
    newest = max((mark.version for mark in seen), default=0)
    if people.version < newest:
        summary = f"{people.path} is version {people.version}, and this machine has seen version {newest}"
        raise _wrong(_ORDER, summary, "take the newest roster: an older one may name people who have left")
    if (folder / FOLDER / f"{people.version + 1:04d}.json").exists():
        summary = f"{people.path} is version {people.version}, and version {people.version + 1} lies signed beside it"
        raise _wrong(_ORDER, summary, f"put back the roster.yml of the newest version, or take its file out of {FOLDER}/")


def _followed(chain: Mapping[int, _Version], folder: Path, now: float, known: int) -> None:
    """Raises EngineError unless every version is signed as the one before it and it itself demand.

    Of a version that was not seen before, the keys that signed it have to count now: a key that has lapsed makes no history.
    """
    before: Roster | None = None
    for number, version in chain.items():
        path, moment = folder / FOLDER / f"{number:04d}.json", now if number > known else None
        for whose, demands in (("before", before), ("new", version.people)):
            if demands is None:
                continue
            signed = signers(version.signed, demands, moment, str(path))
            if missing := lacking(demands, signed):
                by = f"version {number - 1}, the one before it, demands" if whose == "before" else "it demands itself"
                summary = f"version {number} of the roster is not signed as {by}: {missing}"
                raise _wrong(_SIGNED, summary, "have it signed: engine roster sign")
        before = version.people


def signers(signed: Envelope, people: Roster, moment: float | None, shown: str = "") -> list[str]:
    """Who of `people` has signed, each once. `moment`: when the keys have to count; None: whenever. Raises EngineError."""
    try:
        found = signed.signers(statement.NAMESPACES["roster"])
    except Refused as refused:
        summary = f"{shown} does not count: {refused.reason}"
        raise _wrong(_SIGNED, summary, "have it signed anew: engine roster sign") from None
    names = []
    for signature in found:
        person = people.person_by_key(signature.key.fingerprint)
        key = person.key(signature.key.fingerprint) if person else None
        if key is None or person is None:
            continue
        if moment is None:
            key = replace(key, since=float("-inf"), until=float("inf"))
        if not key.fault(signature, moment or 0.0):
            names.append(person.name)
    return list(dict.fromkeys(names))


def lacking(people: Roster, signed: list[str]) -> str:
    """Which signatures the thresholds of `people` still want, in words; empty when there are enough."""
    missing = []
    for role, wanted in people.thresholds.items():
        there = [person.name for person in people.in_role(role) if person.name in signed]
        if len(there) < wanted:
            missing.append(f"{len(there)} of {wanted} people of `{role}`")
    return ", ".join(missing)


def sign(folder: Path, data: Mapping[str, Json], signer: Signer) -> Path:
    """Adds a signature to the version that `data` is. Returns its file. Raises Refused, OSError."""
    path = folder / FOLDER / f"{data['version']:04d}.json"
    statement_, namespace = stated(data), statement.NAMESPACES["roster"]
    made = None
    if path.is_file():
        with suppress(EngineError):  # a file that cannot be read is made anew
            found = source.strict_json(path.read_bytes(), str(path))
            if envelope.read(found).data == statement_:
                made = envelope.add(found, signer, namespace)
    made = made or envelope.seal(statement_, signer, namespace)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    return path


def _wrong(code: str, summary: str, hint: str, document: source.Document | None = None) -> EngineError:
    return EngineError(Diagnostic(code, summary, document.place() if document else None, hint=hint))
