import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.config.load import default_text, load, parse_assignment, study_default
from sweep.config.schema import SweepConfig
from sweep.errors import SweepError

Load = Callable[..., SweepConfig]
SHIPPED = "sqlite:///sweep.db"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the configuration of a folder whose sweep.toml is the given text."""
    monkeypatch.chdir(tmp_path)

    def loaded(text: str | None = None, *sets: str, cuda: bool = False, **more: Any) -> SweepConfig:
        if text is not None:
            (tmp_path / "sweep.toml").write_text(text)
        more = {"profile": None, **more}
        return load(None, cuda=cuda, assignments=sets, **more)

    return loaded


class TestTheShippedDefaults:
    def test_each_profile_resolves_without_a_file(self, read: Load) -> None:
        cpu, cuda = read(), read(cuda=True)
        assert (cpu.profile, cpu.device, cpu.trainer.data.name) == ("cpu", "cpu", "docstrings")
        assert (cuda.profile, cuda.device) == ("cuda", "cuda")
        assert cuda.trainer.data.name == "Salesforce/wikitext"

    def test_the_cuda_profile_is_the_full_experiment(self, read: Load) -> None:
        config = read(profile="cuda")
        assert (config.trainer.epochs, config.trainer.patience) == (50, 15)
        assert config.trainer.model.name == "context_vector"
        reference = config.reference
        assert (reference.learning_rate, reference.batch_size) == (1e-4, 32)
        assert (reference.parameters, reference.perplexity) == (2739432, 23.34)

    def test_every_key_has_a_default_in_the_file(self) -> None:
        shipped = tomllib.loads(default_text())
        assert set(shipped["trainer"]) >= {"batch_size", "precision", "seed", "lr_schedule"}
        assert {"cpu", "cuda"} <= set(shipped["profiles"])


class TestTheLayers:
    @pytest.mark.parametrize(("device", "profile"), [("cpu", "cpu"), ("cuda:1", "cuda")])
    def test_the_profile_follows_the_files_device(
        self, read: Load, device: str, profile: str
    ) -> None:
        config = read(f"device = '{device}'\n", cuda=True)
        assert (config.profile, config.device) == (profile, device)
        assert read(cuda=True, flags={"device": "cpu"}).profile == "cpu"

    def test_a_users_file_lies_over_the_defaults(self, read: Load) -> None:
        config = read("[trainer]\nweight_decay = 0.5\n")
        assert config.trainer.weight_decay == 0.5
        assert config.trainer.batch_size == 2048

    def test_also_over_the_shipped_profile(self, read: Load) -> None:
        """What a user writes counts, though the shipped [profiles.cpu] says 10 epochs."""
        assert read().trainer.epochs == 10
        assert read("[trainer]\nepochs = 7\n").trainer.epochs == 7

    def test_a_users_profile_lies_over_the_rest_of_the_file(self, read: Load) -> None:
        text = "[trainer]\nepochs = 7\n[profiles.cpu.trainer]\nepochs = 8\n"
        assert read(text).trainer.epochs == 8
        assert read(text, profile="cuda").trainer.epochs == 7

    def test_set_lies_over_every_file_and_the_last_one_counts(self, read: Load) -> None:
        text = "[profiles.cpu.trainer]\nepochs = 8\n"
        assert read(text, "trainer.epochs=9").trainer.epochs == 9
        assert read(text, "trainer.epochs=9", "trainer.epochs=11").trainer.epochs == 11

    def test_a_flag_lies_over_set(self, read: Load) -> None:
        config = read(None, "trainer.epochs=9", flags={"trainer.epochs": 3})
        assert config.trainer.epochs == 3

    def test_a_length_over_another_replaces_it_whatever_it_is_counted_in(self, read: Load) -> None:
        steps = read("[trainer]\nsteps = 70\n").trainer
        assert (steps.epochs, steps.steps, steps.tokens) == (0, 70, 0)
        flags = {"trainer.tokens": 2e8}
        tokens = read("[trainer]\nsteps = 70\n", flags=flags).trainer
        assert (tokens.epochs, tokens.steps, tokens.tokens) == (0, 0, 200_000_000)
        epochs = read("[trainer]\nsteps = 70\n", "trainer.epochs=4").trainer
        assert (epochs.epochs, epochs.steps, epochs.tokens) == (4, 0, 0)

    def test_two_lengths_on_one_command_line_are_refused(self, read: Load) -> None:
        with pytest.raises(SweepError, match="--epochs and --steps each give the length"):
            read(None, flags={"trainer.epochs": 4, "trainer.steps": 70})

    def test_a_program_is_told_every_length(self, read: Load) -> None:
        own = {"program.command": ["./mine", "{learning_rate}", "{epochs}", "{steps}"]}
        both = {"trainer.epochs": 4, "trainer.steps": 70}
        told = read(None, flags={**own, **both}).trainer
        assert (told.epochs, told.steps) == (4, 70)

    def test_a_flag_that_was_not_given_changes_nothing(self, read: Load) -> None:
        assert read("[trainer]\nepochs = 7\n", flags={"trainer.epochs": None}).trainer.epochs == 7

    def test_tables_are_merged_key_by_key_and_lists_are_replaced(self, read: Load) -> None:
        config = read("[trainer]\nlr_schedule = {name = 'cosine'}\nclip_schedule = [[0, 9.0]]\n")
        assert config.trainer.lr_schedule.name == "cosine"
        assert config.trainer.lr_schedule.warmup_steps == 0
        assert config.trainer.clip_schedule == ((0, 9.0),)

    def test_a_file_may_bring_a_profile_of_its_own(self, read: Load) -> None:
        shipped = tomllib.loads(default_text())["profiles"]["cpu"]["reference"]
        lines = [
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for key, value in shipped.items()
        ]
        text = "\n".join(
            ["[profiles.night.reference]", *lines, "[profiles.night.trainer]", "epochs=99"]
        )
        config = read(text, profile="night")
        assert (config.profile, config.trainer.epochs) == ("night", 99)

    def test_a_profile_without_a_reference_says_how_to_measure_one(self, read: Load) -> None:
        with pytest.raises(SweepError, match="sweep calibrate"):
            read("[profiles.night.trainer]\nepochs = 9\n", profile="night")


class TestSlurm:
    def test_its_options_are_sbatchs_own(self, read: Load) -> None:
        config = read("[slurm]\npartition = 'gpu'\n[slurm.extra]\nqos = 'long'\nexclusive = true\n")
        assert (config.slurm.partition, config.slurm.nodes) == ("gpu", 1)
        assert config.slurm.extra == {"qos": "long", "exclusive": True}
        assert read(None, "slurm.extra.mail-type=END").slurm.extra["mail-type"] == "END"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("slurm.time=0", "slurm.time must be"),
            ("slurm.cluster=pbs", "slurm.cluster must be"),
            ("slurm.partitions=gpu", "did you mean 'slurm.partition'"),
            ("slurm.extra=long", "'slurm.extra' must be a table"),
            ("slurm.extra.nodelist=[1]", "slurm.extra"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, read: Load, given: str, words: str) -> None:
        with pytest.raises(SweepError) as refused:
            read(None, given)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)


class TestWhichProfile:
    def test_the_flag_is_over_set_and_set_is_over_the_file(self, read: Load) -> None:
        text = "profile = 'cuda'\n"
        assert read(text).profile == "cuda"
        assert read(text, "profile=cpu").profile == "cpu"
        assert read(text, "profile=cpu", profile="cuda").profile == "cuda"

    def test_set_takes_the_whole_profile_not_only_its_name(self, read: Load) -> None:
        """It once called the CPU's settings "cuda"."""
        assert read(None, "profile=cuda").trainer == read(profile="cuda").trainer

    @pytest.mark.parametrize("cuda", [True, False])
    def test_a_device_that_was_asked_for_chooses_it(self, read: Load, cuda: bool) -> None:
        assert read(flags={"device": "cpu"}, cuda=cuda).profile == "cpu"
        assert read(flags={"device": "cuda:1"}, cuda=cuda).profile == "cuda"
        assert read(None, "device=cuda:1", cuda=cuda).profile == "cuda"
        assert read(flags={"device": "auto"}, cuda=cuda).profile == ("cuda" if cuda else "cpu")

    def test_an_unknown_one_names_those_there_are(self, read: Load) -> None:
        with pytest.raises(SweepError, match="'gpu': there are cpu, cuda"):
            read(profile="gpu")

    def test_a_key_of_a_profile_cannot_be_set(self, read: Load) -> None:
        with pytest.raises(SweepError, match="leave out its first two parts"):
            read(None, "profiles.cpu.trainer.epochs=3")


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "wrong", "right"),
        [
            ("[trainer]\nweight_deca = 0.1\n", "trainer.weight_deca", "trainer.weight_decay"),
            ("[study]\ntrails = 3\n", "study.trails", "study.trials"),
            ("modle = 'gpt'\n", "modle", "model"),
            ("[profiles.cpu.data]\nwindows = 3\n", "profiles.cpu.data.windows", "data.window"),
            ("[profiles.cpu.reference]\nbatchsize = 3\n", "reference.batchsize", "batch_size"),
        ],
    )
    def test_an_unknown_one_names_the_nearest_that_there_is(
        self, read: Load, text: str, wrong: str, right: str
    ) -> None:
        with pytest.raises(SweepError) as caught:
            read(text)
        line = str(caught.value)
        assert line.startswith("sweep.toml: unknown key")
        assert f"{wrong}'" in line
        assert line.endswith(f"{right}'?")

    def test_set_refuses_it_too(self, read: Load) -> None:
        with pytest.raises(SweepError, match=r"--set: .*did you mean 'trainer.epochs'"):
            read(None, "trainer.epoch=3")

    def test_a_models_options_are_its_own(self, read: Load) -> None:
        config = read("[models.context_vector]\nanything = 3\n", "models.context_vector.more=true")
        assert config.trainer.model.options["anything"] == 3
        assert config.trainer.model.options["more"] is True

    def test_the_options_of_a_model_from_outside_are_found_by_its_path(self, read: Load) -> None:
        text = "model = 'my.models:build'\n[models.'my.models:build']\nwidth = 5\n"
        model = read(text).trainer.model
        assert (model.name, model.options) == ("my.models:build", {"width": 5})

    def test_only_the_chosen_models_options_count(self, read: Load) -> None:
        assert set(read(None, "model=gpt").trainer.model.options) == {"width", "layers", "heads"}

    def test_power_rules_are_read(self, read: Load) -> None:
        text = "[[rules]]\nname = 'quarter'\nbatch_exponent = 0.25\nparameter_exponent = 0\n"
        (rule,) = read(text).rules
        assert (rule.name, rule.batch_exponent, rule.source) == ("quarter", 0.25, "sweep.toml")


