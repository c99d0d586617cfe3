"""Options that several commands share, and the configuration they make."""

import math
import shlex
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from sweep.cli.completing import study_completions
from sweep.cli.defaults import study_setting
from sweep.config.messages import FLAGS
from sweep.url import StorageUrl, masked

if TYPE_CHECKING:
    from sweep.config.schema import SweepConfig

MOST = 1e18  # of anything counted

Function = TypeVar("Function", bound=Callable[..., Any])


def _stack(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    return lambda function: reduce(lambda made, option: option(made), reversed(options), function)


def _database(_context: click.Context, _option: click.Parameter, text: str | None) -> StorageUrl:
    """The database of a command that reads no other setting."""
    return StorageUrl(study_setting("storage") if text is None else text)


def _study(context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """The study of such a command: the one that sweep.toml names is in sweep.toml's database."""
    named_storage = context.get_parameter_source("storage") is ParameterSource.COMMANDLINE
    return name if name is not None or named_storage else study_setting("name") or None


def count(text: str) -> int:
    """Reads a whole number above 0, which may be written 2e10; the type of an option."""
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        number = math.nan
    if not (1 <= number <= MOST and number.is_integer()):
        raise click.BadParameter(f"takes a whole number from 1 to {MOST:.0e}, got '{text}'")
    return int(number)


def _rising(
    read: Callable[[str], int],
) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Makes a callback that reads "32" or "32,128": rising and each once; none of an empty text."""

    def parse(_context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
        try:
            return tuple(sorted({read(part) for part in text.split(",")})) if text else ()
        except ValueError:
            raise click.BadParameter(
                f"takes an integer, or several with commas between, got '{text}'", param=option
            ) from None

    return parse


def _several(
    flag: str, read: Callable[[str], int], text: str, name: str = ""
) -> Callable[[Function], Function]:
    """An option of one number or several, with commas between."""
    names = (flag, name) if name else (flag,)
    return click.option(
        *names, default="", callback=_rising(read), metavar="INTEGER[,...]", help=text
    )


config_options = _stack(
    click.option(
        "--config", type=click.Path(path_type=Path), help="Take this file for sweep.toml."
    ),
    click.option("--profile", help="A profile of sweep.toml: cpu, cuda; by default as found."),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key, such as trainer.weight_decay=0.01.",
    ),
)
other_setting_options = _stack(
    click.option("--precision", help="fp32, tf32, fp16 or bf16."),
    click.option(
        "--metric", help="perplexity, validation_loss, bits_per_byte, or of your --trainer."
    ),
    click.option("--direction", help="minimize, or maximize it."),
    click.option("--seed", type=int, help="Of weights, data order, dropout and sampler."),
    click.option("--optimizer", help='adam, adamw, muon, sgd, or "package.module:Class".'),
    click.option("--device", help="cpu, cuda, cuda:1; by default as found."),
    click.option("--model", help='A model\'s name, or "package.module:factory".'),
    click.option(
        "--data", help='"docstrings", a file, a folder, a hub name, or your own function.'
    ),
)
# Of these alone `sweep plan` takes it: it says itself how long each study's trials are.
epochs_option = click.option("--epochs", type=int, help="Epochs a trial.")
length_options = _stack(
    epochs_option,
    click.option("--steps", type=int, help="Optimizer steps a trial, in place of epochs."),
    click.option("--tokens", type=count, help="Tokens a trial, in place of epochs: 2e8."),
)
pattern_option = click.option(
    "--pattern", help='How a program\'s output is read: "nanogpt", or a regular expression.'
)
with_option = click.option("--with", help="weight_decay: search it together with the rate.")
setting_options = _stack(
    click.option("--batch", type=int, help="Batch size, in sequences."),
    length_options,
    pattern_option,
    other_setting_options,
)
batches_option = _several(
    "--batch",
    int,
    "Batch size, in sequences; several (32,128,512) run in turn, the smallest first.",
    "batches",
)
lengths_options = _stack(
    _several("--epochs", int, "Epochs a trial; several (5,10,20) run in turn."),
    _several("--steps", int, "Optimizer steps a trial, in place of epochs; several likewise."),
    _several("--tokens", count, "Tokens a trial, in place of epochs: 2e8; or 1e8,2e8,4e8."),
)
worker_options = _stack(
    click.option("--workers", type=int, help="Worker processes on the CPU; they divide it."),
    click.option("--devices", help='CUDA devices, one worker each: 0,1,2 or "all".'),
    click.option("--executor", help="local, ray: on a Ray cluster, slurm: jobs of Slurm."),
    click.option("--ray-address", help="The cluster's address; by default it is found."),
    click.option("--gpus-per-trial", type=float, help="GPUs a trial; on Ray 0.5: two share one."),
)


class ProgramCommand(click.Command):
    """A command that may end with that of a program, behind "--"."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes nothing for a program's command that does not stand behind "--"."""
        own = args[: args.index("--")] if "--" in args else args
        rest = super().parse_args(ctx, list(args))
        program = ctx.params.get("program") or ()
        if len(program) > len(args) - len(own) - 1 and program:
            raise click.UsageError(
                f"Got unexpected extra argument ({program[0]}): a program's command stands after "
                '"--"',
                ctx,
            )
        return rest


program_argument = click.argument(
    "program", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]"
)
storage_option = click.option(
    "--storage", help="The database: an SQLite file or a URL.  [default: sqlite:///sweep.db]"
)
study_option = click.option(
    "--study",
    shell_complete=study_completions,
    help="The study's name.  [default: the one that ran last]",
)
# Of commands that read studies, and of sweep.toml no more than which: the storage is read first.
database_option = click.option(
    "--storage",
    is_eager=True,
    callback=_database,
    help="The database: an SQLite file or a URL.  [default: sweep.toml's, or sqlite:///sweep.db]",
)
stored_study_option = click.option(
    "--study",
    callback=_study,
    shell_complete=study_completions,
    help="The study's name.  [default: sweep.toml's, or the one that ran last]",
)
named_option = click.option(
    "--study",
    shell_complete=study_completions,
    help="The study's name.  [default: made of its model, batch, precision and data]",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace a file that is no earlier output of this command."
)


def warn(text: str) -> None:
    """One line on stderr that the user should not miss, of a command without a view."""
    click.echo(f"Warning: {text}", err=True)


def same_command() -> str:
    """The command line that was typed, but for a password in it: to go on with a sweep."""
    return shlex.join(["sweep", *map(masked, sys.argv[1:])])


def load_config(
    *,
    check: bool = True,
    config: Path | None = None,
    profile: str | None = None,
    assignments: tuple[str, ...] = (),
    **flags: Any,
) -> "SweepConfig":
    """Reads the configuration under the flags given.

    Args:
        check: whether the device must be there.

    Raises:
        SweepError: anything in it is wrong, or CUDA was asked for and there is none.
    """
    from sweep.config.devices import ELSEWHERE, check_device, cuda_found, devices_of
    from sweep.config.load import load

    program = flags.pop("program", ())
    given = {
        FLAGS[name.replace("_", "-")]: value for name, value in flags.items() if value is not None
    }
    if program:
        given["program.command"] = list(program)
    loaded = load(config, profile=profile, cuda=cuda_found(), assignments=assignments, flags=given)
    if check:
        if loaded.study.executor not in ELSEWHERE:
            check_device(loaded.device)
        devices_of(loaded)
    return loaded
