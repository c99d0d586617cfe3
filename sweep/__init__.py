"""Finds the learning rate: orchestrates trials of the shared trainer under an Optuna study."""

__version__ = "0.1.0"
