"""Lightning's Trainer: ``python -m benchmarks.rivals.lightning_predict FOLDER OUT.csv``."""

import sys

import lightning
import torch

from benchmarks.rivals.common import Row, load_model, write_csv
from benchmarks.rivals.dataloader import loader


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = load_model()

    def predict_step(self, batch: tuple[torch.Tensor, tuple[str, ...]]) -> list[Row]:
        images, names = batch
        confidences, predictions = self.model(images).softmax(dim=1).max(dim=1)
        return list(zip(names, predictions.tolist(), confidences.tolist(), strict=True))


if __name__ == "__main__":
    folder, out = sys.argv[1:]
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = trainer.predict(Digits(), loader(folder))
    write_csv(out, (row for batch in batches for row in batch))
