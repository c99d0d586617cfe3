"""What a program prints, read by patterns: regular expressions with named groups, line by line.

The groups are fields of a report: `step` and `validation_loss` or `perplexity` at least, or another
number by its own name. A line may give a step alone (`step`, `steps`): later ones without a step
are then at that one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trainers.errors import TrainerError
from trainers.refusals import shown

NUMBER = r"[-+]?(?:nan|inf(?:inity)?|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
LONGEST = 4096  # characters of a line that are read: its last ones
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NESTED = "\x1b[A"  # the way up from a bar below another one, such as an evaluation's
_EPOCH = rf"['\"]epoch['\"]: ['\"]?(?P<epoch>{NUMBER})"
_NUMBER = re.compile(NUMBER, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pattern:
    """How one kind of program prints.

    Attributes:
        expressions: the first that is found in a line says what it is.
        by_epoch: `step` and `steps` are of an epoch, counted from 0 by `epoch`; a bar shows the
            loss of the epoch before until the validation is done, so that the last line of an
            epoch counts.
        by_bar: what is printed is at the step of the bar that is drawn next, in a line of its own;
            without a bar, at thousandths of its `epoch`.
    """

    expressions: tuple[str, ...]
    by_epoch: bool = False
    by_bar: bool = False


NAMED = MappingProxyType(
    {
        # step 250: train loss 2.3924, val loss 2.4133
        "nanogpt": Pattern(
            (
                rf"step (?P<step>\d+): train loss (?P<train_loss>{NUMBER}), "
                rf"val loss (?P<validation_loss>{NUMBER})",
            )
        ),
        # {'eval_loss': '2.913', 'eval_runtime': '0.1', 'epoch': '1'}, below a bar " 5/100 [00:01<"
        "huggingface": Pattern(
            (
                rf"['\"]eval_loss['\"]: ['\"]?(?P<validation_loss>{NUMBER})(?:.*{_EPOCH})?",
                rf"['\"]loss['\"]: ['\"]?(?P<train_loss>{NUMBER})(?:.*{_EPOCH})?",
                r"^ *\d+%\|[^|]*\| *(?P<step>\d+)/(?P<steps>\d+) \[",
            ),
            by_bar=True,
        ),
        # Epoch 0: 100%|####| 100/100 [00:01<00:00, 99.1it/s, v_num=0, val_loss=2.340], or by rich
        # Epoch 0/4  ━━━━━━━━━ 100/100 0:00:01 • 0:00:00 99.1it/s v_num: 0 val_loss: 2.340
        "lightning": Pattern(
            (
                rf"Epoch (?P<epoch>\d+)(?:/\d+)?:? .*?(?P<step>\d+)/(?P<steps>\d+) .*"
                rf"\bval_loss[=:] ?(?P<validation_loss>{NUMBER})",
                r"Epoch (?P<epoch>\d+)(?:/\d+)?:? .*?(?P<step>\d+)/(?P<steps>\d+) ",
            ),
            by_epoch=True,
        ),
        # validate step: 10  loss:  5.5012  memory: 1.00GiB(1.30%)  tps: 1,000
        "torchtitan": Pattern(
            (
                rf"validate step: *(?P<step>\d+) +loss: *(?P<validation_loss>{NUMBER})",
                rf"\bstep: *(?P<step>\d+) +loss: *(?P<train_loss>{NUMBER})",
            )
        ),
        # step:125/1000 val_loss:3.2833 train_time:5000ms step_avg:40.00ms
        "modded-nanogpt": Pattern(
            (
                rf"step:(?P<step>\d+)/(?P<steps>\d+) val_loss:(?P<validation_loss>{NUMBER})"
                rf"(?: val_bpb:(?P<bits_per_byte>{NUMBER}))?",
                rf"step:(?P<step>\d+)/(?P<steps>\d+) (?:train_loss:(?P<train_loss>{NUMBER}))?",
            )
        ),
        # Step 00250 | Validation bpb: 0.981200
        "nanochat": Pattern(
            (
                rf"Step (?P<step>\d+) \| Validation bpb: (?P<bits_per_byte>{NUMBER})",
                rf"step (?P<step>\d+)/(?P<steps>\d+) .*\| loss: (?P<train_loss>{NUMBER})",
            )
        ),
        # val loss 4.512034, above and below "step   20/1000 | loss 4.6 ..."
        "llm.c": Pattern(
            (
                rf"\bval loss (?P<validation_loss>{NUMBER})",
                rf"\bstep +(?P<step>\d+)/(?P<steps>\d+) \|(?: train)? loss "
                rf"(?P<train_loss>{NUMBER})",
                rf"\bstep (?P<step>\d+): train loss (?P<train_loss>{NUMBER})",
            )
        ),
        # iter_dt 12.34ms; iter 100: train loss 3.21042
        "mingpt": Pattern((rf"\biter (?P<step>\d+): train loss (?P<train_loss>{NUMBER})",)),
        # Epoch 1/4, and below it "10/10 - 0s - loss: 2.9 - val_loss: 3.1": its steps are epochs
        "keras": Pattern(
            (
                r"^Epoch (?P<step>\d+)/(?P<steps>\d+)\s*$",
                rf" - val_loss: (?P<validation_loss>{NUMBER})",
            )
        ),
    }
)


class Patterns:
    """Reads a program's output.

    Args:
        pattern: a name of `NAMED`, or a regular expression.

    Raises:
        TrainerError: it is neither.
    """

    def __init__(self, pattern: str) -> None:
        known = NAMED.get(pattern) or Pattern((pattern,))
        self._expressions = [_compiled(text) for text in known.expressions]
        self._by_epoch, self._by_bar = known.by_epoch, known.by_bar
        self._step = self._steps = 0.0
        self._held: dict[str, float] = {}

    def read(self, line: str) -> Iterator[dict[str, float]]:
        """What a line says: fields of a report by their names; nothing where it says nothing."""
        line = line[-LONGEST:]
        found = {} if line.endswith(_NESTED) else self._found(_ANSI.sub("", line))
        if not found:
            return
        if self._by_epoch or self._by_bar:
            yield from self._of_epoch(found) if self._by_epoch else self._of_bar(found)
            return
        self._step = found.get("step", self._step)
        self._steps = found.get("steps", self._steps)
        steps = {"steps": self._steps} if self._steps else {}
        yield {"step": self._step, **steps, **found}

    def end(self) -> Iterator[dict[str, float]]:
        """What was still held back when the program ended."""
        if self._held:
            yield {"step": self._step, **self._held}
            self._held = {}

    def _found(self, line: str) -> dict[str, float]:
        for expression in self._expressions:
            # A bar redraws itself in one line: its last state counts.
            for match in list(expression.finditer(line))[-1:]:
                return _numbers(match.groupdict())
        return {}

    def _of_epoch(self, found: dict[str, float]) -> Iterator[dict[str, float]]:
        epoch, step, steps = found.pop("epoch"), found.pop("step"), found.pop("steps")
        now = {"step": epoch * steps + step, **found}
        if self._held and now["step"] > self._held["step"]:
            yield from self.end()
        if step in (0, steps):  # what is shown at an epoch's begin is of the one before
            self._held = now
        else:
            yield {"step": now["step"]}

    def _of_bar(self, found: dict[str, float]) -> Iterator[dict[str, float]]:
        epoch = found.pop("epoch", 0.0)
        if "step" not in found and self._steps:
            self._held |= found
        elif "step" not in found:
            yield {"step": round(1000 * epoch), **found}
        elif self._steps in (0.0, found["steps"]):  # another length is that of another bar
            self._step, self._steps = found["step"], found["steps"]
            yield {**found, **self._held}
            self._held = {}


def plain(line: str) -> str:
    """A line without colours and whatever else a terminal or a database would stumble over."""
    return "".join(c if c.isprintable() else " " for c in _ANSI.sub("", line)).strip()


def _compiled(text: str) -> re.Pattern[str]:
    try:
        expression = re.compile(text)
    except re.error as error:
        raise TrainerError(
            f"program.pattern {shown(text)} is no regular expression ({error}), and none of the "
            f"names {', '.join(NAMED)}"
        ) from None
    if not expression.groupindex:
        raise TrainerError(
            f"program.pattern {shown(text)} has no named groups, such as (?P<step>...) and "
            f"(?P<validation_loss>...), and is none of the names {', '.join(NAMED)}"
        )
    return expression


def _numbers(groups: Mapping[str, str | None]) -> dict[str, float]:
    """The groups that were found, as numbers; what is none, such as "n/a", is left out."""
    plain = {name: (text or "").strip().replace(",", "") for name, text in groups.items()}
    return {name: float(text) for name, text in plain.items() if _NUMBER.fullmatch(text)}
