"""Checks the keys of a sweep.toml against those that there are."""

import difflib
from collections.abc import Iterable
from typing import Any

from sweep.errors import SweepError
from trainers.refusals import shown

Table = dict[str, Any]


def check_keys(table: Table, known: Table, where: str, prefix: str = "") -> None:
    """Refuses unknown keys, and tables where values belong or the other way round.

    Args:
        table: what the user wrote.
        known: a table with every key; a list of one table stands for [[tables]] with its keys.
        where: the file, or "--set".

    Raises:
        SweepError: names the key, and the nearest known one.
    """
    for key, value in table.items():
        name, allowed = f"{prefix}{key}", _allowed(known, prefix, key)
        if key not in allowed:
            raise SweepError(_unknown(name, [f"{prefix}{other}" for other in allowed], where))
        if isinstance(allowed[key], list) and name == "rules":
            _check_tables(value, allowed[key][0], where, name)
        elif isinstance(allowed[key], dict) != isinstance(value, dict):
            kind = "a table" if isinstance(allowed[key], dict) else "a value, not a table"
            raise SweepError(f"{where}: '{name}' must be {kind}, got {shown(value)}")
        elif isinstance(value, dict) and not _is_free(name):
            check_keys(value, known, where, f"{name}.")


def _check_tables(value: object, known: Table, where: str, name: str) -> None:
    if not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        raise SweepError(f"{where}: '{name}' must be tables, each under [[{name}]]")
    for each in value:
        check_keys({name: each}, {name: known}, where)


def _allowed(known: Table, prefix: str, key: str) -> Table:
    """The keys that may stand under a prefix; profiles and models may have any name."""
    parts = _without_profile(prefix.split(".")[:-1])
    if parts == ["profiles"]:
        return {key: {}}
    if parts == ["models"]:
        from trainers.models import MODELS  # loads torch, which `sweep init` can spare

        own = [key] if ":" in key else []
        return {name: {} for name in (*MODELS.names(), *own)}
    for part in parts:
        known = known[part]
    return known


def _is_free(name: str) -> bool:
    """Whether a table may have any keys: of a model, an optimizer, sbatch or a program's sizes."""
    parts = _without_profile(name.split("."))
    free = (["slurm", "extra"], ["trainer", "optimizer_options"], ["program", "sizes"])
    return parts in free or (len(parts) >= 2 and parts[0] == "models")


def _without_profile(parts: list[str]) -> list[str]:
    return parts[2:] if parts[:1] == ["profiles"] and len(parts) >= 2 else parts


def _unknown(key: str, known: Iterable[str], where: str) -> str:
    if ".".join(_without_profile(key.split("."))) == "trainer.learning_rate":
        return (
            f"{where}: '{key}' is what the sweep searches, so it has no one value: "
            "--range LOW HIGH (study.range) says between which rates"
        )
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else f": known are {', '.join(sorted(known))}"
    return f"{where}: unknown key '{key}'{hint}"
