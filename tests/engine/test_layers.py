"""The layered drawing as geometry: nothing overlaps, everything runs downwards, whatever the graph."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import layers
from engine.layers import Edge, Placed, Spot

GAP = (10.0, 20.0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, tuple[float, float]], list[Edge]]:
    """Boxes of several sizes, and edges from earlier to later ones."""
    count = draw(st.integers(1, 14))
    size = st.tuples(st.sampled_from([20.0, 100.0, 240.0]), st.sampled_from([10.0, 40.0, 90.0]))
    sizes = {f"n{i}": draw(size) for i in range(count)}
    pairs = [(f"n{a}", f"n{b}") for b in range(count) for a in range(b)]
    return sizes, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []


def _apart(a: Spot, b: Spot) -> bool:
    beside = abs(a.x - b.x) >= (a.width + b.width) / 2 + GAP[0] - 1e-6
    below = a.y + a.height + GAP[1] <= b.y + 1e-6 or b.y + b.height + GAP[1] <= a.y + 1e-6
    return beside or below


def _crosses(way: tuple[tuple[float, float], ...], spot: Spot) -> bool:
    """Whether a vertical piece of the way runs through the box; the pieces between layers run where no box stands."""
    return any(
        abs(ax - bx) < 1e-6 and abs(ax - spot.x) < spot.width / 2 and ay < spot.y + spot.height - 1e-6 and by > spot.y + 1e-6
        for (ax, ay), (bx, by) in pairwise(way)
    )


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_boxes_keep_their_distance_and_edges_run_downwards(graph: tuple[dict[str, tuple[float, float]], list[Edge]]) -> None:
    """Boxes do not overlap, edges join the right sides and pass no box, and all of it is inside the drawing."""
    sizes, edges = graph
    placed = layers.place(sizes, edges, GAP)
    assert list(sizes) == list(placed.spots)
    spots = list(placed.spots.items())
    assert all(_apart(a, b) for i, (_, a) in enumerate(spots) for _, b in spots[:i])
    for name, spot in spots:
        assert sizes[name] == (spot.width, spot.height)
        assert spot.x - spot.width / 2 >= -1e-6
        assert spot.x + spot.width / 2 <= placed.width + 1e-6
        assert 0 <= spot.y <= placed.height - spot.height + 1e-6
    assert set(edges) == set(placed.ways)
    for (a, b), way in placed.ways.items():
        first, last = placed.spots[a], placed.spots[b]
        assert (first.x, first.y + first.height) == way[0]
        assert (last.x, last.y) == way[-1]
        assert all(upper[1] <= lower[1] for upper, lower in pairwise(way))
        assert not any(_crosses(way, spot) for name, spot in spots if name not in (a, b))


def _place(text: str, *edges: str) -> Placed:
    return layers.place(
        dict.fromkeys(text.split(), (100.0, 40.0)), [(a, b) for a, b in (edge.split(">") for edge in edges)], GAP
    )


def test_a_chain_stands_in_one_column() -> None:
    """One below the other, with the gap between."""
    spots = _place("a b c", "a>b", "b>c").spots
    assert [(50.0, 0.0), (50.0, 60.0), (50.0, 120.0)] == [(spot.x, spot.y) for spot in spots.values()]


def test_the_middle_of_a_diamond_is_symmetric() -> None:
    """What parts and meets again stands above and below the middle of the two sides."""
    spots = _place("a b c d", "a>b", "a>c", "b>d", "c>d").spots
    assert spots["a"].x == spots["d"].x == (spots["b"].x + spots["c"].x) / 2
    assert 110.0 == abs(spots["b"].x - spots["c"].x)


def test_edges_that_would_cross_are_untangled() -> None:
    """Two pairs whose order differs are put in the same order."""
    spots = _place("a b x y", "a>y", "b>x").spots
    assert (spots["a"].x < spots["b"].x) == (spots["y"].x < spots["x"].x)


def test_boxes_without_edges_can_be_wrapped_into_rows() -> None:
    """`first` says in which layer a box stands at least."""
    placed = layers.place(dict.fromkeys("abc", (100.0, 40.0)), [], GAP, {"c": 1})
    assert [0.0, 0.0, 60.0] == [placed.spots[name].y for name in "abc"]
    assert 210.0 == placed.width


def test_nothing_takes_no_room() -> None:
    """A drawing of no boxes is empty."""
    assert Placed({}, {}, 0.0, 0.0) == layers.place({}, [], GAP)
