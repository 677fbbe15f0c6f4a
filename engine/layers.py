"""Boxes and edges -> places: a layered drawing of a graph without circles, as pure geometry.

In: the sizes of the boxes, in an order in which they could be walked, and the edges. Out: where each box stands and through
which points each edge runs, in the same unit. The way is the usual one (Sugiyama, Tagawa, Toda: Methods for Visual
Understanding of Hierarchical System Structures, 1981): layers by longest path, a point in every layer that a long edge
crosses, fewer crossings by the mean place of the neighbours, then places as near to the neighbours as the gaps allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
Edge = tuple[str, str]
#: How wide a point of a long edge is: room for the line, and no more.
_THIN = 12.0
_SWEEPS = 6


@dataclass(frozen=True)
class Spot:
    """Where a box stands: the middle of its upper side, its width and its height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Placed:
    """The drawing: the spot of every box, the points of every edge from upper to lower, and how much room it takes."""

    spots: Mapping[str, Spot]
    ways: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def place(sizes: Mapping[str, Point], edges: Iterable[Edge], gap: Point, first: Mapping[str, int] | None = None) -> Placed:
    """Lays the graph out. `sizes`: width and height by name; `gap`: the least distance across and down; `first`: the
    layer that a box stands in at least (0 is the uppermost). Edges lead from earlier to later names of `sizes`."""
    edges, layer = list(edges), dict(first or {})
    for name in sizes:
        layer[name] = max([layer.get(name, 0), *(layer[a] + 1 for a, b in edges if b == name)])
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in sizes:
        layers[layer[name]].append(name)
    layers = [names for names in layers if names]
    layer = {name: i for i, names in enumerate(layers) for name in names}
    chains = {edge: _bent(edge, layer, layers) for edge in edges}
    links = [link for chain in chains.values() for link in pairwise(chain)]
    _uncross(layers, links)
    wide = {name: sizes[name][0] if name in sizes else _THIN for names in layers for name in names}
    x = _across(layers, links, wide, gap[0])
    left = min((x[name] - wide[name] / 2 for name in x), default=0.0)
    right = max((x[name] + wide[name] / 2 for name in x), default=0.0)
    spots, y = {}, 0.0
    for names in layers:
        tall = max(sizes[name][1] for name in names if name in sizes)
        for name in names:
            spots[name] = Spot(x[name] - left, y, wide[name], sizes[name][1] if name in sizes else tall)
        y += tall + gap[1]
    ways = {edge: _way(chain, spots) for edge, chain in chains.items()}
    return Placed({name: spots[name] for name in sizes}, ways, right - left, max(y - gap[1], 0.0))


def _bent(edge: Edge, layer: Mapping[str, int], layers: list[list[str]]) -> list[str]:
    """The edge as a chain with a point in every layer between its ends."""
    a, b = edge
    chain = [a]
    for i in range(layer[a] + 1, layer[b]):
        chain.append(f"{a} > {b} @ {i}")
        layers[i].append(chain[-1])
    return [*chain, b]


def _way(chain: Sequence[str], spots: Mapping[str, Spot]) -> tuple[Point, ...]:
    """From the lower side of the first, straight down through the points between, to the upper side of the last."""
    points: list[Point] = []
    for i, name in enumerate(chain):
        spot = spots[name]
        points += [(spot.x, spot.y)] if i else []
        points += [(spot.x, spot.y + spot.height)] if i < len(chain) - 1 else []
    return tuple(points)


def _uncross(layers: list[list[str]], links: Sequence[Edge]) -> None:
    """Orders each layer by the mean place of its neighbours above, then below, a few times."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for names in layers if down else reversed(layers):
            at = {name: i for other in layers for i, name in enumerate(other)}
            near = {name: [at[a if down else b] for a, b in links if (b if down else a) == name] for name in names}
            key = {name: sum(near[name]) / len(near[name]) if near[name] else at[name] for name in names}
            names.sort(key=key.__getitem__)


def _across(
    layers: Sequence[Sequence[str]], links: Sequence[Edge], wide: Mapping[str, float], gap: float
) -> dict[str, float]:
    """The horizontal middles: as near to the mean of the neighbours as order and gaps allow."""
    x: dict[str, float] = {}
    for names in layers:
        x |= _apart(names, dict.fromkeys(names, 0.0), wide, gap)
    near: dict[str, list[str]] = {name: [] for name in x}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    for _ in range(_SWEEPS):
        for names in (*layers, *reversed(layers)):
            wanted = {
                name: sum(x[other] for other in near[name]) / len(near[name]) if near[name] else x[name] for name in names
            }
            x |= _apart(names, wanted, wide, gap)
    return x


def _apart(names: Sequence[str], wanted: Mapping[str, float], wide: Mapping[str, float], gap: float) -> dict[str, float]:
    """The places nearest to `wanted`, by least squares, that keep order and gaps: pooling of adjacent violators."""
    offset, at = {}, 0.0
    for name, after in zip(names, [*names[1:], names[-1]], strict=True):
        offset[name] = at
        at += (wide[name] + wide[after]) / 2 + gap
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for name in names:
        mean, count = wanted[name] - offset[name], 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return {name: mean + offset[name] for name, mean in zip(names, means, strict=True)}
