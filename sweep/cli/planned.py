"""A plan's studies as configurations, for the commands that train them."""

from typing import TYPE_CHECKING, Any

from sweep.cli.options import load_config

if TYPE_CHECKING:
    from sweep.results.study_plan import PlannedStudy, StudyPlan


def run_plan(
    plan: "StudyPlan", flags: dict[str, Any], *, json_lines: bool, resume_command: str
) -> bool:
    """Trains the studies of a plan in turn, each under the flags given and its own settings.

    Returns:
        Whether it came to an end; False where it was stopped.

    Raises:
        SweepError: anything is wrong with the configuration.
    """
    from sweep.config.devices import describe_choice
    from sweep.view import study_view
    from sweep.view.report.dashboard import publisher
    from sweep.workflows.plan_studies import run_planned

    configs = [load_config(**_flags(study, plan, flags)) for study in plan.studies]
    first = configs[0]
    asked = bool(flags.get("profile") or flags.get("device"))
    with study_view(first.study, json_lines=json_lines) as view:
        view.note(describe_choice(first.profile, first.device, asked=asked))
        return run_planned(
            plan,
            configs,
            view,
            resume_command=resume_command,
            before_release=publisher(first.study, view.warn),
        )


def _flags(study: "PlannedStudy", plan: "StudyPlan", flags: dict[str, Any]) -> dict[str, Any]:
    table = "program.sizes" if plan.program else f"models.{plan.model}"
    sizes = [f"{table}.{name}={value}" for name, value in study.options.items()]
    if plan.program:
        sizes.append(f"program.parameters={study.parameters}")
        sizes.append(f"program.sequence_tokens={plan.sequence_tokens or 0}")
    return {
        **flags,
        "batch": study.batch_size,
        "epochs": None,
        "steps": None,
        "tokens": study.tokens,
        "trials": flags.get("trials") or plan.trials,
        "assignments": (*flags.get("assignments", ()), *sizes),
    }
