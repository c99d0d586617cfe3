"""The command line. A command is a module of `sweep.cli.commands` with a `command`; no registry.

A dash in a command's name is an underscore in its file's. Installed packages add commands by entry
points of the group `sweep.commands`.
"""

import contextlib
import difflib
import functools
import io
import signal
import sys
import traceback
from typing import NoReturn

import click

from sweep import __version__
from sweep.errors import NothingTrainedError, SweepError
from sweep.execution.process import open_what_is_closed, stand_in_for_an_account
from sweep.execution.signals import INTERRUPTED, PAUSING, end_early, handled
from sweep.execution.threads import sleep_when_idle
from trainers.errors import TrainerError
from trainers.finding import Kind, files_of

NOTHING_TRAINED, BAD_INPUT = 1, 2
PAUSABLE = ("run", "plan", "confirm", "train", "compare", "reproduce", "calibrate")

# In the order in which `sweep --help` lists them; what stands nowhere is listed last.
SECTIONS = {
    "Search": ("run", "try", "priors", "predict", "plan", "add"),
    "Look": ("status", "list", "show", "report", "dashboard"),
    "Go on with the result": ("confirm", "export", "train"),
    "Check": ("compare", "reproduce", "bench"),
    "Set up": ("init", "calibrate", "backup", "completion"),
}
OTHERS = "Others"


@functools.cache
def command_kind() -> Kind:
    """Where commands are found."""
    from sweep.cli import commands

    files = files_of(commands.__name__, commands.__path__, "command")
    return Kind(
        "command", "sweep.commands", {name.replace("_", "-"): path for name, path in files.items()}
    )


class Commands(click.Group):
    """Finds commands by their files and loads only the one that runs (all for --help)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the modules in `sweep.cli.commands`, and of what packages add."""
        return command_kind().names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads one command's module; what another package broke is a command that says so."""
        kind = command_kind()
        if cmd_name not in kind.built_in and cmd_name not in kind.names():
            return None
        try:
            command = kind.find(cmd_name)
        except TrainerError as error:
            return _broken(cmd_name, str(error))
        if isinstance(command, click.Command):
            return command
        of_kind = type(command).__name__
        return _broken(cmd_name, f'command "{cmd_name}" must be a click.Command, not a {of_kind}')

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first argument names, or says which are near."""
        name, kind = args[0], command_kind()
        if name not in kind.built_in and not name.startswith("-") and name not in kind.names():
            names = kind.names()
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
            raise SweepError(f"there is no command '{name}': {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by what they are for."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        listed = {name for section in SECTIONS.values() for name in section}
        others = [name for name in names if name not in listed]
        for title, section in {**SECTIONS, OTHERS: others}.items():
            found = [(name, self.get_command(ctx, name)) for name in section]
            if rows := [(name, each.get_short_help_str(room)) for name, each in found if each]:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _broken(name: str, message: str) -> click.Command:
    def tell() -> None:
        raise SweepError(message)

    whatever = {"ignore_unknown_options": True, "allow_extra_args": True}
    said = f"(cannot be loaded) {message}"
    return click.Command(name, whatever, tell, help=said, short_help=said)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sweep")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Finds the learning rate for a new batch size, precision or model size."""
    if context.invoked_subcommand in PAUSABLE:
        context.with_resource(handled(PAUSING, end_early))


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a user's error is one line on stderr and exit code 2."""
    if sys.platform == "win32":
        _fail("Windows is not supported: run it in WSL, the Windows Subsystem for Linux")
    given = sys.argv[1:] if arguments is None else arguments
    debug = given[:1] == ["--debug"]
    open_what_is_closed()
    stand_in_for_an_account()
    sleep_when_idle()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every letter
            stream.reconfigure(errors="replace")
    try:
        with handled((signal.SIGINT,), end_early):
            cli.main(arguments, prog_name="sweep", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click makes the one of the other
        _fail("stopped at once; the same command goes on", code=INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
    except click.ClickException as error:
        _fail(error.format_message())
    except NothingTrainedError as error:
        _fail(str(error), code=NOTHING_TRAINED)
    except (SweepError, TrainerError) as error:
        _fail(str(error), error if debug else None)
    except Exception as error:
        line = _outside_fault(error)
        if line is None:
            raise
        _fail(line, error if debug else None)


def _fail(message: str, error: Exception | None = None, code: int = BAD_INPUT) -> NoReturn:
    if error is not None:
        traceback.print_exception(error)
    with contextlib.suppress(OSError):  # there may be nobody left to read it
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
