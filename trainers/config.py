"""Everything that fixes a training run. The constraints stand here once, for every caller."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass

MOST = 10**12
"""Of anything counted: far beyond use, and short of where torch's integers end."""
LONGEST_WINDOW = 2**16
LEAST_SUBWORDS = 260

_STRICT = ConfigDict(extra="forbid")


def _whole(value: Any) -> Any:
    """1e9 is how one writes so many tokens."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Strict: true is no number, and "64" is text.
PositiveFloat = Annotated[FiniteFloat, Field(gt=0, strict=True)]
PositiveInt = Annotated[int, Field(gt=0, le=MOST, strict=True)]
Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Tokens = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=10**15, strict=True)]
PrecisionName = Literal["fp32", "tf32", "fp16", "bf16"]
AUTO = "auto"
WEIGHT_DECAY = MappingProxyType({"adamw": 0.1, "muon": 0.1})
"""What "auto" is: 0.1 as GPT-3 (Brown et al. 2020, arXiv 2005.14165) and Muon at scale
(Liu et al. 2025, arXiv 2502.16982); 0 of all others."""


def _or_auto(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    return value if value == AUTO else check(value)


# Static type and value are a number: "auto" is put in its place as the config is made.
WeightDecay = Annotated[FiniteFloat, Field(ge=0), WrapValidator(_or_auto)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ModelConfig:
    """Which model. `options` are keyword arguments of the model's own `build`.

    Attributes:
        name: a module of `trainers.models` ("gpt"), or "package.module:factory".
        options: e.g. {"hidden": 512, "layers": 6}; checked by the factory's signature.
    """

    name: str = "context_vector"
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DataConfig:
    """Which text, and how it is cut.

    Attributes:
        name: "docstrings", a text file or folder, a hub data set ("Salesforce/wikitext"), or a
            function of this config that returns `Paragraphs`, "package.module:function"; or token
            files, a train.bin with a val.bin beside it, or their folder.
        subset: the hub data set's configuration ("wikitext-2-raw-v1"), "" for none.
        text_column: the hub data set's column that holds the text.
        fallback: what to take where the hub cannot be reached, "" to end with an error.
        tokenizer: "words", lower-cased; "bytes"; "bpe", subwords learned from the training split;
            the path of a tokenizer.json, or a name of the hub ("gpt2").
        vocabulary_size: most words kept, or of "bpe" the subwords, special tokens included (pad 0,
            unk 1, bos 2, eos 3); other tokenizers have their own.
        window: tokens a sequence, padded; a window of W gives W - 1 predictions.
        stride: tokens from one window's start to the next's within a paragraph; packed windows do
            not overlap.
        pack: documents end to end, a separator between them, so that windows have no padding.
        attend: where they are packed, to what a position attends: its own "document", or all of
            the "window" before it.
        separator: of token files, the number of the token between documents; -1: unknown.
        stream: whether a data set or text files are read once, from their beginning, into packed
            token files; no more of them than `train_sequences` and `validation_sequences` ask for.
        minimum_words: shorter paragraphs are left out.
        train_sequences: a seeded subset of this many training windows; 0 takes all.
        validation_sequences: likewise for validation windows.
    """

    name: str = "Salesforce/wikitext"
    subset: str = ""
    text_column: str = "text"
    fallback: str = ""
    tokenizer: Annotated[str, Field(min_length=1)] = "words"
    vocabulary_size: Annotated[int, Field(ge=8)] = 1000
    window: Annotated[int, Field(ge=2, le=LONGEST_WINDOW)] = 64
    stride: PositiveInt = 32
    pack: Annotated[bool, Field(strict=True)] = False
    attend: Literal["document", "window"] = "document"
    separator: Annotated[int, Field(ge=-1, strict=True)] = -1
    stream: Annotated[bool, Field(strict=True)] = False
    minimum_words: Annotated[int, Field(ge=1)] = 5
    train_sequences: Annotated[int, Field(ge=0)] = 0
    validation_sequences: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.stride >= self.window:
            raise ValueError(
                f"data.stride must be below data.window ({self.window}), got {self.stride}"
            )
        if self.stream and not self.pack:
            raise ValueError("data.stream makes packed windows: set data.pack = true as well")
        if self.tokenizer == "bpe" and self.vocabulary_size < LEAST_SUBWORDS:
            raise ValueError(
                f"data.vocabulary_size must be at least {LEAST_SUBWORDS} for bpe (256 bytes and 4 "
                f"special tokens), got {self.vocabulary_size}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class LRSchedule:
    """How the rate moves over the steps that the optimizer took.

    Attributes:
        name: "constant"; a decay up to the horizon, "cosine" or "linear"; or "wsd": warm-up,
            stable, and a linear decay in the last part (Hu et al. 2024, arXiv 2404.06395; Haegele
            et al. 2024, arXiv 2405.18392).
        floor: where a decay ends, as a share of the peak rate.
        decay_share: of "wsd", the decay as a share of the steps up to the horizon.
        warmup_steps: steps of linear warm-up from zero.
        warmup_share: the warm-up as a share of the steps up to the horizon, in its place.
        horizon_epochs: the epochs that a decay and a share count; 0 takes the run's own length.
            Fix it where a run is to be extended later.
        horizon_steps: the same in steps, in its place.
    """

    name: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    floor: Annotated[FiniteFloat, Field(ge=0, lt=1, strict=True)] = 0.0
    decay_share: Annotated[FiniteFloat, Field(gt=0, le=1, strict=True)] = 0.2
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_share: Annotated[FiniteFloat, Field(ge=0, lt=1, strict=True)] = 0.0
    horizon_epochs: Annotated[int, Field(ge=0)] = 0
    horizon_steps: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.warmup_steps and self.warmup_share:
            raise ValueError(
                f"lr_schedule.warmup_steps ({self.warmup_steps}) and lr_schedule.warmup_share "
                f"({self.warmup_share:g}) both give the warm-up: set one of them to 0"
            )
        if self.horizon_epochs and self.horizon_steps:
            raise ValueError(
                f"lr_schedule.horizon_epochs ({self.horizon_epochs}) and lr_schedule.horizon_steps "
                f"({self.horizon_steps}) both give the horizon: set one of them to 0"
            )

    @property
    def counts_horizon(self) -> bool:
        """Whether another horizon would change the rates."""
        return self.name != "constant" or self.warmup_share > 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ProgramConfig:
    """A training program of the user's own; see `trainers.program`.

    Attributes:
        command: its arguments, with placeholders such as {learning_rate}; no shell reads them.
            None of them: this tool's own trainer.
        pattern: how reports are read from what it prints: a name of `trainers.program.patterns`, or
            a regular expression with named groups; "" for a program that reports by itself.
        resume: arguments appended where a trial has begun before and goes on from the program's own
            checkpoints; without them it begins anew.
        grace: seconds that it has to end after SIGTERM, before SIGKILL.
        parameters: of its model, for the rules that go by them; 0 where they are unknown.
        sizes: further placeholders, whole numbers that make the model's size ({"layers": 12}).
        sequence_tokens: tokens that a training sequence predicts, by which steps follow from
            tokens; 0 where they are unknown.
    """

    command: tuple[str, ...] = ()
    pattern: str = ""
    resume: tuple[str, ...] = ()
    grace: Annotated[FiniteFloat, Field(ge=0)] = 30.0
    parameters: Count = 0
    sizes: dict[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")], PositiveInt] = Field(
        default_factory=dict
    )
    sequence_tokens: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """One training run, whole: the same config gives the same run.

    Attributes:
        learning_rate: the peak rate.
        batch_size: sequences a step; the last, partial batch of an epoch is kept.
        precision: fp32, tf32, fp16 (with a gradient scaler) or bf16.
        epochs: passes over the training data; 0 where the budget is in steps or tokens.
        steps: optimizer steps of the whole run, in place of epochs; 0: not counted by them.
        tokens: that the whole run predicts, in place of epochs, rounded up to whole steps; 0: not
            counted by them. A program of the user's own is told all three.
        evaluate_every: steps from one report to the next; 0: an epoch, or a twentieth of a budget
            in steps or tokens.
        checkpoint_every: steps from one checkpoint to the next, beside those of the reports; 0:
            none. It changes no result, so it is no part of what a study is.
        keep_trunk: whether the checkpoint at the beginning of the decay of "wsd" is kept, so that
            longer runs may begin with it. It changes no result either.
        patience: epochs without an improvement of `min_delta` before an early stop.
        min_delta: what counts as an improvement of the validation perplexity.
        seed: of initial weights, data order and dropout.
        micro_batch: rows of a batch computed at once; 0 takes what fits the memory. It changes a
            result by rounding alone (and by the masks of a user's own `nn.Dropout`), so it is no
            part of what a study or a checkpoint is.
        deterministic: takes only algorithms that give the same bits again, on CUDA too; slower.
        metric: what is compared: perplexity, validation_loss (nats), bits_per_byte, or a number
            among the metrics of the trainer's reports, by its name.
        direction: whether that is the better the smaller ("minimize") or the larger.
        optimizer: adam, adamw, muon, sgd, or a class of the user's own, "package.module:Class".
        optimizer_options: further keyword arguments of its class, such as {"nesterov": True}.
        betas: of Adam's averages.
        eps: that Adam adds to the root of its second average.
        weight_decay: "auto" is 0.1 for adamw and muon, otherwise 0, which leaves it to a class of
            the user's own.
        decayed: which parameters: "all", or those of two or more dimensions, "matrices"; "auto" is
            "matrices" for adamw and muon where there is a decay, otherwise "all".
        muon_ratio: of "muon", the rate of its AdamW as a share of Muon's.
        clip_schedule: (epochs done, largest gradient norm) pairs: each holds from there on.

    The defaults are those of what was stored before a field was there; what a new study has is
    said by the shipped sweep.toml.
    """

    learning_rate: PositiveFloat
    batch_size: PositiveInt = 32
    precision: PrecisionName = "fp32"
    epochs: Count = 50
    steps: Count = 0
    tokens: Tokens = 0
    evaluate_every: Count = 0
    checkpoint_every: Count = 0
    keep_trunk: Annotated[bool, Field(strict=True)] = False
    patience: PositiveInt = 15
    min_delta: Annotated[FiniteFloat, Field(ge=0)] = 0.001
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    optimizer: Annotated[str, Field(min_length=1)] = "adam"
    optimizer_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    eps: PositiveFloat = 1e-8
    weight_decay: WeightDecay = 0.0
    decayed: Literal["auto", "all", "matrices"] = "all"
    muon_ratio: PositiveFloat = 1.0
    micro_batch: Count = 0
    deterministic: Annotated[bool, Field(strict=True)] = False
    clip_schedule: tuple[tuple[Annotated[int, Field(ge=0)], PositiveFloat], ...] = (
        (0, 0.5),
        (10, 1.0),
        (30, 2.0),
    )
    metric: Annotated[str, Field(min_length=1)] = "perplexity"
    direction: Literal["minimize", "maximize"] = "minimize"
    lr_schedule: LRSchedule = Field(default_factory=LRSchedule)
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    program: ProgramConfig = Field(default_factory=ProgramConfig)

    def __post_init__(self) -> None:
        self._check_budget()
        decays = self.optimizer in WEIGHT_DECAY
        if isinstance(self.weight_decay, str):
            object.__setattr__(self, "weight_decay", WEIGHT_DECAY.get(self.optimizer, 0.0))
        if self.decayed == AUTO:
            which = "matrices" if decays and self.weight_decay else "all"
            object.__setattr__(self, "decayed", which)

    def _check_budget(self) -> None:
        if self.program.command:  # it makes of them what it will
            if self.tokens and not self.steps and self.program.sequence_tokens:
                a_step = self.batch_size * self.program.sequence_tokens
                object.__setattr__(self, "steps", math.ceil(self.tokens / a_step))
            return
        if self.steps and self.tokens:
            raise ValueError(
                f"trainer.steps ({self.steps}) and trainer.tokens ({self.tokens}) both give the "
                "length of a run: set one of them to 0"
            )
        if self.steps or self.tokens:
            object.__setattr__(self, "epochs", 0)
        elif not self.epochs:
            raise ValueError("trainer.epochs must be at least 1 where neither steps nor tokens are")


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return found


FIRST = frozenset(
    """
    learning_rate batch_size precision epochs patience min_delta seed optimizer betas eps
    weight_decay micro_batch clip_schedule lr_schedule.name lr_schedule.warmup_steps
    lr_schedule.horizon_epochs model.name data.name data.subset data.text_column data.fallback
    data.vocabulary_size data.window data.stride data.minimum_words data.train_sequences
    data.validation_sequences
    """.split()  # noqa: SIM905
)
"""The fields of the first version, by dotted name: stored studies and checkpoints have them."""

LATER = MappingProxyType(
    {
        name: value
        for name, value in flat(asdict(TrainConfig(learning_rate=1.0))).items()
        if name not in FIRST
    }
)
"""The fields that came later and their defaults: what was stored before had these."""