class TestValues:
    @pytest.mark.parametrize(
        ("assignment", "key"),
        [
            ("trainer.batch_size=0", "trainer.batch_size"),
            ("trainer.precision=fp8", "trainer.precision"),
            ("trainer.epochs=many", "trainer.epochs"),
            ("trainer.lr_schedule.name=step", "lr_schedule.name"),
            ("trainer.lr_schedule.warmup_share=1", "lr_schedule.warmup_share"),
            ("trainer.lr_schedule.warmup_share='0.1'", "lr_schedule.warmup_share"),
            ("trainer.lr_schedule={warmup_share=0.1,warmup_steps=3}", "set one of them to 0"),
            ("study.trials=-1", "study.trials"),
            ("study.timeout=nan", "study.timeout"),
            ("data.vocabulary_size=2", "data.vocabulary_size"),
            ("data.stride=99", "data.stride"),
        ],
    )
    def test_a_wrong_one_names_its_key_in_one_line(
        self, read: Load, assignment: str, key: str
    ) -> None:
        with pytest.raises(SweepError) as caught:
            read(None, assignment)
        assert key in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_set_reads_toml_values_and_plain_words(self) -> None:
        assert parse_assignment("a.b=0.01") == {"a": {"b": 0.01}}
        assert parse_assignment("a.b = [1e-4, 1e-2]") == {"a": {"b": [1e-4, 1e-2]}}
        assert parse_assignment("a.b='x=y'") == {"a": {"b": "x=y"}}
        assert parse_assignment("a.b=fp16") == {"a": {"b": "fp16"}}

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            ("true", True),
            ("False", False),
            ("TRUE", True),
            (".5", 0.5),
            ("-.5e-3", -0.0005),
            ("1.", 1.0),
            ("no", "no"),
            ("1.2.3", "1.2.3"),
            ("007", "007"),
        ],
    )
    def test_what_looks_like_a_truth_or_a_number_is_one(self, word: str, value: object) -> None:
        (found,) = parse_assignment(f"a={word}").values()
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(
        "key", ['models."pkg.mod:build".hidden', "models.pkg.mod:build.hidden"]
    )
    @pytest.mark.parametrize(("word", "value"), [("64", 64), ("gelu", "gelu")])
    def test_a_models_import_path_is_one_part_of_the_key(
        self, key: str, word: str, value: object
    ) -> None:
        assert parse_assignment(f"{key}={word}") == {"models": {"pkg.mod:build": {"hidden": value}}}

    @pytest.mark.parametrize("text", ["trainer.epochs", "=3", "", "#=3", "[=3"])
    def test_set_needs_a_key_and_a_value(self, text: str) -> None:
        with pytest.raises(SweepError, match="KEY=VALUE"):
            parse_assignment(text)


