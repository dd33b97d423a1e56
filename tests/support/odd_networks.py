"""Networks as people write them, and as they should not: all of them start from one that is linear.

This file stands for a user's own: ``--network odd_networks.py:CLASS`` names what is in it.
B batch, C channels, H and W height and width, K classes.
"""

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Module):
    """Scores of ten digits that are linear in their pixels."""

    def __init__(self, pixels: int = 784, classes: int = 10) -> None:
        super().__init__()
        self.fc = nn.Linear(pixels, classes)

    def forward(self, x: Tensor) -> Any:
        return self.fc(x.flatten(1))


# What cannot be used


class Raises(Linear):
    def forward(self, x: Tensor) -> Any:
        raise ValueError(f"out of order\nsince {x.dtype}")


class Exits(Linear):
    def forward(self, x: Tensor) -> Any:
        raise SystemExit(3)


class Pictures(Linear):
    def forward(self, x: Tensor) -> Any:
        return x * self.fc.bias.sum()


class OneNumber(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).sum()


class Nothing(Linear):
    def forward(self, x: Tensor) -> Any:
        super().forward(x)


class Word(Linear):
    def forward(self, x: Tensor) -> Any:
        super().forward(x)
        return "seven"


class RowsOf784(Linear):
    """Where images have several channels, each of these becomes a row of its own."""

    def forward(self, x: Tensor) -> Any:
        return self.fc(x.reshape(-1, 784))


class TwoUnknown(Linear):
    def forward(self, x: Tensor) -> Any:
        scores_BK = super().forward(x)
        return scores_BK[:, :7], scores_BK[:, :9]


class NotANumber(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * torch.nan


class Infinite(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) / 0


class ForgetsThatItIsTrained(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(functional.dropout(x))


class NeverTrained(Linear):
    """Its BatchNorm takes its numbers from each batch, for good."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(10)

    def train(self, mode: bool = True) -> "NeverTrained":
        return super().train(True)

    def forward(self, x: Tensor) -> Any:
        return self.norm(super().forward(x))


class SoftmaxOfTheBatch(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(0)


class HoldsALock(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class WithoutParameters(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.flatten(1)[:, 300:310]


# What takes another input


class Side32(Linear):
    def __init__(self) -> None:
        super().__init__(32 * 32)


class Colour(Linear):
    def __init__(self) -> None:
        super().__init__(3 * 784)


class ChannelsLast(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.first(x.permute(0, 3, 1, 2)))


class Rows(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.fc(x)


class Recurrent(Linear):
    def __init__(self) -> None:
        super().__init__(16)
        self.rows = nn.GRU(28, 16, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.rows(x)[0][:, -1])


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(10)

    def forward(self, x: Tensor) -> Any:
        return self.fc(x.flatten(1))


# What gives its scores in other ways


class InATuple(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x.flatten(1)[:, :50]


class InAList(Linear):
    def forward(self, x: Tensor) -> Any:
        return [x.flatten(1)[:, :50], super().forward(x)]


class InADictionary(Linear):
    def forward(self, x: Tensor) -> Any:
        return {"features": x.flatten(1)[:, :50], "loss": x.sum(), "logits": super().forward(x)}


class Within(Linear):
    def forward(self, x: Tensor) -> Any:
        return None, ({"logits": super().forward(x)}, "digits")


class OnePixel(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, :, None, None]


class Squeezed(Linear):
    """One image gives [K], as squeeze() has it."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).squeeze()


class LogitsAndProbabilities(Linear):
    def forward(self, x: Tensor) -> Any:
        scores_BK = super().forward(x)
        return scores_BK, scores_BK.softmax(1)


class Softmax(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(1)


class LogSoftmax(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).log_softmax(1)


class LogSoftmaxAndFeatures(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).log_softmax(1), x.flatten(1)[:, :50]


class Sigmoid(Linear):
    def forward(self, x: Tensor) -> Any:
        return (super().forward(x) / 8).sigmoid()  # or several would be 1


class Rectified(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).relu()


# What computes in its own way


class KeepsWhatItSaw(Linear):
    """What one layer leaves for the next stands in the network itself."""

    def forward(self, x: Tensor) -> Any:
        self.seen = x.flatten(1)
        for _ in range(20):
            self.seen = self.seen * 1.0
        return self.fc(self.seen)


class OnlySingle(Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.float())


class Counts(Linear):
    """Writes down what it was asked, in a buffer that is whole numbers."""

    asked: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Any:
        self.asked += len(x)
        return super().forward(x)
