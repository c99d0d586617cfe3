"""`sweep run`."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sweep.cli.lists import numbers
from sweep.cli.options import (
    ProgramCommand,
    batches_option,
    config_options,
    lengths_options,
    load_config,
    named_option,
    other_setting_options,
    pattern_option,
    program_argument,
    same_command,
    storage_option,
    with_option,
    worker_options,
)
from sweep.cli.planned import run_plan
from sweep.errors import SweepError
from sweep.execution.signals import PAUSED


@click.command(cls=ProgramCommand)
@batches_option
@lengths_options
@pattern_option
@other_setting_options
@config_options
@named_option
@storage_option
@worker_options
@click.option("--trials", type=int, help="The study's total of trials, earlier runs included.")
@click.option("--until", help='Stop when less than this is left to gain, such as "1%".')
@click.option("--timeout", type=float, help="Seconds for the study, all its runs together.")
@click.option("--trial-timeout", type=float, help="Seconds for a trial, then it is tried anew.")
@click.option("--hang-timeout", type=float, help="Seconds of a trial's silence, likewise.")
@click.option(
    "--range",
    "range_",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="The rates searched; by default around the rules' rates.",
)
@with_option
@click.option(
    "--decay-range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="The weight decays searched; by default around where the search begins.",
)
@click.option(
    "--rates",
    callback=numbers,
    metavar="RATE[,...]",
    help="Train these rates to their end, and search nothing.",
)
@click.option(
    "--no-transfer", is_flag=True, help="Do not start from what finished studies forecast."
)
@click.option("--trainer", help='Your own training generator, "package.module:function".')
@click.option(
    "--same-program", is_flag=True, help="Go on although the program's script has changed."
)
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    help="Train the studies of a file that sweep plan wrote, in turn.",
)
@click.option("--join", is_flag=True, help="Work on a study beside the run that has it.")
@click.option("--dry-run", is_flag=True, help="Say what would be tried and what it would take.")
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
@program_argument
def command(
    json_lines: bool,
    dry_run: bool,
    range_: tuple[float, float] | None,
    batches: tuple[int, ...],
    epochs: tuple[int, ...],
    steps: tuple[int, ...],
    tokens: tuple[int, ...],
    no_transfer: bool,
    same_program: bool,
    plan_file: Path | None,
    join: bool,
    **flags: Any,
) -> None:
    """Searches the learning rate: starts a study, or goes on with it.

    After -- stands the command of your own training program, with {learning_rate} in it.

    With --with weight_decay, and {weight_decay} in it, that is searched too.

    Several batch sizes or lengths are studied in turn, each finished study a start for the next.
    With trainer.lr_schedule.name=wsd a longer trial goes on from where the decay of a shorter one
    of the same rate began.
    """
    from sweep.config.devices import describe_choice
    from sweep.results.study_plan import read_plan
    from sweep.view import study_view

    if range_ is not None:
        flags["range"] = list(range_)
    if no_transfer:
        flags["assignments"] += ("study.transfer=false",)
    if same_program:
        flags["assignments"] += ("study.same_program=true",)
    lengths = {"epochs": epochs, "steps": steps, "tokens": tokens}
    if plan_file is not None:
        _check_alone({"batch": batches, **lengths}, join=join, dry_run=dry_run)
        plan = read_plan(plan_file)
        if not run_plan(plan, flags, json_lines=json_lines, resume_command=same_command()):
            raise SystemExit(PAUSED)
        return
    if flags["decay_range"] is not None:
        flags["decay_range"] = list(flags["decay_range"])
    settings = itertools.product(batches or (None,), _combined(lengths))
    configs = [load_config(batch=batch, **length, **flags) for batch, length in settings]
    config = configs[0]
    asked = bool(flags.get("profile") or flags.get("device"))
    with study_view(config.study, json_lines=json_lines) as view:
        view.note(describe_choice(config.profile, config.device, asked=asked))
        from sweep.workflows.batches import run_batches, share_trunks, sharing

        configs = share_trunks(configs, view)
        if dry_run:
            from sweep.workflows.dry_run import dry_run as estimate

            for place, each in enumerate(configs):
                estimate(each, view, shorter=sharing(each, configs[:place]))
            return
        from sweep.orchestration.session import run_study
        from sweep.view.prediction import family_notes
        from sweep.view.report.dashboard import publisher

        how: dict[str, Any] = {"resume_command": same_command(), "join": join}
        how["before_release"] = publisher(config.study, view.warn)
        if len(configs) > 1:
            family = run_batches(configs, view, **how)
            done = family is not None
            for line in family_notes(family) if family else ():
                view.note(line)
        else:
            done = run_study(config, view, **how) is not None
    if not done:
        raise SystemExit(PAUSED)


def _combined(lengths: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """Each length that is asked for; a program may be told one in several units."""
    given = {name: values for name, values in lengths.items() if values}
    return [dict(zip(given, each, strict=True)) for each in itertools.product(*given.values())]


def _check_alone(settings: Mapping[str, tuple[int, ...]], *, join: bool, dry_run: bool) -> None:
    """Refuses what a plan has said already, or cannot do."""
    named = {f"--{name}": bool(values) for name, values in settings.items()}
    named |= {"--join": join, "--dry-run": dry_run}
    if given := [flag for flag, there in named.items() if there]:
        raise SweepError(f"--plan does not go with {given[0]}: leave it out")