class TestFiles:
    def test_a_named_file_is_taken_for_the_one_in_the_folder(
        self, read: Load, tmp_path: Path
    ) -> None:
        (tmp_path / "sweep.toml").write_text("[trainer]\nepochs = 7\n")
        (tmp_path / "other.toml").write_text("[trainer]\nseed = 5\n")
        config = load(tmp_path / "other.toml", profile=None, cuda=False)
        assert (config.trainer.epochs, config.trainer.seed) == (10, 5)

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(SweepError, match="there is no configuration file"):
            load(tmp_path / "none.toml", profile=None, cuda=False)

    def test_a_byte_order_mark_is_no_part_of_it(self, read: Load) -> None:
        assert read("\ufeff[study]\ntrials = 7\n").study.trials == 7

    def test_malformed_toml_names_the_file_and_the_place(self, read: Load) -> None:
        with pytest.raises(SweepError, match=r"sweep.toml is not valid TOML: .*line 2"):
            read("[trainer]\nepochs = = 3\n")


class TestWhatACommandThatReadsTakes:
    @pytest.mark.parametrize(
        ("text", "storage", "name"),
        [
            (None, "sqlite:///sweep.db", ""),
            ("[study]\nstorage = 'a.db'\nname = 'mine'\n", "a.db", "mine"),
            ("[profiles.cpu.study]\nstorage = 'cpu.db'\n[profiles.cuda.study]\n", "cpu.db", ""),
            ("profile = 'cuda'\n[profiles.cpu.study]\nstorage = 'cpu.db'\n", SHIPPED, ""),
            ("[trainer]\nepochs = 'many'\n[study]\nstorage = 'a.db'\n", "a.db", ""),
        ],
    )
    def test_its_database_and_study(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, storage: str, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        if text:
            (tmp_path / "sweep.toml").write_text(text)
        assert study_default("storage", lambda: False) == storage
        assert study_default("name", lambda: False) == name

    @pytest.mark.parametrize(
        "text", ["study = 3", "profiles = 3", "[study]\nstorage = 3", "profiles.cpu.study = 3", "["]
    )
    def test_what_is_wrong_with_it_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "sweep.toml").write_text(text)
        with pytest.raises(SweepError, match=r"sweep\.toml"):
            study_default("storage", lambda: False)
