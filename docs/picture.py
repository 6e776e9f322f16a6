"""Draws the picture of a practice session for README: four symbols' prices, entries, stops and exits, and lines of its log.

    python live_runner.py run --config DIR/config.yaml
    python docs/picture.py --run-dir DIR > docs/session.svg

DIR holds the config.yaml, data/ and logs/ of the run. Trades and stops come from its report, fills and lines from its log; the
price paths are those of the practice market for that config. Nothing is drawn that did not happen. Plain SVG, written by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any

from session_run import LogLine, Run, epoch_ms, excerpt, read_run, roles

WIDTH, MARGIN, GAP = 900, 20, 16
PANEL_W, PANEL_H = (WIDTH - 2 * MARGIN - GAP) // 2, 236
PLOT_TOP, PLOT_BOTTOM, PLOT_RIGHT = 50, 22, 54  # around the plot, inside a panel
TOP = 66
ROW_H = 17
COLUMNS = (12, 100, 148, 220, 332, 848)  # of the terminal: time, thread, symbol, change, cause, and the end of the order id
INK, MUTED, FAINT, LINE = "#1f2328", "#59636e", "#6e7781", "#d1d9e0"
CARD, PANEL, PRICE = "#ffffff", "#f6f8fa", "#57606a"
GREEN, RED, AMBER, BLUE = "#1a7f37", "#cf222e", "#9a6700", "#0969da"
TINTS = {True: "#dafbe1", False: "#ffebe9"}
SANS = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
EXITS = {"stop": "stopped out", "trail": "trailed out", "cutoff": "closed at the cutoff"}


def text(x: float, y: float, words: str, size: float = 11, fill: str = INK, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, extra: str = "") -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{stroke}" fill="none"{extra}/>'


def signed(money: Decimal) -> str:
    return f"{money:+}".replace("-", "\u2212")


LABEL_W = 42  # of an amount
BOLD = ' font-weight="600"'
HALO = f' paint-order="stroke" stroke="{PANEL}" stroke-width="3.5" stroke-linejoin="round"'


class Panel:
    """One symbol's day in a box at (left, top)."""

    def __init__(self, run: Run, symbol: str, left: float, top: float) -> None:
        self.run, self.symbol, self.left, self.top = run, symbol, left, top
        self.trades = run.trades(symbol)
        self.setup = run.setup(symbol)
        self.from_ms = run.session.open_ms
        last_ms = max(epoch_ms(trade["exit_time"]) for trade in self.trades)
        self.to_ms = min(last_ms + max((last_ms - self.from_ms) // 6, 600_000), run.session.close_ms)
        self.points = [(at, price) for at, price in run.prices[symbol] if at <= self.to_ms]
        levels = [price for _, price in self.points] + [Decimal(level) for t in self.trades for _, level in t["stop_path"]]
        room = (max(levels) - min(levels)) / 9
        self.low, self.high = min(levels) - room, max(levels) + room

    def x(self, at_ms: int) -> float:
        part: float = (at_ms - self.from_ms) / (self.to_ms - self.from_ms)
        return self.left + 12 + (PANEL_W - PLOT_RIGHT - 12) * part

    def y(self, price: Decimal) -> float:
        height = PANEL_H - PLOT_TOP - PLOT_BOTTOM
        part = float((self.high - price) / (self.high - self.low))
        return self.top + PLOT_TOP + height * part

    def draw(self) -> list[str]:
        box = f'<rect x="{self.left}" y="{self.top}" width="{PANEL_W}" height="{PANEL_H}" rx="8" fill="{PANEL}" stroke="{LINE}"/>'
        return [box, *self._head(), *self._trips(), *self._grid(), *self._price(), *self._stops(), *self._marks()]

    def _head(self) -> list[str]:
        row = next(row for row in self.run.report["symbols"] if row["symbol"] == self.symbol)
        made = Decimal(row["realized_pnl"])
        x, y = self.left + 12, self.top + 21
        return [
            text(x, y, self.symbol, 14, INK, extra=BOLD),
            text(x, y + 16, self._story(row), 11, MUTED),
            text(self.left + PANEL_W - 12, y, signed(made), 14, GREEN if made > 0 else RED, "end", BOLD),
        ]

    def _story(self, row: dict[str, Any]) -> str:
        """In words: from the report and the log."""
        parts = [cause for found in self.run.bought(self.symbol) if (cause := found[2])]
        words = (
            [f"filled in parts ({' + '.join(parts)}), unprotected for {row['max_unprotected_ms']} ms at most"] if parts else []
        )
        reasons = [trade["reason"] for trade in self.trades]
        if len(reasons) > 1 and len(set(reasons)) == 1:
            words.append(f"{EXITS.get(reasons[0], reasons[0])} {len(reasons)} times")
        else:
            words.append(", entered again, ".join(EXITS.get(reason, reason) for reason in reasons))
        if any(line.change == "denied" for line in self.run.lines(self.symbol)):
            words.append(f"a further trigger denied: {row['max_entries']} of {row['max_entries']} entries used")
        return ", ".join(words)

    def _trips(self) -> list[str]:
        """Behind everything: the time a position was held."""
        out = []
        for trade in self.trades:
            left, right = self.x(epoch_ms(trade["entry_time"])), self.x(epoch_ms(trade["exit_time"]))
            top, height = self.top + PLOT_TOP, PANEL_H - PLOT_TOP - PLOT_BOTTOM
            tint = TINTS[Decimal(trade["net"]) > 0]
            out.append(
                f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{height}" fill="{tint}" opacity="0.75"/>'
            )
        return out

    def _grid(self) -> list[str]:
        right, bottom = self.left + PANEL_W - PLOT_RIGHT, self.top + PANEL_H - PLOT_BOTTOM
        out = [line(self.left + 12, bottom, right, bottom, LINE)]
        for at in self._hours():
            x = self.x(epoch_ms(at))
            out += [line(x, bottom, x, bottom + 4, FAINT), text(x, bottom + 15, f"{at:%H:%M}", 9.5, MUTED, "middle")]
        entry, trigger = self.y(self.setup.entry_price), self.y(self.setup.trigger_price)
        for y, name, price, colour in (
            (entry, "entry", self.setup.entry_price, GREEN),
            (trigger, "trigger", self.setup.trigger_price, AMBER),
        ):
            out.append(line(self.left + 12, y, right, y, colour, ' stroke-dasharray="2 3" opacity="0.8"'))
            below = 3 if name == "entry" else 9 if trigger - entry < 12 else 3
            out.append(text(right + 4, y + below, f"{price}", 9.5, colour))
        return out

    def _hours(self) -> Iterator[datetime]:
        """Where the time axis is marked."""
        step = timedelta(minutes=15 if self.to_ms - self.from_ms < 5_400_000 else 30)
        at = self.run.at("00:00") + step
        while epoch_ms(at) < self.to_ms:
            if epoch_ms(at) > self.from_ms:
                yield at
            at += step

    def _price(self) -> list[str]:
        """Lowest and highest of each pixel: ticks are denser than that."""
        columns: dict[int, list[float]] = {}
        for at_ms, price in self.points:
            columns.setdefault(round(self.x(at_ms)), []).append(self.y(price))
        marks = []
        for x, found in columns.items():
            marks += [f"{x} {y:.1f}" for y in dict.fromkeys((found[0], min(found), max(found), found[-1]))]
        return [f'<path d="M{"L".join(marks)}" fill="none" stroke="{PRICE}" stroke-width="1" stroke-linejoin="round"/>']

    def _stops(self) -> list[str]:
        """Where the stop rested at the venue, until the position was gone."""
        out = []
        for trade in self.trades:
            steps = [(epoch_ms(at), Decimal(level)) for at, level in trade["stop_path"]]
            end_ms = epoch_ms(trade["exit_time"])
            path = [f"M{self.x(steps[0][0]):.1f} {self.y(steps[0][1]):.1f}"]
            for (_, _), (at_ms, level) in zip(steps, steps[1:], strict=False):
                path.append(f"H{self.x(at_ms):.1f}V{self.y(level):.1f}")
            path.append(f"H{self.x(max(end_ms, steps[-1][0])):.1f}")
            out.append(f'<path d="{"".join(path)}" fill="none" stroke="{RED}" stroke-width="1.8"/>')
        return out

    def _marks(self) -> list[str]:
        out: list[str] = []
        for at_ms, price, _ in self.run.bought(self.symbol):
            x, y = self.x(at_ms), self.y(price)
            out.append(f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{GREEN}" stroke="{PANEL}"/>')
        for trade in self.trades:
            out += self._exit(trade)
        return [*out, *self._labels()]

    def _exit(self, trade: dict[str, Any]) -> list[str]:
        x, y = self.x(epoch_ms(trade["exit_time"])), self.y(Decimal(trade["exit_price"]))
        net = Decimal(trade["net"])
        colour = GREEN if net > 0 else RED
        words = f"sold {trade['exit_price']}" if len(self.trades) == 1 else signed(net)
        began = self.x(epoch_ms(trade["entry_time"]))
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" stroke="{PANEL}" stroke-width="1.2"/>'
        if net <= 0 and x - began > LABEL_W:
            return [dot, text((began + x) / 2, y - 6, words, 10.5, colour, "middle")]
        return [dot, text(x + 8, y + 13, words, 11, colour, "start", BOLD + HALO)]

    def _labels(self) -> list[str]:
        """Words at the first entry and the longest stop path; the rest speaks by its colour."""
        longest = max(self.trades, key=lambda trade: len(trade["stop_path"]))
        steps = longest["stop_path"]
        out = []
        if len(steps) > 2:
            at, level = steps[len(steps) // 2]
            out.append(text(self.x(epoch_ms(at)) + 6, self.y(Decimal(level)) + 16, "trailing stop", 10.5, RED, extra=HALO))
        return out


def terminal(lines: Sequence[LogLine], top: float, title: str) -> tuple[list[str], float]:
    """A window with lines of the log; and where it ends."""
    height = 34 + ROW_H * len(lines) + 10
    width, left = WIDTH - 2 * MARGIN, MARGIN
    out = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="8" fill="{PANEL}" stroke="{LINE}"/>']
    out.append(f'<path d="M{left} {top + 26}h{width}" stroke="{LINE}"/>')
    out += [
        f'<circle cx="{left + 16 + 15 * n}" cy="{top + 13}" r="4.5" fill="{colour}"/>'
        for n, colour in enumerate(("#ff8182", "#d4a72c", "#4ac26b"))
    ]
    out.append(text(WIDTH / 2, top + 17, title, 11, MUTED, "middle"))
    rows = [row for number, one in enumerate(lines) for row in _row(one, top + 44 + ROW_H * number)]
    return [*out, f'<g font-family="{MONO}">', *rows, "</g>"], top + height


def _row(one: LogLine, y: float) -> list[str]:
    at, thread, symbol, change, cause, client_id = (MARGIN + column for column in COLUMNS)
    colour = _colour(one)
    return [
        text(at, y, one.time, 10.5, FAINT),
        text(thread, y, one.thread, 10.5, FAINT),
        text(symbol, y, "" if one.symbol == "-" else one.symbol, 10.5, INK, extra=BOLD),
        text(change, y, one.change, 10.5, colour),
        text(cause if one.change else change, y, one.cause, 10.5, INK if one.change else MUTED),
        text(client_id, y, one.client_id, 10.5, FAINT, "end"),
    ]


def _colour(one: LogLine) -> str:
    if one.change.endswith("FLAT"):
        return GREEN if "+" in one.cause else RED
    if one.change == "denied":
        return AMBER
    return GREEN if one.change in ("ENTERING -> LONG", "filled") else BLUE


def legend(y: float) -> list[str]:
    """What the marks mean, ending at the right margin."""
    dotted = ' stroke-dasharray="2 3"'
    marks: list[tuple[str, float, Callable[[float], str]]] = [
        ("price", 62, lambda x: line(x, y - 4, x + 18, y - 4, PRICE, ' stroke-width="1.2"')),
        ("trigger", 70, lambda x: line(x, y - 4, x + 18, y - 4, AMBER, dotted)),
        ("entry", 62, lambda x: line(x, y - 4, x + 18, y - 4, GREEN, dotted)),
        ("bought", 72, lambda x: f'<path d="M{x + 11} {y - 9}l5 9h-10z" fill="{GREEN}"/>'),
        ("stop at the venue", 126, lambda x: line(x, y - 4, x + 18, y - 4, RED, ' stroke-width="1.8"')),
        ("sold", 52, lambda x: f'<circle cx="{x + 11}" cy="{y - 4}" r="4" fill="{MUTED}"/>'),
        (
            "position held",
            92,
            lambda x: f'<rect x="{x + 3}" y="{y - 10}" width="14" height="11" fill="{TINTS[True]}" stroke="{LINE}"/>',
        ),
    ]
    x, out = WIDTH - MARGIN - sum(width for _, width, _ in marks), list[str]()
    for name, width, mark in marks:
        out += [mark(x), text(x + 22, y, name, 11, MUTED)]
        x += width
    return out


def draw(run: Run) -> str:
    role = roles(run)
    traded = [row["symbol"] for row in run.report["symbols"] if run.trades(row["symbol"])]
    chosen = [role[name] for name in ("trail", "reentry", "partial", "limit") if name in role]
    chosen += [symbol for symbol in traded if symbol not in chosen]
    body: list[str] = []
    for number, symbol in enumerate(chosen[:4]):
        row, column = divmod(number, 2)
        body += Panel(run, symbol, MARGIN + column * (PANEL_W + GAP), TOP + row * (PANEL_H + GAP)).draw()
    top = TOP + (min(len(chosen), 4) + 1) // 2 * (PANEL_H + GAP)
    window, bottom = terminal(excerpt(run, role), top, f"logs/live-{run.report['session']}.log (excerpt)")
    return page(run, [*body, *window], bottom + MARGIN)


def page(run: Run, body: Sequence[str], height: float) -> str:
    report = run.report
    day = date.fromisoformat(report["session"])
    made = Decimal(report["realized_pnl"])
    title = f"A {report['mode']} session on {run.config.broker.exchange}, {day.day} {day:%B %Y}"
    subtitle = f"{len(report['symbols'])} symbols, {len(report['trades'])} trades, {signed(made)}, flat at the end"
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{SANS}">'
    parts = [
        head,
        f"<title>{escape(title)}: {escape(subtitle)}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="12" fill="{CARD}" stroke="{LINE}"/>',
        text(MARGIN, 32, title, 18, INK, extra=BOLD),
        text(MARGIN, 51, subtitle, 12, MUTED),
        *legend(51),
        *body,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    parser = argparse.ArgumentParser(description="a picture of a practice session, as SVG on standard output")
    parser.add_argument("--run-dir", type=Path, required=True, help="holds config.yaml, data/ and logs/ of the run")
    write(draw(read_run(parser.parse_args(arguments).run_dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
