"""`sweep train`."""

import shlex
import sys
from pathlib import Path

import click

from sweep.cli.options import ProgramCommand, count, program_argument
from sweep.execution.signals import PAUSED
from sweep.execution.threads import bind

UNFINISHED = 1


@click.command(cls=ProgramCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), help="More epochs than the sweep's.")
@click.option("--steps", type=click.IntRange(min=1), help="Or so many optimizer steps.")
@click.option("--tokens", type=count, help="Or so many tokens: 2e8.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, here or the trial's.")
@click.option("--directory", help="For checkpoints.  [default: runs/train/NAME-OF-FILE]")
@click.option("--device", help="cpu, cuda, cuda:1, cuda:0,1; by default as found.")
@click.option("--model", help="Allow the file's own model, package.module:factory.")
@click.option("--trainer", help="Allow the file's own trainer, package.module:function.")
@click.option("--data", help="Allow the file's own source of text, package.module:function.")
@click.option("--optimizer", help="Allow the file's own optimizer, package.module:Class.")
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
@program_argument
def command(
    file: Path,
    epochs: int | None,
    steps: int | None,
    tokens: int | None,
    resume: bool,
    directory: str | None,
    device: str | None,
    model: str | None,
    trainer: str | None,
    data: str | None,
    optimizer: str | None,
    json_lines: bool,
    program: tuple[str, ...],
) -> None:
    """Trains a configuration that `sweep export` wrote."""
    if not trainer and device in (None, "cpu"):
        bind()  # this process trains; read when torch is loaded
    from sweep.config.devices import check_device, cuda_found
    from sweep.config.load import read_user_file
    from sweep.errors import SweepError
    from sweep.results.export import read
    from sweep.view import make_view
    from sweep.workflows.train import check_code, prepare, train, with_length
    from trainers.report import Outcome

    if directory is not None and not directory.strip():
        raise SweepError("--directory is empty: name a folder for the checkpoints")
    exported = with_length(read(file), epochs=epochs, steps=steps, tokens=tokens)
    own = read_user_file(None)
    keys = ("study", "trainer"), ("data", "name"), ("trainer", "optimizer")
    named = own.get("model"), *(own.get(table, {}).get(key) for table, key in keys)
    known = own.get("program", {})
    command = (*(program or known.get("command", ())), *known.get("resume", ()))
    allowed = (*named, model, trainer, data, optimizer, shlex.join(command))
    check_code(exported, allowed=set(map(str, allowed)))
    device = device or ("cuda" if cuda_found() else "cpu")
    check_device(device, several=True)
    target = Path(directory) if directory else Path("runs") / "train" / file.stem
    with make_view(json_lines=json_lines, stream=sys.stdout) as view:
        prepare(exported, target, view, resume=resume)
        ended = train(exported, target, device, view)
        view.note(f"{ended.message}; checkpoints are in {target}")
    if ended.outcome is Outcome.PAUSED:
        raise SystemExit(PAUSED)
    if ended.outcome not in (Outcome.COMPLETED, Outcome.EARLY_STOPPED):
        raise SystemExit(UNFINISHED)
