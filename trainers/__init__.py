"""The shared trainer: one loop for every precision, model and data set. Knows nothing of Optuna."""
