"""A metric as a run saw it: points and named limits, merged from every step that asked the same question.

In: readings of steps. Out: `Series`. It measures nothing and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from modules.contract import Json


@dataclass(frozen=True)
class Limit:
    """A named limit of a curve: for a trigger `side` is where the alarm is, for a check it is where it should be."""

    value: float
    side: str
    section: str
    step: str

    @property
    def label(self) -> str:
        """The limit in words, to stand beside its line."""
        return f"{'alarm' if self.section == 'trigger' else 'good'} {self.side} {self.value:g}"


@dataclass
class Series:
    """A metric as the run saw it: points (unix seconds -> value), merged from every step that asked the same question."""

    host: str
    query: str
    points: dict[float, float] = field(default_factory=dict)
    limits: list[Limit] = field(default_factory=list)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """The points in the order of time."""
        return sorted(self.points.items())


def add(series: dict[tuple[str, str], Series], host: str, step: str, reading: Mapping[str, Json]) -> None:
    """Takes the points and limits of a step's reading into the series of its host and query."""
    query = str(reading["_query"])
    one = series.setdefault((host, query), Series(host, query))
    for point in reading["_series"]:
        if len(point) == 2 and all(isinstance(x, int | float) and math.isfinite(x) for x in point):
            one.points[float(point[0])] = float(point[1])
    for side in ("below", "above"):
        value = reading.get("_" + side)
        if isinstance(value, int | float) and not isinstance(value, bool):
            limit = Limit(float(value), side, step.partition("/")[0], step)
            if limit not in one.limits:
                one.limits.append(limit)
