"""A diagram of tables: boxes with their columns, and a line for each foreign key to the table that it refers to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import mean
from unicodedata import east_asian_width

from safe_migrations.fleet.layers import Layers, Node, layers_of, tops_of
from safe_migrations.schema.structure import Column, ForeignKey, Table

# In pixels; all letters have one width.
LETTER, LINE, PADDING = 7.3, 18, 10
GAP, CHANNEL, MARGIN, WIDTH = 20, 72, 12, 900
LONG_NAME, LONG_TYPE = 34, 26  # letters
MANY_COLUMNS, MANY_TABLES = 16, 30  # beyond them, a box has only the columns of keys


@dataclass(frozen=True)
class Row:
    """A column in a box.

    Attributes:
        column: its name.
        name: the same, shortened if it is long.
        type: shortened if it is long; with a question mark where a row may have no value.
        key: `PK`, `FK`, both, or empty.
        title: the tooltip: what was shortened, in full; values, default and comment.
    """

    column: str
    name: str
    type: str
    key: str
    title: str


@dataclass(frozen=True)
class Box:
    """A table.

    Attributes:
        table: its name.
        name: the same, shortened if it is long.
        title: the tooltip: the name in full if it was shortened, and the comment.
        rows: its columns.
        omitted: how many of its columns are not shown.
    """

    table: str
    name: str
    title: str
    rows: tuple[Row, ...]
    omitted: int
    width: float
    height: float
    x: float = 0
    y: float = 0

    def y_of(self, column: str) -> float:
        """The middle of a column's row; of the title if the row is not shown."""
        names = [row.column for row in self.rows]
        return self.y + PADDING + LINE * (names.index(column) + 1.5 if column in names else 0.5)


@dataclass(frozen=True)
class Line:
    """A foreign key.

    Attributes:
        path: as SVG has it.
        title: the columns, and what they refer to.
        is_optional: whether a row may refer to no row.
    """

    path: str
    title: str
    is_optional: bool


@dataclass(frozen=True)
class Diagram:
    """A diagram of tables, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Place:
    """Where a line crosses a layer."""

    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 8


def draw(tables: Sequence[Table]) -> Diagram:
    """Draw tables: those with foreign keys in layers, the others in rows below."""
    boxes = {table.name: _box(table, len(tables) > MANY_TABLES) for table in tables}
    keys = [(table.name, key) for table in tables for key in table.foreign_keys if key.table in boxes]
    layers = layers_of({(name, key.table) for name, key in keys if name != key.table})
    placed = _in_layers(layers, boxes)
    below = max((item.y + item.height + GAP for item in placed.values()), default=MARGIN)
    width = max((item.x + item.width for item in placed.values()), default=0)
    drawn = {name: item for name, item in placed.items() if isinstance(name, str) and isinstance(item, Box)}
    drawn |= _in_rows({name: box for name, box in boxes.items() if name not in placed}, below, max(width, WIDTH))
    return Diagram(
        round(max((box.x + box.width for box in drawn.values()), default=0) + CHANNEL / 2 + MARGIN),
        round(max((box.y + box.height for box in drawn.values()), default=0) + MARGIN),
        tuple(drawn[name] for name in sorted(drawn)),
        tuple(_line(drawn[name], key, drawn[key.table], placed, layers) for name, key in keys),
    )


def _box(table: Table, is_large: bool) -> Box:
    foreign = {name for key in table.foreign_keys for name in key.columns}
    of_keys = {column.name for column in table.columns if column.is_primary} | foreign
    others = [column.name for column in table.columns if column.name not in of_keys]
    shown = of_keys | set([] if is_large else others[: max(0, MANY_COLUMNS - len(of_keys))])
    rows = tuple(_row(column, foreign) for column in table.columns if column.name in shown)
    omitted = len(table.columns) - len(rows)
    name = _shortened(table.name, LONG_NAME)
    letters = max([_letters(name), *(_letters(f"{row.name} {row.key}  {row.type}") for row in rows)])
    return Box(
        table.name,
        name,
        "\n".join(filter(None, [table.name if name != table.name else "", table.comment])),
        rows,
        omitted,
        width=round(letters * LETTER) + 2 * PADDING,
        height=LINE * (1 + len(rows) + bool(omitted)) + 2 * PADDING,
    )


def _row(column: Column, foreign: set[str]) -> Row:
    name, type_ = _shortened(column.name, LONG_NAME), _shortened(column.type, LONG_TYPE)
    long = [text for text, shown in ((column.name, name), (column.type, type_)) if text != shown]
    return Row(
        column.name,
        name,
        type_ + "?" * column.is_nullable,
        " ".join(mark for mark, holds in (("PK", column.is_primary), ("FK", column.name in foreign)) if holds),
        "\n".join(filter(None, [*long, ", ".join(column.values), column.default, column.comment])),
    )


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _letters(text: str) -> int:
    """The width of a text; letters of East Asia are twice as wide."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in text)


