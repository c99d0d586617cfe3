"""The command line. A command is a module of `sweep.cli.commands` with a `command`; no registry."""

import difflib
import importlib
import pkgutil
import sys

import click

from sweep import __version__
from sweep.errors import NothingTrainedError, SweepError
from sweep.execution.threads import sleep_when_idle
from trainers.errors import TrainerError

NOTHING_TRAINED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Commands(click.Group):
    """Finds commands by their files and loads only the one that runs (all for --help)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the modules in `sweep.cli.commands`."""
        from sweep.cli import commands

        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads one command's module."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"sweep.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first argument names, or says which are near."""
        names, name = self.list_commands(ctx), args[0]
        if name not in names and not name.startswith("-"):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
            raise SweepError(f"there is no command '{name}': {hint}")
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweep")
def cli() -> None:
    """Finds the learning rate for a new batch size, precision or model size."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a user's error is one line on stderr and exit code 2."""
    sleep_when_idle()
    try:
        cli.main(arguments, prog_name="sweep", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click makes the one of the other
        click.echo("sweep: stopped at once; the same command goes on", err=True)
        sys.exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
    except click.ClickException as error:
        _fail(error.format_message())
    except NothingTrainedError as error:
        _fail(str(error), NOTHING_TRAINED)
    except (SweepError, TrainerError) as error:
        _fail(str(error))
    except Exception as error:
        line = _outside_fault(error)
        if line is None:
            raise
        _fail(line)


def _fail(message: str, code: int = BAD_INPUT) -> None:
    click.echo("sweep: " + " ".join(message.split()), err=True)
    sys.exit(code)


def _outside_fault(error: Exception) -> str | None:
    """A line for what went wrong outside this program (disk, database); None for our own bugs."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    from studies.errors import StudyError
    from sweep.storage.retry import reason
    from trainers.faults import SMALLER, ending_of
    from trainers.report import Outcome

    ending = ending_of(error)
    if ending.outcome is Outcome.OUT_OF_MEMORY:
        return f"{ending.message}: {SMALLER}"
    if isinstance(error, StudyError):
        return str(error)
    if isinstance(error, DBAPIError | StorageInternalError):
        return f"the database cannot be used: {reason(error)}. What was stored before is kept"
    if isinstance(error, OSError):
        words = error.strerror or str(error)
        return f"{words}: {error.filename}" if error.filename else words
    return None
