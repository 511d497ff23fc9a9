"""The places of boxes in a diagram: in layers, so that each line leads to a box further left.

The method of Sugiyama, Tagawa and Toda: https://en.wikipedia.org/wiki/Layered_graph_drawing
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import mean

_SWEEPS = 6  # over all layers, to order them

Edge = tuple[str, str]
Node = str | tuple[str, str, int]  # a box, or the place where the line between two boxes crosses a layer


@dataclass(frozen=True)
class Layers:
    """Boxes in layers.

    Attributes:
        layers: from the left, each from the top.
        paths: for each two boxes with a line, the left one, the places that the line crosses, and the right one.
        neighbours: of each box and place, in the layers beside it.
    """

    layers: list[list[Node]]
    paths: dict[Edge, list[Node]]
    neighbours: dict[Node, list[Node]]

    def path(self, one: str, other: str) -> list[Node]:
        """The nodes from one box to another one that it has a line to."""
        return self.paths[one, other] if (one, other) in self.paths else self.paths[other, one][::-1]


def layers_of(edges: Collection[Edge]) -> Layers:
    """Put boxes in layers, with a place for each line in each layer that it crosses.

    Args:
        edges: each from a box to one that belongs to its left; one that closes a circle leads to the right.
    """
    pairs = _without_circles(edges)
    levels = _levels(pairs)
    layers: list[list[Node]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for name in sorted(levels):
        layers[levels[name]].append(name)
    paths: dict[Edge, list[Node]] = {}
    neighbours: dict[Node, list[Node]] = {}
    for right, left in pairs:
        places: list[Node] = [(left, right, level) for level in range(levels[left] + 1, levels[right])]
        for level, place in enumerate(places, levels[left] + 1):
            layers[level].append(place)
        paths[left, right] = [left, *places, right]
        for one, other in pairwise(paths[left, right]):
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
    _reduce_crossings(layers, neighbours)
    return Layers(layers, paths, neighbours)


def tops_of(heights: Sequence[float], wanted: Sequence[float], gap: float) -> list[float]:
    """Where the boxes of a layer begin: near their neighbours, without overlaps."""
    offsets = [0.0, *accumulate(height + gap for height in heights)][: len(heights)]
    blocks: list[list[float]] = []  # boxes that touch move as one
    for offset, top in zip(offsets, wanted, strict=True):
        blocks.append([top - offset])
        while len(blocks) > 1 and mean(blocks[-2]) > mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = (mean(block) for block in blocks for _ in block)
    return [offset + distance for offset, distance in zip(offsets, moved, strict=True)]


def _without_circles(edges: Collection[Edge]) -> list[Edge]:
    """The edges in an order in which targets come first; an edge that closes a cycle is reversed."""
    targets: dict[str, set[str]] = {name: set() for edge in edges for name in edge}
    for name, target in edges:
        targets[name].add(target)
    seen: set[str] = set()
    left: list[str] = []

    def visit(name: str) -> None:
        seen.add(name)
        for target in sorted(targets[name]):
            if target not in seen:
                visit(target)
        left.append(name)

    for name in sorted(targets):
        if name not in seen:
            visit(name)
    position = {name: number for number, name in enumerate(left)}
    pairs = {(one, other) if position[one] > position[other] else (other, one) for one, other in edges if one != other}
    return sorted(pairs, key=lambda pair: (position[pair[0]], position[pair[1]]))


def _levels(pairs: Sequence[Edge]) -> dict[str, int]:
    levels: dict[str, int] = {}
    for name, target in pairs:
        levels[name] = max(levels.get(name, 0), levels.setdefault(target, 0) + 1)
    for target in {target for _, target in pairs} - {name for name, _ in pairs}:  # as near as possible to its sources
        levels[target] = min(levels[name] for name, its_target in pairs if its_target == target) - 1
    return levels


def _reduce_crossings(layers: list[list[Node]], neighbours: dict[Node, list[Node]]) -> None:
    """Order each layer by the neighbours in the previous layer, to the right and back again."""
    position = {node: place for layer in layers for place, node in enumerate(layer)}
    level = {node: number for number, layer in enumerate(layers) for node in layer}
    for sweep in range(_SWEEPS):
        step = 1 if sweep % 2 == 0 else -1
        for layer in layers[::step]:
            centres = {
                node: mean(beside)
                for node in layer
                if (beside := [position[other] for other in neighbours[node] if level[other] == level[node] - step])
            }
            layer.sort(key=lambda node: centres.get(node, position[node]))
            position.update((node, place) for place, node in enumerate(layer))
