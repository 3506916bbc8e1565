"""Draw the rooms of python/qora_vision from its imports: docs/architecture.svg, and a table in the page.

    python tools/draw_architecture.py            # writes both
    python tools/draw_architecture.py --check    # fails if either differs from what the imports show

A room stands one floor above the highest room that it imports. `errors` is left out of floors and arrows,
since every room may import it; so is an arrow to a room that another arrow leads to by way of a third room.
"""

import argparse
import ast
import itertools
import sys
from html import escape
from pathlib import Path

from python_imports import read_sources, room_imports

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- begin: tools/draw_architecture.py -->", "<!-- end: tools/draw_architecture.py -->"

EVERYWHERE = "errors"
TITLES = {"": "qora_vision", "_core": "_core (csrc/)"}

BOX_WIDTH, BOX_HEIGHT = 248, 54
GAP = 36  # between boxes of a floor
LANE = 24  # width that a passing arrow takes
FLOOR_HEIGHT = 96
MARGIN = 24
LABEL_WIDTH = 64  # of the column with the numbers of the floors
SWEEPS = 400

Edges = dict[str, set[str]]
Node = tuple[str, str, int]  # a room (name, "", floor) or where an arrow passes a floor (from, to, floor)


def closure(edges: Edges, room: str) -> set[str]:
    """Find all rooms that a room imports, directly or by way of others."""
    found: set[str] = set()
    waiting = list(edges[room])
    while waiting:
        target = waiting.pop()
        if target not in found:
            found.add(target)
            waiting += edges[target]
    return found


def floors_of(edges: Edges) -> dict[str, int]:
    """Find the floor of each room, 0 on the ground."""
    for room in edges:
        if room in closure(edges, room):
            raise ValueError(f"'{room}' imports itself by way of other rooms: there are no floors")
    floors: dict[str, int] = {}
    while len(floors) < len(edges):
        for room, targets in edges.items():
            if room not in floors and targets <= set(floors):
                floors[room] = max((floors[target] + 1 for target in targets), default=0)
    return floors


def without_shortcuts(edges: Edges) -> Edges:
    """Leave out the edges that follow from others."""
    return {
        room: {
            target
            for target in targets
            if not any(target in closure(edges, other) for other in targets - {target})
        }
        for room, targets in edges.items()
    }


def arrow_chains(edges: Edges, floors: dict[str, int]) -> list[list[Node]]:
    """List the nodes of each arrow from the top down: its rooms, and where it passes the floors between."""
    chains = []
    for room in sorted(edges):
        for target in sorted(edges[room]):
            between = range(floors[room] - 1, floors[target], -1)
            passing = [(room, target, floor) for floor in between]
            chains.append([(room, "", floors[room]), *passing, (target, "", floors[target])])
    return chains


def width(node: Node) -> int:
    """Return the width of a node."""
    return LANE if node[1] else BOX_WIDTH


def spread(level: list[Node], wanted: dict[Node, float]) -> dict[Node, float]:
    """Place the nodes of a floor, in order, as near to what they want as their widths allow.

    Least squares: nodes that would overlap form a group, which stands where its members want it on average.
    """
    offsets, offset = {}, 0.0
    for node in level:
        offsets[node] = offset + width(node) / 2
        offset += width(node) + GAP
    groups: list[list[Node]] = []
    starts: list[float] = []
    for node in level:
        groups.append([node])
        starts.append(wanted[node] - offsets[node])
        while len(groups) > 1 and starts[-1] < starts[-2]:
            group = groups.pop(-2) + groups.pop()
            groups.append(group)
            starts[-2:] = [sum(wanted[each] - offsets[each] for each in group) / len(group)]
    return {
        node: start + offsets[node] for group, start in zip(groups, starts, strict=True) for node in group
    }


def crossings(levels: list[list[Node]], neighbours: dict[Node, list[Node]]) -> int:
    """Count the arrows that cross between floors."""
    count = 0
    for lower, upper in itertools.pairwise(levels):
        at = {node: i for i, node in enumerate(lower)}
        links = [(i, at[low]) for i, node in enumerate(upper) for low in neighbours[node] if low in at]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(links, 2))
    return count


