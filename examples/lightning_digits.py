#!/usr/bin/env python3
"""PyTorch Lightning on handwritten digits, over all workers of the job, on the CPU.

The script knows nothing of tractorun. Lightning finds the other workers as it does under torchrun; it asks only to be
told of the job's shape, since it checks what it is told against what it finds. Needs `pip install pytorch-lightning`.
"""

import os

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = int(os.environ.get("EPOCHS", "10"))


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, _index):
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def test_step(self, batch, _index):
        images, labels = batch
        right = (self.network(images).argmax(dim=1) == labels).float().mean()
        # The mean over all workers.
        self.log("accuracy", right, sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:448], order[448:]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def main():
    pl.seed_everything(0)
    torch.set_num_threads(1)
    train_set, test_set = load_data()
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier()
    # Lightning gives each worker its own share of the rows.
    trainer.fit(model, DataLoader(train_set, batch_size=16, shuffle=True))
    results = trainer.test(model, DataLoader(test_set, batch_size=16), verbose=False)
    if trainer.is_global_zero:
        print(f"{trainer.world_size} workers, test accuracy: {results[0]['accuracy']:.3f}", flush=True)


if __name__ == "__main__":
    main()
