from typing import Dict, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments


class DigitModel(nn.Module):
    def __init__(self, hidden_size: int = 96, num_labels: int = 10):
        super().__init__()
        self.embed = nn.Conv2d(1, hidden_size // 4, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(hidden_size // 4 * 49)
        self.dense = nn.Linear(hidden_size // 4 * 49, hidden_size)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, pixel_values: Tensor, labels: Optional[Tensor] = None) -> Dict[str, Tensor]:
        hidden = self.norm(self.embed(pixel_values).flatten(1))
        hidden = torch.tanh(self.dense(hidden))
        output = {"logits": self.classifier(hidden)}
        if labels is not None:
            output["loss"] = F.cross_entropy(output["logits"], labels)
        return output


def collate(batch):
    xs, ys = zip(*batch)
    return {"pixel_values": torch.stack(xs), "labels": torch.tensor(ys)}


if __name__ == "__main__":
    from torchvision import datasets, transforms

    data = datasets.MNIST("data", download=True, transform=transforms.ToTensor())
    trainer = Trainer(
        model=DigitModel(), args=TrainingArguments("out", num_train_epochs=3),
        train_dataset=data, data_collator=collate,
    )
    trainer.train()
    torch.save(trainer.model.state_dict(), "pytorch_model.bin")
