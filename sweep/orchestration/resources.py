"""What a sweep trains on: its workers' devices, and how many trials each trains side by side."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from sweep.config.devices import devices_of, spare_devices
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError
from sweep.execution.isolated import call_in_process
from sweep.execution.protocol import SHARED_TRAINER, Resources
from sweep.orchestration.ledger import Ledger
from sweep.orchestration.listener import View
from sweep.orchestration.plan import Plan
from trainers.data import Corpus
from trainers.measuring.measure import cohort_size


def find_resources(plan: Plan, corpus: Corpus | None, ledger: Ledger, view: View) -> Resources:
    """Works out the executor's resources, and says where trials run together.

    Args:
        plan: the sweep's.
        corpus: the text, to measure steps on; None of a program.
        ledger: keeps a measured size of the cohorts.
        view: told where several trials run at once.

    Raises:
        SweepError: there are no such devices.
    """
    settings, devices = plan.config.study, devices_of(plan.config)
    if settings.executor == "ray":
        return Resources(
            devices,
            address=settings.ray_address,
            gpus=settings.gpus_per_trial,
            cpus=settings.cpus_per_trial,
        )
    if settings.executor == "slurm":
        return _of_jobs(plan.config, devices)
    if len(devices) > 1:
        view.note(f"{len(devices)} workers: {', '.join(dict.fromkeys(devices))}")
    if spare := spare_devices(settings.devices, settings.gpus_per_trial):
        view.note(f"left over, as a trial takes {settings.gpus_per_trial:g}: cuda:{_list(spare)}")
    each_trial = devices[0].count(",") + 1
    if each_trial > 1 and settings.trainer == SHARED_TRAINER:
        what = "devices" if devices[0].startswith("cuda") else "processes"
        view.note(f"the rows of every batch are shared out among {each_trial} {what}")
    cohort = _cohort(plan, corpus, ledger, devices)
    if cohort > 1:
        each = " by each worker" if len(devices) > 1 else ""
        view.note(f"{cohort} trials are trained side by side{each}")
    return Resources(devices, cohort)


def _of_jobs(config: SweepConfig, devices: tuple[str, ...]) -> Resources:
    slurm, gpus = config.slurm, config.study.gpus_per_trial
    if gpus < 1:
        raise SweepError(
            f"study.gpus_per_trial (--gpus-per-trial) is {gpus:g}: a job of Slurm takes whole ones"
        )
    return Resources(
        devices,
        address=slurm.cluster,
        gpus=(slurm.gpus or gpus) if devices[0].startswith("cuda") else 0,
        cpus=slurm.cpus,
        jobs=slurm.jobs,
        job=slurm.model_dump(exclude={"cluster", "jobs", "gpus", "cpus"}),
    )


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _cohort(plan: Plan, corpus: Corpus | None, ledger: Ledger, devices: tuple[str, ...]) -> int:
    """How many trials a worker trains; measured once where the user leaves it open."""
    settings = plan.config.study
    if corpus is None:  # each trial is processes of its own
        return 1
    if "," in devices[0] and settings.trainer == SHARED_TRAINER:
        if isinstance(settings.cohort, int) and settings.cohort > 1:
            raise SweepError(
                f"study.cohort is {settings.cohort}, and a trial takes {devices[0]} for itself "
                "(study.gpus_per_trial): leave one of them out"
            )
        return ledger.cohort(1, lambda: 1)
    # Beside the rules' rates, which are known at once, one more rate may be drawn blindly.
    at_most = min(len(plan.first) + 1, settings.trials)
    share = max(1, at_most // len(devices))

    def measured() -> int:
        if settings.trainer != SHARED_TRAINER or corpus is None:
            return 1
        train = replace(plan.train, learning_rate=plan.first[0].learning_rate)
        device = torch.device(devices[0])
        what = "steps of several trials side by side"
        return call_in_process(cohort_size, train, corpus, device, at_most, what=what)

    if isinstance(settings.cohort, int):
        return ledger.cohort(settings.cohort, measured)
    return min(ledger.cohort(None, measured), share) if share > 1 else 1