def order(levels: list[list[Node]], neighbours: dict[Node, list[Node]]) -> list[list[Node]]:
    """Order each floor so that few arrows cross.

    For every order of the ground floor, each floor follows the mean of its neighbours below, then above.
    """
    best: list[list[Node]] = []
    for ground in itertools.permutations(levels[0]):
        tried = [list(ground), *(list(level) for level in levels[1:])]
        at = {node: float(i) for level in tried for i, node in enumerate(level)}
        for floors in (range(1, len(tried)), range(len(tried) - 2, 0, -1)):
            for floor in floors:
                means = {}
                for node in tried[floor]:
                    near = [at[other] for other in neighbours[node] if other[2] == floor - floors.step]
                    means[node] = sum(near) / len(near) if near else at[node]
                tried[floor].sort(key=means.__getitem__)
                at |= {node: float(i) for i, node in enumerate(tried[floor])}
        if not best or crossings(tried, neighbours) < crossings(best, neighbours):
            best = tried
    return best


def place(chains: list[list[Node]], floors: dict[str, int]) -> dict[Node, float]:
    """Find the middle of each node: nodes move to the mean of their neighbours, sweep by sweep."""
    neighbours: dict[Node, list[Node]] = {(room, "", floor): [] for room, floor in floors.items()}
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            neighbours.setdefault(upper, []).append(lower)
            neighbours.setdefault(lower, []).append(upper)
    unordered = [sorted(n for n in neighbours if n[2] == floor) for floor in range(max(floors.values()) + 1)]
    levels = order(unordered, neighbours)
    middles: dict[Node, float] = {node: float(i) for level in levels for i, node in enumerate(level)}
    for sweep in range(SWEEPS):
        for level in levels if sweep % 2 == 0 else reversed(levels):
            wanted = {}
            for node in level:
                near = [middles[other] for other in neighbours[node]]
                wanted[node] = sum(near) / len(near) if near else middles[node]
            middles.update(spread(level, wanted))
    leftmost = min(middle - width(node) / 2 for node, middle in middles.items())
    return {node: round(middle - leftmost, 1) for node, middle in middles.items()}


def caption(sources: dict[str, tuple[str, bool]], room: str) -> str:
    """Cut the docstring of a room at its first colon or full stop."""
    first = (ast.get_docstring(ast.parse(sources.get(room, ("", False))[0])) or "").partition("\n")[0]
    return first.partition(":")[0].partition(".")[0].replace("`", "")


