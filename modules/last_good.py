"""One earlier version is chosen as the last known-good one, and every other has a reason.

It asks the history of a registry module, drops what may not be gone back to, and takes the newest that remains. Nothing is
changed: the next steps use what it found (`target.version`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from modules.contract import Context, Json, ModuleError, Params, State, seconds

#: Seconds by which two machines' clocks may differ without anybody minding.
_SKEW = 300.0
_BAD = ("bad", "revoked", "quarantined")
SCHEMA: dict[str, Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["of", "with"],
    "properties": {
        "of": {
            "type": "string",
            "minLength": 1,
            "description": "The registry module that is asked for its history, like mlflow.alias.",
        },
        "with": {
            "type": "object",
            "x-params-of": "of",
            "description": "That module's own parameters; its `version` may be left out.",
        },
        "where": {
            "type": "string",
            "format": "expression",
            "x-names": ["candidate"],
            "description": "An expression over `candidate` that must be true, like candidate.tags.validation == 'passed'.",
        },
        "floor": {
            "type": ["string", "null"],
            "format": "version",
            "description": "The oldest version that may be gone back to; empty means none.",
        },
        "max_age": {
            "type": "string",
            "format": "duration",
            "description": "How long ago a version may have been made at most, like 90d.",
        },
        "proven": {
            "type": "string",
            "format": "duration",
            "description": "Only a version that a run put in place and verified so recently, like 90d (`engine ledger`).",
        },
        "to": {
            "type": ["string", "null"],
            "format": "version",
            "description": "A version asked for by name; it may be newer than what serves. Empty means none.",
        },
    },
    "examples": [
        {"of": "directory.current", "with": {"path": "models/fraud"}},
        {
            "of": "mlflow.alias",
            "with": {"server": "http://mlflow.example.org:5000", "model": "fraud", "alias": "champion"},
            "where": "candidate.tags.validation == 'passed'",
            "floor": "4",
            "max_age": "90d",
        },
    ],
}


@dataclass(frozen=True)
class _Rules:
    """What a candidate is held against; times are aware, `max_age` is in seconds."""

    params: Params
    ctx: Context
    now: str | None
    serving_since: datetime | None
    floor: datetime | None

    def against(self, candidate: dict[str, Json]) -> Iterator[str]:
        """Every reason why this candidate may not be gone back to."""
        made, asked = datetime.fromisoformat(candidate["created"]), self.params.get("to")
        if candidate.get("excluded"):
            yield candidate["excluded"]
        if not asked and candidate["serving"]:
            # What this playbook has put there stays the last known good one until the alarm comes back.
            if not candidate.get("placed"):
                yield "serves now"
        elif not asked and self.serving_since and made >= self.serving_since:
            yield f"is not older than {self.now}, which serves now"
        yield from _marked(candidate["tags"])
        if candidate["artifact"] in ("missing", "differs"):
            yield candidate.get("why") or (
                "its files differ" if candidate["artifact"] == "differs" else "its files are missing"
            )
        if self.floor and made < self.floor:
            yield f"is under the floor {self.params['floor']}"
        if "max_age" in self.params and self.ctx.now() - made.timestamp() > seconds(self.params["max_age"]):
            yield f"is {(self.ctx.now() - made.timestamp()) / 86400:.1f} d old, more than {self.params['max_age']}"
        if "proven" in self.params:
            yield from self._unproven(candidate.get("proven"))
        if where := self.params.get("where"):
            try:
                if not self.ctx.test(where, {"candidate": candidate}):
                    yield f"does not fulfil: {where}"
            except ModuleError as error:
                yield f"cannot be held against `{where}`: {error.message}"

    def _unproven(self, when: float | None) -> Iterator[str]:
        wanted = self.params["proven"]
        if when is None:
            yield "has never been put in place and verified by a run"
        elif when > self.ctx.now() + _SKEW:
            yield "is said to have been verified at a time that is still to come: a clock was wrong, or the record is"
        elif self.ctx.now() - when > seconds(wanted):
            yield f"was last put in place and verified {(self.ctx.now() - when) / 86400:.1f} d ago, more than {wanted}"


def judged(params: Params, ctx: Context) -> list[dict[str, Json]]:
    """Every version that the registry has, newest first, with `why` it may not be gone back to: empty where it may."""
    history = ctx.history(params["of"], params["with"])
    if not history:
        raise ModuleError(f"{params['of']} has no history: no version at all", "check `with`")
    serving = _serving(history)
    now = serving["version"] if serving else None
    rules = _Rules(params, ctx, now, _made(serving) if serving else None, _floor(params, history))
    return [{**candidate, "why": "; ".join(rules.against(candidate))} for candidate in history]


def read(params: Params, ctx: Context) -> State | None:
    candidates = judged(params, ctx)
    chosen, serving = choose(params, candidates), _serving(candidates)
    now = serving["version"] if serving else None
    shown = [
        {
            "version": candidate["version"],
            "created": candidate["created"],
            "eligible": not candidate["why"],
            "why": candidate["why"] or ("is chosen" if candidate is chosen else "could be gone back to as well"),
        }
        for candidate in candidates
    ]
    return {
        "version": chosen["version"],
        "_digest": chosen["digest"],
        "_created": chosen["created"],
        "_tags": chosen["tags"],
        "_now": now,
        "_now_digest": serving["digest"] if serving else None,
        "_why": _why(params, chosen, shown, now),
        "_candidates": shown,
    }


def desired(params: Params) -> State | None:
    # Nothing is asked of the world, so nothing is ever different from it: choosing is all.
    return {}


def choose(params: Params, candidates: list[dict[str, Json]]) -> dict[str, Json]:
    """The candidate asked for by name, or the newest without a reason against it. Raises ModuleError."""
    if asked := params.get("to"):
        for candidate in candidates:
            if candidate["version"] == asked:
                if candidate["why"]:
                    raise ModuleError(
                        f"{asked} may not be gone back to: {candidate['why']}", "choose another `to`, or leave it out"
                    )
                return candidate
        there = ", ".join(candidate["version"] for candidate in candidates[:12])
        raise ModuleError(f"there is no version {asked}", f"there are, newest first: {there}")
    for candidate in candidates:
        if not candidate["why"]:
            return candidate
    reasons = "; ".join(f"{candidate['version']}: {candidate['why']}" for candidate in candidates)
    raise ModuleError(f"no version may be gone back to. {reasons}", "publish a good version, or ask for less")


def _why(params: Params, chosen: dict[str, Json], shown: list[dict[str, Json]], now: str | None) -> str:
    if chosen["serving"] and chosen.get("placed"):
        return f"{now} serves already: {chosen['placed']} went back to it, and the alarm is quiet"
    return f"{chosen['version']} is {_how(params, shown)}; {now or 'no version'} serves now"


def _how(params: Params, shown: list[dict[str, Json]]) -> str:
    if params.get("to"):
        return "the version asked for"
    count = sum(candidate["eligible"] for candidate in shown)
    return f"the newest of {count} that may be gone back to" if count > 1 else "the only one that may be gone back to"


def _serving(candidates: list[dict[str, Json]]) -> dict[str, Json] | None:
    return next((candidate for candidate in candidates if candidate["serving"]), None)


def _made(candidate: dict[str, Json]) -> datetime:
    return datetime.fromisoformat(candidate["created"])


def _floor(params: Params, history: list[dict[str, Json]]) -> datetime | None:
    """When the floor was made. A floor that is not there raises ModuleError: it must not let everything pass."""
    if not params.get("floor"):
        return None
    for candidate in history:
        if candidate["version"] == params["floor"]:
            return _made(candidate)
    raise ModuleError(f"the floor {params['floor']} is not in the history", "name a version that is there")


def _marked(tags: dict[str, Json]) -> Iterator[str]:
    if str(tags.get("bad", "false")).lower() not in ("false", "no", "0", ""):
        yield f"is marked bad ({tags['bad']})"
    if str(tags.get("status", "")).lower() in _BAD:
        yield f"is marked {tags['status']}"
