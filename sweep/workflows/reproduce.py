"""`sweep reproduce`: known cases again, at full size or small, beside what is known of them."""

from collections.abc import Sequence

from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.orchestration.listener import View
from sweep.orchestration.plan import make_plan
from sweep.results.known_cases import MODEL, Case, Reproduced, known_cases, rate_here
from sweep.results.runs import find_run
from sweep.workflows.given_rates import run_settings, with_trainer
from trainers.config import ModelConfig, TrainConfig


def reproduce(
    config: SweepConfig, name: str, view: View, *, resume_command: str
) -> tuple[Reproduced, ...] | None:
    """Trains every run of a known case that is not stored yet.

    Args:
        config: the setting; batch size, precision and model are the case's own.
        name: one of `CASES`.
        view: entered already.
        resume_command: the command that goes on, shown where it was stopped.

    Returns:
        The cases in their order, None where they were stopped.

    Raises:
        SweepError: the configuration's model is another one.
    """
    cases = known_cases(name)
    grouped = _by_setting(config, cases)
    settings = [
        (setting, [rate_here(config, case) for case in members]) for setting, members in grouped
    ]
    found = run_settings(settings, view, resume_command=resume_command)
    if found is None:
        return None
    done: dict[int, Reproduced] = {}
    for (setting, members), runs in zip(grouped, found, strict=True):
        parameters = make_plan(setting).setting.parameters
        for case in members:
            rate = rate_here(config, case)
            done[cases.index(case)] = Reproduced(case, rate, parameters, find_run(runs, rate))
    return tuple(done[place] for place in range(len(cases)))


def setting_of(config: SweepConfig, case: Case) -> SweepConfig:
    """The configuration of a case's run, but for its rate."""
    model = config.trainer.model
    grown = {
        name: int(model.options[name]) * case.growth.get(name, 1)
        for name in case.growth
        if name in model.options
    }
    larger = ModelConfig(name=model.name, options={**model.options, **grown})
    return with_trainer(config, batch_size=case.batch_size, precision=case.precision, model=larger)


def _by_setting(config: SweepConfig, cases: Sequence[Case]) -> list[tuple[SweepConfig, list[Case]]]:
    """Cases that differ in their rate alone are one study."""
    if config.trainer.model.name != MODEL:
        raise SweepError(
            f"the known case is of model {MODEL}, not {config.trainer.model.name}: "
            f"--set model={MODEL}"
        )
    found: list[tuple[TrainConfig, SweepConfig, list[Case]]] = []
    for case in cases:
        setting = setting_of(config, case)
        for train, _, members in found:
            if train == setting.trainer:
                members.append(case)
                break
        else:
            found.append((setting.trainer, setting, [case]))
    return [(setting, members) for _, setting, members in found]
