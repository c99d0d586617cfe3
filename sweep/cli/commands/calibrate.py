"""`sweep calibrate`."""

from pathlib import Path
from typing import Any

import click

from sweep.cli.options import (
    config_options,
    load_config,
    same_command,
    setting_options,
    storage_option,
    study_option,
    worker_options,
)
from sweep.execution.signals import PAUSED

BATCH, PRECISION = 32, "fp32"


@click.command()
@setting_options
@config_options
@study_option
@storage_option
@worker_options
@click.option("--trials", type=int, help="The study's total of trials, earlier runs included.")
@click.option("--timeout", type=float, help="Seconds for the study, all its runs together.")
@click.option("--json", "json_lines", is_flag=True, help="Write JSON lines.")
def command(json_lines: bool, config: Path | None, **flags: Any) -> None:
    """Measures a profile's reference: a sweep at batch 32 in FP32, written to sweep.toml."""
    from sweep.config.load import FILE_NAME
    from sweep.orchestration.session import run_study
    from sweep.results.lookup import open_study
    from sweep.results.objective import objective_of
    from sweep.results.report import build
    from sweep.view import study_view
    from sweep.view.report.dashboard import publisher
    from sweep.workflows.calibrate import check_metric, measured_reference, write_reference

    given = {name: value for name, value in flags.items() if value is not None}
    settings = load_config(config=config, **{"batch": BATCH, "precision": PRECISION, **given})
    check_metric(objective_of(settings.trainer))
    with study_view(settings.study, json_lines=json_lines) as view:
        view.note(f"calibrating profile {settings.profile} on {settings.device}")
        publish = publisher(settings.study, view.warn)
        summary = run_study(settings, view, resume_command=same_command(), before_release=publish)
        if summary is None:
            raise SystemExit(PAUSED)
        report = build(open_study(settings.study.storage, summary.name), settings.study.storage)
        reference = measured_reference(report, settings.model, settings.trainer.data)
        target = config or Path(FILE_NAME)
        write_reference(target, settings.profile, reference)
        view.note(
            f"{target}: [profiles.{settings.profile}.reference] is now learning rate "
            f"{reference.learning_rate:.3g} at batch {reference.batch_size}, "
            f"perplexity {reference.perplexity}"
        )