def svg(edges: Edges, captions: dict[str, str]) -> str:
    """Draw the picture."""
    floors = floors_of(edges)
    chains = arrow_chains(without_shortcuts(edges), floors)
    middles = place(chains, floors)
    top_floor = max(floors.values())
    inner = max(middle + width(node) / 2 for node, middle in middles.items())
    page_width = round(MARGIN * 2 + LABEL_WIDTH + inner + GAP / 2)
    page_height = MARGIN * 2 + (top_floor + 1) * FLOOR_HEIGHT + BOX_HEIGHT - 12
    left = MARGIN + LABEL_WIDTH

    def top(floor: int) -> int:
        return MARGIN + (top_floor - floor) * FLOOR_HEIGHT + (FLOOR_HEIGHT - BOX_HEIGHT) // 2

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {page_width} {page_height}"'
        f' width="{page_width}" height="{page_height}" font-family="Helvetica, Arial, sans-serif">',
        "<title>The rooms of python/qora_vision; an arrow leads from a room to one that it imports</title>",
        f'<rect width="{page_width}" height="{page_height}" rx="10" fill="#ffffff"/>',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="#5b6b7b"/></marker></defs>',
    ]
    for floor in range(top_floor + 1):
        y = MARGIN + (top_floor - floor) * FLOOR_HEIGHT
        shade = "#f4f6f8" if floor % 2 == 0 else "#fafbfc"
        lines.append(
            f'<rect x="{MARGIN}" y="{y}" width="{page_width - 2 * MARGIN}" height="{FLOOR_HEIGHT}"'
            f' fill="{shade}"/>'
        )
        lines.append(
            f'<text x="{MARGIN + 12}" y="{y + FLOOR_HEIGHT // 2 + 5}" font-size="14" fill="#8695a3">'
            f"{floor}</text>"
        )
    for chain in chains:
        ends = middles[chain[0]], middles[chain[-1]]
        x, y = left + ends[0], float(top(chain[0][2]) + BOX_HEIGHT)
        path = f"M{x:g} {y:g}"
        for node in chain[1:]:
            following, arrival = left + middles[node], float(top(node[2]))
            is_last = node is chain[-1]
            bend = (arrival - y) / 2
            arrival -= 2 if is_last else 0
            path += f" C{x:g} {y + bend:g} {following:g} {arrival - bend:g} {following:g} {arrival:g}"
            if not is_last:
                arrival += BOX_HEIGHT
                path += f" L{following:g} {arrival:g}"
            x, y = following, arrival
        lines.append(
            f'<path d="{path}" fill="none" stroke="#5b6b7b" stroke-width="1.5" marker-end="url(#tip)"/>'
        )
    for room, floor in sorted(floors.items()):
        x = left + middles[room, "", floor] - BOX_WIDTH / 2
        y = top(floor)
        fill, stroke = ("#fff3df", "#c98a1b") if room == "_core" else ("#e3effb", "#3b77b3")
        lines += [
            f'<rect x="{x:g}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{fill}"'
            f' stroke="{stroke}" stroke-width="1.2"/>',
            f'<text x="{x + BOX_WIDTH / 2:g}" y="{y + 23}" font-size="15" font-weight="bold" fill="#1d2b38"'
            f' text-anchor="middle">{escape(title(room))}</text>',
            f'<text x="{x + BOX_WIDTH / 2:g}" y="{y + 42}" font-size="11" fill="#405060"'
            f' text-anchor="middle">{escape(captions[room])}</text>',
        ]
    y = page_height - MARGIN - BOX_HEIGHT + 18
    lines += [
        f'<rect x="{MARGIN}" y="{y}" width="{page_width - 2 * MARGIN}" height="34" rx="6" fill="#eceff2"'
        ' stroke="#8695a3" stroke-width="1.2"/>',
        f'<text x="{page_width / 2:g}" y="{y + 22}" font-size="13" fill="#1d2b38" text-anchor="middle">'
        f"{EVERYWHERE}: every room may import it</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def title(room: str) -> str:
    """Name a room in the picture."""
    return TITLES.get(room, room)


def table(edges: Edges) -> str:
    """List the rooms and their imports from the top floor down."""
    floors = floors_of(edges)
    rows = ["| floor | room | imports |", "|---|---|---|"]
    for room in sorted(edges, key=lambda room: (-floors[room], room)):
        names = sorted(edges[room], key=lambda target: (-floors[target], target))
        targets = ", ".join(f"`{target or 'qora_vision'}`" for target in names)
        rows.append(f"| {floors[room]} | `{room or 'qora_vision'}` | {targets or 'nothing'} |")
    return "\n".join(rows)


def drawn() -> dict[Path, str]:
    """Make picture and page from the imports as they are."""
    sources = read_sources()
    edges = {
        room: targets - {EVERYWHERE} for room, targets in room_imports(sources).items() if room != EVERYWHERE
    }
    picture = svg(edges, {room: caption(sources, room) for room in edges})
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the lines {BEGIN} and {END}")
    text = f"![The rooms of the package and what they import]({PICTURE.name})\n\n{table(edges)}"
    return {PICTURE: picture, PAGE: f"{before}{begin}\n{text}\n{end}{after}"}


def main(arguments: list[str] | None = None) -> int:
    """Write picture and table, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if out of date")
    options = parser.parse_args(arguments)
    stale = False
    for path, text in drawn().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if options.check:
            print(f"{path.relative_to(ROOT)} differs from the imports: run python tools/draw_architecture.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
