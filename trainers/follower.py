"""A rank beside the first, as a program: does what it is told, on its share of the rows.

`python -m trainers.follower FD`: the descriptor is a pipe's, by which rank 0 sends a `Task`, then
what is to be done; a follower answers READY, or how it ended. It ends where rank 0 does.
"""

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from torch import distributed as dist

from trainers.distributed import READY, Task, meet, use, values_of
from trainers.faults import EndedError, ending_of
from trainers.report import Ending, Outcome
from trainers.steps.ranks import Ranks
from trainers.train import Scoring, Step, batches_from, begin, perform

FAILED = 1


class Follower(Ranks):
    """A rank that leaves it to rank 0 to say why it is gone."""

    def failed(self, error: RuntimeError) -> Exception:
        """Where the others cannot be reached, nothing is to be said here."""
        return EndedError(Ending(Outcome.LOST, f"lost: another process is gone: {error}"))


def follow(pipe: Connection) -> None:
    """Takes part in a training until the pipe closes.

    Raises:
        EndedError: another rank is gone.
    """
    task: Task = pipe.recv()
    use(task.device)
    ranks = Follower(task.rank, task.count)
    member, training, validation = begin(task.config, task.device, task.directory, ranks)
    pipe.send(READY)
    meet(task.meeting, ranks, task.device)
    ranks.take_first_(values_of(member.model))
    batches = batches_from(member, training)
    while True:
        scoring: bool = pipe.recv()
        if scoring:
            perform([Scoring(member, validation)])
        else:
            perform([Step(member, next(batches), first=False)])


def main() -> NoReturn:
    """The program."""
    pipe, code = Connection(int(sys.argv[1])), 0
    try:
        follow(pipe)
    except EOFError:  # rank 0 has closed the pipe, or is gone
        if dist.is_initialized():
            dist.destroy_process_group()
    except EndedError as error:
        print(error, file=sys.stderr)
        code = FAILED
    except Exception as error:
        with suppress(OSError):  # rank 0 is gone too
            pipe.send(ending_of(error))
        code = FAILED
    # What torch takes down at a regular end may wait for ranks that are gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
