"""What one trunk saves: a grid of rates and lengths in one command, and each length alone.

    python tests/benchmarks/bench_trunks.py

Trains real text with a tiny model on the CPU, about two minutes. For lengths T1 to Tk and a decay
of a share s, no less than ((1 - s) Tk + s sum T) / sum T of the steps can be trained: each rate's
stable part once, and every decay. The time is that of the commands, with their starts.
"""

import tempfile
import time
from pathlib import Path

import optuna
from support import Workspace, write_english

RATES = "3e-3,1e-2,3e-2,1e-1,3e-1"
LENGTHS = {"evenly spaced": (40, 80, 120, 160, 200), "doubling": (20, 40, 80, 160, 320)}
SHARE = 0.1
WSD = f"trainer.lr_schedule={{name='wsd', warmup_steps=5, warmup_share=0.0, decay_share={SHARE}}}"

Curves = dict[tuple[int, float], dict[int, float]]


def run(folder: Path, text: Path, every: int, lengths: list[str]) -> tuple[Curves, int, float]:
    """Each trial's values by length and rate, the steps that were trained, and seconds."""
    workspace, began = Workspace(folder, text), time.monotonic()
    fixed = ("--rates", RATES, "--set", WSD, "--set", f"trainer.evaluate_every={every}")
    for each in lengths:
        workspace.sweep("run", "--steps", each, *fixed)
    took, url = time.monotonic() - began, f"sqlite:///{folder / 'sweep.db'}"
    curves, steps = {}, 0
    for name in optuna.get_all_study_names(url):
        study = optuna.load_study(study_name=name, storage=url)
        for trial in study.trials:
            length = study.user_attrs["identity"]["steps"]
            curves[length, trial.params["learning_rate"]] = trial.intermediate_values
            steps += max(trial.intermediate_values) - trial.user_attrs.get("trunk", 0)
    return curves, steps, took


def main() -> None:
    """Prints a line for each set of lengths."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        write_english(root / "text")
        for name, lengths in LENGTHS.items():
            every, words = lengths[0] // 20, [str(each) for each in lengths]
            shared, steps, took = run(root / name, root / "text", every, [",".join(words)])
            alone, whole, longer = run(root / f"{name} alone", root / "text", every, words)
            least = ((1 - SHARE) * lengths[-1] + SHARE * sum(lengths)) / sum(lengths)
            equal = sum(curve == alone[key] for key, curve in shared.items())
            print(
                f"{name} {lengths}: {steps:,} of {whole:,} steps, {100 * steps / whole:.1f} % "
                f"(at least {100 * least:.1f} %); {took:.0f} s against {longer:.0f} s; "
                f"{equal} of {len(alone)} trials equal to the bit"
            )


if __name__ == "__main__":
    main()
