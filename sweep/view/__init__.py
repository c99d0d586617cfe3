"""What the user sees of a sweep: a live screen, plain lines, or JSON lines.

Installed packages add views by entry points of the group `sweep.views`; a user's own is named
"package.module:create", a function of the stream that makes a `View`.
"""

import sys
from typing import TYPE_CHECKING, TextIO

from sweep.orchestration.listener import View
from sweep.view.lasting import lasting
from trainers.finding import Kind

if TYPE_CHECKING:
    from sweep.config.schema import StudySettings

# Named, not imported: `sweep.view.tables` alone, as `sweep status` uses it, loads none of these.
VIEWS = Kind(
    "view",
    "sweep.views",
    {
        "live": "sweep.view.live.screen:on_terminal",
        "plain": "sweep.view.live.plain:PlainView",
        "json": "sweep.view.live.jsonl:JsonView",
    },
    contract=View,
)


def make_view(
    *, json_lines: bool, stream: TextIO, tensorboard: str = "", name: str = "auto"
) -> View:
    """Chooses how a sweep is shown.

    Args:
        json_lines: write JSON lines, whatever else is said.
        stream: where to write.
        tensorboard: a folder for event files, "" for none.
        name: one of `VIEWS.names()`, or an import path; "auto" gives a terminal the live screen,
            anything else plain lines.

    Raises:
        SweepError: there is no TensorBoard to write them.
        TrainerError: there is no view of the name, or it is from outside and cannot be made.
    """
    if json_lines:
        name = "json"
    elif name == "auto":
        name = "live" if _is_screen(stream) else "plain"
    view: View = VIEWS.find(name)(lasting(stream))
    if not tensorboard:
        return view
    from sweep.view.live.tensorboard import with_tensorboard

    return with_tensorboard(view, tensorboard)


def study_view(settings: "StudySettings", *, json_lines: bool) -> View:
    """Makes the view that a study's settings name, on standard output.

    Raises:
        SweepError, TrainerError: as of `make_view`.
    """
    return make_view(
        json_lines=json_lines,
        stream=sys.stdout,
        tensorboard=settings.tensorboard,
        name=settings.view,
    )


def _is_screen(stream: TextIO) -> bool:
    from rich.console import Console

    # isatty, not console.is_terminal: FORCE_COLOR makes that true for a log file as well.
    return stream.isatty() and not Console(file=stream).is_dumb_terminal
