"""The benchmark's tables: searchers and columns, means with standard errors over settings."""

import math
from collections.abc import Callable, Sequence

from clusters import clustered
from columns import COLUMNS
from driver import COVERED_AFTER, MARKS, MOST, Search

# A search's part of a mean: its amount and of how many; None where it has none.
Part = Callable[[Search], tuple[float, float] | None]

WIDE, NARROW = 30, 13  # characters


def tables(searches: Sequence[Search]) -> str:
    """All tables, as text."""
    shown = _Shown(searches)
    epochs = searches[0].epochs
    marks = {f"{mark * epochs} epochs": _excess(mark) for mark in MARKS}
    found = [
        f"Mean +- standard error, over {len({search.setting for search in searches})} settings",
        shown.table(
            "Epochs until a rate within 0.5 % of the best was trained to its end", {"": _epochs}
        ),
        shown.shares(),
        shown.table(f"Not found within {MOST * epochs} epochs, %", {"": _missed}),
        shown.table("How far the reported rate lies above the best perplexity, %", marks),
        shown.table('Stopped at "under 1 % left to gain", and 90 % intervals', CLAIMS),
        shown.table("Runs that were ended before their last epoch, %", ENDS, ends_early=True),
    ]
    return "\n\n".join(filter(None, found))


class _Shown:
    """Tables of searches: a line for each searcher and measure, a mean for each column."""

    def __init__(self, searches: Sequence[Search]) -> None:
        self._searches = searches
        self._columns = [c for c in COLUMNS if any(search.column == c for search in searches)]
        self._names = list(dict.fromkeys(search.searcher for search in searches))

    def table(self, title: str, measures: dict[str, Part], *, ends_early: bool = False) -> str:
        """One table; "" where no searcher has any of its measures.

        Args:
            title: above it.
            measures: a line of each searcher's, by its words.
            ends_early: whether it is of searchers that end runs early alone.
        """
        lines = [title, self._head()]
        names = self._names
        if ends_early:
            names = [n for n in names if any(s.early for s in self._searches if s.searcher == n)]
        for name in names:
            for words, part in measures.items():
                cells = [self._cell(name, column, part) for column in self._columns]
                if any(cells):
                    words = f"{name}, {words}" if words else name
                    shown = "".join(f"{cell or '-':>{NARROW}s}" for cell in cells)
                    lines.append(f"{words:{WIDE}s}{shown}")
        return "\n".join(lines) if len(lines) > 2 else ""

    def shares(self) -> str:
        """The first searcher's epochs as a share of each other's, in the searches of both."""
        first, *others = self._names
        lines = [f"Epochs that {first} takes, % of those of", self._head()]
        for name in others:
            cells = [self._share(first, name, column) for column in self._columns]
            lines.append(f"{name:{WIDE}s}" + "".join(f"{cell:>{NARROW}s}" for cell in cells))
        return "\n".join(lines) if others else ""

    def _share(self, first: str, other: str, column: str) -> str:
        mine, its = (
            {(s.setting, s.curve_seed, s.seed): _epochs(s)[0] for s in self._chosen(name, column)}
            for name in (first, other)
        )
        both = [key for key in mine if key in its]
        settings = [key[0] for key in both]
        share, error = clustered([100 * mine[k] for k in both], [its[k] for k in both], settings)
        return "-" if math.isnan(share) else f"{share:.0f}" + _plus_minus(error)

    def _head(self) -> str:
        return f"{'':{WIDE}s}" + "".join(f"{name:>{NARROW}s}" for name in self._columns)

    def _chosen(self, name: str, column: str) -> list[Search]:
        return [s for s in self._searches if (s.searcher, s.column) == (name, column)]

    def _cell(self, name: str, column: str, part: Part) -> str:
        chosen = self._chosen(name, column)
        known = [(*found, s.setting) for s in chosen if (found := part(s)) is not None]
        if not known:
            return ""
        mean, error = clustered(*zip(*known, strict=True))
        return "" if math.isnan(mean) else f"{mean:.1f}" + _plus_minus(error)


def _plus_minus(error: float) -> str:
    return "" if math.isnan(error) else f" +-{error:.1f}"


def _epochs(search: Search) -> tuple[float, float]:
    return search.found.get("0.5 %", search.end).epochs, 1


def _missed(search: Search) -> tuple[float, float]:
    return 100.0 * ("0.5 %" not in search.found), 1


def _excess(mark: int) -> Part:
    return lambda search: (100 * search.excess[mark], 1) if mark in search.excess else None


def _covered(after: int) -> Part:
    return lambda search: (100.0 * search.covered[after], 1) if after in search.covered else None


def _stopped(search: Search) -> tuple[float, float] | None:
    claims = bool(search.covered or search.stop)
    return (100.0 * (search.stop is not None), 1) if claims else None


def _stop_epochs(search: Search) -> tuple[float, float] | None:
    return (search.stop.epochs, 1) if search.stop else None


def _stop_excess(search: Search) -> tuple[float, float] | None:
    return (100 * search.stop.excess, 1) if search.stop else None


def _broken(search: Search) -> tuple[float, float] | None:
    return (100.0 * (search.stop.excess > 0.01), 1) if search.stop else None


def _surely_broken(search: Search) -> tuple[float, float] | None:
    return (100.0 * (search.stop.surely > 0.01), 1) if search.stop else None


def _stop_covered(search: Search) -> tuple[float, float] | None:
    if search.stop is None or search.stop.covered is None:
        return None
    return 100.0 * search.stop.covered, 1


CLAIMS: dict[str, Part] = {
    "stopped, %": _stopped,
    "epochs": _stop_epochs,
    "excess, %": _stop_excess,
    "excess over 1 %, %": _broken,
    "surely over 1 %, %": _surely_broken,
    **{f"covered after {n}, %": _covered(n) for n in COVERED_AFTER},
    "covered then, %": _stop_covered,
}
ENDS: dict[str, Part] = {
    "of all runs": lambda search: (100.0 * search.early, search.end.trainings),
    "wrong, of those": lambda search: (100.0 * search.wrong, search.early),
    "wrong, of all runs": lambda search: (100.0 * search.wrong, search.end.trainings),
}
