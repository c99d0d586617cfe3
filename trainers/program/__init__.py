"""Any training program as a trainer: told its settings, watched, and ended with all it starts.

`trainer.run` is the generator that workers drive, as they drive `trainers.train.train`.
"""

TRAINER = "trainers.program.trainer:run"
