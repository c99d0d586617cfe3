"""How the CPU's threads wait for each other: asleep, or in training each on its own core.

Between two products a thread of OpenMP's either sleeps or spins. To wake it costs more than a small
product: on 2 cores a step at batch 32 took 24 ms asleep and 9 ms spinning for the CPU profile's
model, 486 and 267 ms for the full one. But two spinning threads that the system has put on one core
wait for each other for whole time slices: 3.3 s a step. So what trains spins, each thread bound to
a core of its own, and everything else sleeps. What the user has set is left alone.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from trainers.limits import cpu_quota, usable_cores, visible_cores

POLICY = "OMP_WAIT_POLICY"
BOUND: Mapping[str, str] = {
    "OMP_PROC_BIND": "spread",
    "OMP_PLACES": "cores",
    "GOMP_SPINCOUNT": "30000",  # some 0.3 ms: beside two busy programs a longer one costs 1.7 times
}
COUNT = "OMP_NUM_THREADS"
OWN = "SWEEP_THREADS"
"""Set beside the policy where it is not the user's."""


def sleep_when_idle() -> None:
    """Lets this process's threads sleep; to be called before torch is loaded, which reads it.

    A quota of CPU time is used up by threads that spin, and then all of them stand still: under one
    there are as many threads as it has cores, and none is ever bound.
    """
    if COUNT not in os.environ and cpu_quota() < visible_cores():
        os.environ[COUNT] = str(usable_cores())
    if not any(name in os.environ for name in (POLICY, *BOUND)):
        os.environ.update({POLICY: "PASSIVE", OWN: "1"})


def bind() -> None:
    """Lets this process's threads spin, each on its core; to be called before torch is loaded.

    Not where the user has given them a number: other sweeps then share the machine, and the first
    thread of each would be bound to the same core.
    """
    if os.environ.pop(OWN, "") and COUNT not in os.environ:
        del os.environ[POLICY]
        os.environ.update(BOUND)


@contextmanager
def bound() -> Iterator[None]:
    """Processes that are started inside spin, each thread on its core."""
    before = dict(os.environ)
    bind()
    try:
        yield
    finally:
        for name in (POLICY, OWN, *BOUND):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
