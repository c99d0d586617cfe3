"""An exported configuration as the arguments of other trainers; what they cannot say is said.

`hf` are keyword arguments of `transformers.TrainingArguments`, `lightning` is a file for
`LightningCLI` (`trainer:`, `optimizer:`, `lr_scheduler:`). Both are YAML.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweep.errors import SweepError
from sweep.outputs import STDOUT, write_output
from sweep.results.baseline import ADAMS
from sweep.results.export import Exported, confirmed_words
from sweep.results.yaml_text import dump
from trainers.config import TrainConfig
from trainers.length import budget_words, length_of

Table = dict[str, Any]


def write_foreign(exported: Exported, name: str, path: Path, *, force: bool = False) -> None:
    """Writes another trainer's arguments.

    Args:
        exported: the configuration.
        name: one of `FORMATS`.
        path, force: as of `write_output`.

    Raises:
        SweepError: as of `write_output`, or the format has no such optimizer or schedule.
    """
    title, use, arguments = FORMATS[name]
    origin = exported.origin
    value = exported.objective.described(origin.value)
    lines = [
        f"{title}: trial {origin.trial} of {origin.study}, {value}",
        confirmed_words(exported).replace("`", ""),
        use.format(path=f"{name}.yaml" if path == STDOUT else path.name),
        "What they cannot say, and is yours to add:",
        *(f"- {line}" for line in not_expressible(exported.train, name)),
    ]
    header = "".join(f"# {line}\n" for line in lines)
    write_output(path, header + dump(arguments(exported.train)), force=force)


def hf_arguments(train: TrainConfig) -> Table:
    """Keyword arguments of `transformers.TrainingArguments`.

    Raises:
        SweepError: they have no such optimizer, or no such schedule.
    """
    if train.optimizer not in ADAMS:
        raise SweepError(
            f"--format hf: the study's optimizer is {train.optimizer}, and TrainingArguments has "
            "only adam and adamw as they are here: export it as YAML"
        )
    _check_length(train, "hf")
    warmup = _hf_warmup(train)
    return {
        "output_dir": "runs/hf",
        "learning_rate": train.learning_rate,
        "per_device_train_batch_size": train.batch_size,
        **_hf_length(train),
        "fp16": train.precision == "fp16",
        "bf16": train.precision == "bf16",
        **({"tf32": True} if train.precision == "tf32" else {}),
        "max_grad_norm": gradient_norm(train),
        **_hf_schedule(train, warmed=any(warmup.values())),
        **warmup,
        "optim": "adamw_torch",
        "adam_beta1": train.betas[0],
        "adam_beta2": train.betas[1],
        "adam_epsilon": train.eps,
        "weight_decay": train.weight_decay,
        "seed": train.seed % 2**32,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }


def _check_length(train: TrainConfig, name: str) -> None:
    if train.tokens:
        raise SweepError(
            f"--format {name}: the study's runs are {train.tokens:,} tokens long, which it cannot "
            "count: export it as YAML"
        )


def _hf_length(train: TrainConfig) -> Table:
    if not train.steps:
        by_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch"}
        return {"num_train_epochs": train.epochs, **by_epoch}
    every = length_of(train, 1).between_reports
    return {
        "max_steps": train.steps,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
    }


def _hf_schedule(train: TrainConfig, *, warmed: bool) -> Table:
    """The schedule's name there, and its own arguments."""
    schedule = train.lr_schedule
    if schedule.name == "wsd":
        raise SweepError(
            '--format hf: the schedule is wsd, whose decay "warmup_stable_decay" takes as a number '
            f"of steps (num_decay_steps): {schedule.decay_share:g} of those that your data gives"
        )
    if schedule.name == "constant":
        return {"lr_scheduler_type": "constant_with_warmup" if warmed else "constant"}
    if not schedule.floor:
        return {"lr_scheduler_type": schedule.name}
    if schedule.name == "cosine":
        name, options = "cosine_with_min_lr", {"min_lr_rate": schedule.floor}
    else:  # a polynomial of the first degree is the line that may end above zero
        name, options = "polynomial", {"lr_end": schedule.floor * train.learning_rate, "power": 1.0}
    return {"lr_scheduler_type": name, "lr_scheduler_kwargs": options}


def _hf_warmup(train: TrainConfig) -> Table:
    """The warm-up's argument: from version 5 on, `warmup_steps` below 1 is a share of the run."""
    schedule = train.lr_schedule
    if not schedule.warmup_share:
        return {"warmup_steps": schedule.warmup_steps}
    name = "warmup_ratio" if _hf_version() < 5 else "warmup_steps"
    counted = schedule.horizon_steps if train.steps else schedule.horizon_epochs
    own = train.steps or train.epochs
    return {name: schedule.warmup_share * (counted or own) / own}


def _hf_version() -> int:
    """The major version of the transformers here; without one, the one that began to take this."""
    try:
        return int(version("transformers").partition(".")[0])
    except PackageNotFoundError:
        return 5


