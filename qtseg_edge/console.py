"""What the commands print: progress and notices on standard error, results on standard output.

rich is imported where it prints: it takes a tenth of a second, and a run to a pipe has its first result before it needs a table.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

_LINE_EVERY_SECONDS = 10.0
_PIPE_WIDTH = 1000  # nothing is cut short for a reader that is no screen


class OnProgress(Protocol):
    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


# Opens a bar for one step of several, as `progress` does: what is done, its unit, how many.
Steps = Callable[[str, str, int | None], AbstractContextManager[OnProgress]]


def notice(text: str) -> None:
    """One line for the reader, never part of the results. Nothing where nobody reads: that must not end what is told of."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=1, default=str))


def print_table(columns: list[str], rows: list[list[str]], title: str = "") -> None:
    """Left-aligned first column, right-aligned numbers. Texts are printed as they are: a file may be called `a[1].mp4`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    if title:
        console.print(title, soft_wrap=True)
    console.print(table)


def print_tables(tables: Iterable[tuple[list[str], list[list[str]], str]]) -> None:
    """Each with columns, rows and title; an empty line between two."""
    for index, (columns, rows, title) in enumerate(tables):
        if index:
            print()
        print_table(columns, rows, title)


@contextmanager
def progress(what: str, unit: str, total: int | None, shown: bool = True) -> Iterator[OnProgress]:
    """A bar with rate and remaining time on a terminal; elsewhere a plain line every ten seconds. shown: False for silence."""
    rate = _Rate()
    if not shown:
        yield _silence
        return
    if not sys.stderr.isatty():
        yield _PlainProgress(what, unit, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, note="")

        def update(done: int, total: int | None = total, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=f"{rate.at(done, total):.1f} {unit}/s {note}")

        yield update


def _silence(done: int, total: int | None = None, note: str = "") -> None:
    pass


class _PlainProgress:
    def __init__(self, what: str, unit: str, total: int | None) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._rate = _Rate()
        self._printed = time.perf_counter()

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        total = total or self._total
        rate = self._rate.at(done, total)
        now = time.perf_counter()
        if now - self._printed < _LINE_EVERY_SECONDS:
            return
        self._printed = now
        of = f"/{total}" if total else ""
        notice(f"{self._what}: {done}{of} {self._unit}, {rate:.1f} {self._unit}/s {note}".rstrip())


class _Rate:
    """Per second since the first call; begins anew with another total, which is another piece of work."""

    def __init__(self) -> None:
        self._started, self._begun_at, self._total = time.perf_counter(), 0, -1

    def at(self, done: int, total: int | None) -> float:
        now = time.perf_counter()
        if self._total == -1:
            self._begun_at, self._total = done - 1, total or 0
        elif self._total != (total or 0):
            self._started, self._begun_at, self._total = now, done, total or 0
        return (done - self._begun_at) / max(now - self._started, 1e-3)
