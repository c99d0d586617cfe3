"""`sweep completion`."""

import click

FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/completions/sweep.fish"}


@click.command()
@click.argument("shell", type=click.Choice(list(FILES)))
def command(shell: str) -> None:
    """Prints a script by which a shell completes commands, options and study names.

    bash and zsh: eval "$(sweep completion bash)" in ~/.bashrc or ~/.zshrc; fish: sweep completion
    fish > ~/.config/fish/completions/sweep.fish
    """
    from click.shell_completion import get_completion_class

    from sweep.cli import cli

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "sweep", "_SWEEP_COMPLETE").source())