def _in_layers(layered: Layers, boxes: dict[str, Box]) -> dict[Node, Box | _Place]:
    placed: dict[Node, Box | _Place] = {}
    x = MARGIN
    for layer in layered.layers:
        items = [boxes[node] if isinstance(node, str) else _Place() for node in layer]
        width = max(item.width for item in items)
        tops = accumulate((item.height + GAP for item in items), initial=0.0)
        placed |= {
            node: replace(item, x=x, y=top, width=width) for node, item, top in zip(layer, items, tops, strict=False)
        }
        x += round(width) + CHANNEL
    for layer in (*layered.layers[1:], *layered.layers[::-1], *layered.layers):
        wanted = [
            mean(placed[other].y + placed[other].height / 2 for other in layered.neighbours[node])
            - placed[node].height / 2
            for node in layer
        ]
        places = tops_of([placed[node].height for node in layer], wanted, GAP)
        placed |= {node: replace(placed[node], y=top) for node, top in zip(layer, places, strict=True)}
    above = min((item.y for item in placed.values()), default=0) - MARGIN
    return {node: replace(item, y=round(item.y - above)) for node, item in placed.items()}


def _in_rows(boxes: dict[str, Box], y: float, width: float) -> dict[str, Box]:
    placed: dict[str, Box] = {}
    x, tallest = MARGIN, 0.0
    for name, box in boxes.items():
        if x > MARGIN and x + box.width > width:
            x, y, tallest = MARGIN, y + tallest + GAP, 0
        placed[name] = replace(box, x=x, y=y)
        x, tallest = x + round(box.width) + GAP, max(tallest, box.height)
    return placed


def _line(source: Box, key: ForeignKey, target: Box, placed: dict[Node, Box | _Place], layers: Layers) -> Line:
    """From the row of the key to the title of the table that it refers to, with an arrow there."""
    start, end = source.y_of(key.columns[0]), target.y_of("")
    if source is target:
        x, out = source.x + source.width, source.x + source.width + CHANNEL / 2
        path = f"M{x:g},{start:g}C{out:g},{start:g} {out:g},{end:g} {x:g},{end:g}" + _arrow(x, end, 1)
    else:
        nodes = layers.path(source.table, target.table)
        between = [placed[node] for node in nodes[1:-1]]
        path = _path([(source, start), *((place, place.y + place.height / 2) for place in between), (target, end)])
    title = f"{source.table} ({', '.join(key.columns)}) → {key.table} ({', '.join(key.referred_columns)})"
    return Line(path, title, key.is_nullable)


def _path(stations: Sequence[tuple[Box | _Place, float]]) -> str:
    """From the side of the first station to the side of the last one, across those between."""
    path, to_left = "", 1
    for (one, start), (other, end) in pairwise(stations):
        to_left = 1 if other.x < one.x else -1
        x, to = (one.x, other.x + other.width) if to_left == 1 else (one.x + one.width, other.x)
        path += (
            f"{'L' if path else 'M'}{x:g},{start:g}C{(x + to) / 2:g},{start:g} {(x + to) / 2:g},{end:g} {to:g},{end:g}"
        )
    return path + _arrow(to, end, to_left)


def _arrow(x: float, y: float, direction: int) -> str:
    return f"M{x + 7 * direction:g},{y - 4:g}L{x:g},{y:g}L{x + 7 * direction:g},{y + 4:g}"
