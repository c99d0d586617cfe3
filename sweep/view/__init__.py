"""What the user sees of a sweep: a live screen, plain lines, or JSON lines."""

from typing import TextIO

from sweep.orchestration.listener import View


def make_view(*, json_lines: bool, stream: TextIO, tensorboard: str = "") -> View:
    """Chooses how a sweep is shown.

    Args:
        json_lines: write JSON lines, whatever the stream is.
        stream: where to write; a terminal gets the live screen, anything else plain lines.
        tensorboard: a folder for event files, "" for none.

    Raises:
        SweepError: there is no TensorBoard to write them.
    """
    view = _of_stream(json_lines=json_lines, stream=stream)
    if not tensorboard:
        return view
    from sweep.view.live.tensorboard import with_tensorboard

    return with_tensorboard(view, tensorboard)


def _of_stream(*, json_lines: bool, stream: TextIO) -> View:
    # Imported here: `sweep.view.tables` alone, as `sweep status` uses it, loads none of these.
    if json_lines:
        from sweep.view.live.jsonl import JsonView

        return JsonView(stream)
    from rich.console import Console

    console = Console(file=stream)
    # isatty, not console.is_terminal: FORCE_COLOR makes that true for a log file as well.
    if stream.isatty() and not console.is_dumb_terminal:
        from sweep.view.live.screen import RichView

        return RichView(console)
    from sweep.view.live.plain import PlainView

    return PlainView(stream)
