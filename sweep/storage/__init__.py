"""The database. Whatever is Optuna's own inside stands here and nowhere else."""
