"""Plain ASCII tables for a terminal: columns as wide as their widest cell, the last one wrapped."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from ops.words import printable

WIDTH = 110


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = (), width: int = WIDTH) -> str:
    """`right` names the columns that are aligned to the right. Every cell is made safe for any console."""
    cells = [[_safe(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[index]) for row in cells)]) for index, head in enumerate(heads[:-1])]
    room = max(width - sum(widths) - 2 * len(widths), 20)
    out = [_line(heads, heads, widths, right), "  ".join("-" * w for w in [*widths, max(len(heads[-1]), min(room, 20))])]
    for row in cells:
        first, *more = textwrap.wrap(row[-1], room) or [""]
        out.append(_line([*row[:-1], first], heads, widths, right))
        out += [_line([""] * len(widths) + [part], heads, widths, right) for part in more]
    return "\n".join(out)


def _line(cells: Sequence[str], heads: Sequence[str], widths: Sequence[int], right: Collection[str]) -> str:
    aligned = [
        cell.rjust(width) if head in right else cell.ljust(width)
        for cell, head, width in zip(cells[:-1], heads, widths, strict=False)
    ]
    return "  ".join([*aligned, cells[-1]]).rstrip()


def _safe(text: str) -> str:
    return printable(text).encode("ascii", "backslashreplace").decode("ascii")