def lightning_arguments(train: TrainConfig) -> Table:
    """What `LightningCLI` reads, but for the model and the data, which are the user's.

    Raises:
        SweepError: the optimizer is muon, which is two of torch's.
    """
    if train.optimizer == "muon":
        raise SweepError(
            "--format lightning: the study's optimizer is muon, which is two of torch's, Muon and "
            "AdamW, and LightningCLI makes one: export it as YAML"
        )
    _check_length(train, "lightning")
    mixed = {"fp16": "16-mixed", "bf16": "bf16-mixed"}
    precision = mixed.get(train.precision, "32-true")
    from trainers.optimizers import OPTIMIZERS, arguments  # loads torch, which "hf" can spare

    path = OPTIMIZERS.built_in.get(train.optimizer, train.optimizer)
    own = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in arguments(train).items()
        if key != "fused"
    }
    decay = {"weight_decay": train.weight_decay} if train.weight_decay else {}
    return {
        "seed_everything": train.seed % 2**32,
        "trainer": {
            **({"max_steps": train.steps} if train.steps else {"max_epochs": train.epochs}),
            "precision": precision,
            "gradient_clip_val": gradient_norm(train),
            "gradient_clip_algorithm": "norm",
        },
        "optimizer": {
            "class_path": path.replace(":", "."),
            "init_args": {"lr": train.learning_rate, **decay, **own},
        },
    }


def gradient_norm(train: TrainConfig) -> float:
    """The one gradient norm that holds for the most epochs of the run; 0 for none.

    Of a run in steps, whose epochs only its text knows, that of the first.
    """
    steps = _clipping(train)
    if not train.epochs:
        return steps[0][1]
    ends = [*(start for start, _ in steps[1:]), train.epochs]
    lasting = zip(ends, steps, strict=True)
    return max((end - start, -start, norm) for end, (start, norm) in lasting)[2]


def _clipping(train: TrainConfig) -> list[tuple[int, float]]:
    """The steps of the clipping that the run comes to; before the first one nothing is clipped."""
    used = sorted({0: 0.0, **dict(train.clip_schedule)}.items())
    return [(start, norm) for start, norm in used if start < train.epochs or not train.epochs]


def not_expressible(train: TrainConfig, name: str) -> list[str]:
    """What a format has no argument for."""
    lines = [f"model {train.model.name} {dict(train.model.options)}, data {train.data.name}"]
    if len(used := _clipping(train)) > 1:
        steps = ", ".join(
            f"{format(norm, 'g') if norm else 'not'} from epoch {start} on" for start, norm in used
        )
        lines.append(f"the gradient's norm is clipped by a schedule: {steps}")
    lines.append(
        f"early stop after {train.patience} epochs without {train.min_delta:g} of perplexity"
    )
    lines += _schedule_unsaid(train, name)
    lines += _decay_unsaid(train, name)
    if name == "hf":
        lines.append(f"the batch of {train.batch_size} is on one device: divide it among several")
        if train.optimizer_options:
            lines.append(f"the optimizer's options {dict(train.optimizer_options)}")
    else:
        lines.append(f"batch size {train.batch_size}, which is the data module's")
    return lines


def _decay_unsaid(train: TrainConfig, name: str) -> list[str]:
    """Transformers decays matrices alone, Lightning all that an optimizer is given."""
    if not train.weight_decay:
        return []
    lines = []
    if name == "hf" and train.optimizer == "adam":
        lines.append("the optimizer is Adam: its weight decay is added to the gradient")
    if train.decayed != ("matrices" if name == "hf" else "all"):
        words = "decay too" if train.decayed == "all" else "do not decay"
        lines.append(f"the weight decay: biases and norms {words}")
    return lines


def _schedule_unsaid(train: TrainConfig, name: str) -> list[str]:
    schedule, horizon = train.lr_schedule, budget_words(train)
    if schedule.horizon_steps:
        horizon = f"{schedule.horizon_steps:,} steps"
    if schedule.horizon_epochs:
        horizon = budget_words(replace(train, epochs=schedule.horizon_epochs, steps=0))
    share = schedule.warmup_share
    warmup = f"{share:.3g} of the steps" if share else f"{schedule.warmup_steps} steps"
    how = f", down to {schedule.floor:.3g} of the rate" if schedule.floor else ""
    if schedule.name == "wsd":
        how = f", linear over the last {schedule.decay_share:.3g} of them{how}"
    if name == "lightning" and (schedule.name != "constant" or share or schedule.warmup_steps):
        return [
            f"the rate's schedule: {schedule.name} over {horizon}{how} after {warmup} of "
            "linear warm-up, stepped with the optimizer"
        ]
    if schedule.name != "constant" and horizon != budget_words(train):
        return [f"the {schedule.name} decay ends after {horizon}, not with the run"]
    return []


FORMATS: dict[str, tuple[str, str, Callable[[TrainConfig], Table]]] = {
    "hf": (
        "Arguments of transformers.TrainingArguments",
        "TrainingArguments(**yaml.safe_load(open({path!r})))",
        hf_arguments,
    ),
    "lightning": (
        "A file for LightningCLI",
        "python train.py fit --config {path}",
        lightning_arguments,
    ),
}
