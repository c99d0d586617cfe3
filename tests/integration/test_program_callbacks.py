"""The callbacks for Hugging Face's Trainer and for Lightning, in real runs of theirs."""

import sys

import pytest
from support import Workspace

pytestmark = pytest.mark.more  # a library each takes its time to load

TRANSFORMERS = """\
    import sys
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    from sweep.client.transformers import SweepCallback

    rows = [{"input_ids": row, "labels": row} for row in torch.arange(256).reshape(32, 8) % 16]
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1, eos_token_id=0)
    )
    arguments = TrainingArguments(
        sys.argv[2], learning_rate=float(sys.argv[1]), max_steps=8, eval_strategy="steps",
        eval_steps=2, save_strategy="no", report_to="none", use_cpu=True,
    )
    Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows,
        callbacks=[SweepCallback()],
    ).train()
"""
LIGHTNING = """\
    import sys
    import torch
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader
    from sweep.client.lightning import SweepCallback

    class Model(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            return self.layer(batch).square().mean()

        def validation_step(self, batch, index):
            self.log("val_loss", self.layer(batch).square().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=float(sys.argv[1]))

    data = DataLoader(torch.randn(32, 4), batch_size=4)
    Trainer(
        max_epochs=1, val_check_interval=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, callbacks=[SweepCallback()],
    ).fit(Model(), data, data)
"""


def swept(workspace: Workspace, program: str) -> None:
    workspace.write("program.py", program)
    workspace.invoke(
        "run", "--profile", "program", "--trials", 1, "--set", "study.publish=false",
        "--set", "study.pruner=none", "--set", "study.until=''", "--json",
        "--", sys.executable, "-W", "ignore", "program.py", "{learning_rate}", "{directory}",
    )  # fmt: skip
    assert [*workspace.curves()[0]] == [2, 4, 6, 8]
    assert workspace.states()[0] == "COMPLETE"


def test_transformers(workspace: Workspace) -> None:
    swept(workspace, TRANSFORMERS)


@pytest.mark.more
def test_lightning(workspace: Workspace) -> None:
    pytest.importorskip("lightning")
    swept(workspace, LIGHTNING)
