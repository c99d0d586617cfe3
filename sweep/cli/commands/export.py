"""`sweep export`."""

import shlex
from pathlib import Path

import click

from sweep.cli.options import database_option, force_option, stored_study_option, warn
from sweep.url import StorageUrl


@click.command()
@stored_study_option
@database_option
@click.option("--trial", type=int, help="A trial's number; by default the best one.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["yaml", "hf", "lightning"]),
    default="yaml",
    show_default=True,
    help="For sweep train, or as TrainingArguments of transformers, or for LightningCLI.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help='The file, "-" for standard output.  [default: best.yaml, hf.yaml, lightning.yaml]',
)
@force_option
def command(
    study: str | None,
    storage: StorageUrl,
    trial: int | None,
    format_: str,
    output: Path | None,
    force: bool,
) -> None:
    """Writes the best configuration, whole, and where it came from, as YAML."""
    from studies.decay import decay_of
    from sweep.formatting import format_place
    from sweep.outputs import STDOUT
    from sweep.results.baseline import stored_baseline
    from sweep.results.belief import chosen_trial
    from sweep.results.export import confirmed_words, export, write
    from sweep.results.lookup import finished_trial, open_study
    from sweep.results.record import read_study
    from sweep.results.trainer_formats import write_foreign

    opened = open_study(storage, study)
    chosen = chosen_trial(opened) if trial is None else finished_trial(opened, trial)
    exported = export(opened, chosen, storage)
    target = output or Path("best.yaml" if format_ == "yaml" else f"{format_}.yaml")
    if format_ == "yaml":
        write(exported, target, force=force)
    else:
        write_foreign(exported, format_, target, force=force)
    baseline = stored_baseline(read_study(opened))
    if baseline is not None and exported.origin.value >= baseline:
        words = exported.objective.words
        warn(f"its {words} is no better than counting words: this rate is no optimum")
    aside = target == STDOUT
    click.echo(
        f"{target}: trial {chosen.number} of {opened.study_name}, "
        f"learning rate {format_place(exported.train.learning_rate, decay_of(chosen))}, "
        f"{exported.objective.described(exported.origin.value)}",
        err=aside,
    )
    click.echo(confirmed_words(exported), err=aside)
    if format_ == "yaml" and not aside:
        click.echo(f"train it: {shlex.join(('sweep', 'train', str(target)))}")
