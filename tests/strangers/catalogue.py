"""The networks in ``files``: how their authors gave them images, and how one tells batchdigit so.

What is here is what an author would write with torchvision, independently of batchdigit.
B batch, C channels, H and W height and width, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torchvision import transforms as tv

from tests.strangers.targets import Target, digits, digits_and_none, marked_digits

FILES = Path(__file__).parent / "files"
MNIST_STATISTICS = {"--mean": "0.1307", "--std": "0.3081"}
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
BALANCED = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")

Weights = Mapping[str, Tensor]


def likelihood(scores_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross entropy, of probabilities."""
    return functional.nll_loss(torch.log(scores_BK + 1e-8), labels_B)


def yes_or_no(scores_BK: Tensor, labels_B: Tensor) -> Tensor:
    """A loss for each class alone, as of a network that ends in sigmoids."""
    wanted = functional.one_hot(labels_B, scores_BK.shape[1]).float()
    return functional.binary_cross_entropy(scores_BK, wanted)


def softmax(output_BK: Tensor) -> Tensor:
    return torch.softmax(output_BK, dim=1)


def as_it_is(output: Any) -> Any:
    return output


@dataclass(frozen=True, eq=False)
class Stranger:
    """A network that someone published, and its author's habits.

    ``flags`` are batchdigit's options that declare the input; ``model_toml`` is the content of a
    model.toml that does so instead. ``args`` are for ``--network-args``. ``saves`` makes the object
    that the author gives to torch.save, of weights whose names begin with ``prefix``. Training at
    this ``rate`` ends when the share ``enough`` of its images is read right.
    """

    name: str
    file: str
    cls: str
    args: dict[str, Any] | None = None
    author_input: Callable[[Image.Image], Tensor] = tv.ToTensor()  # noqa: RUF009
    author_scores: Callable[[Any], Tensor] = softmax
    flags: dict[str, str] | None = None
    model_toml: dict[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    classes: int = 10
    target: Callable[[], Target] = digits
    prefix: str = ""
    saves: Callable[[Weights], Any] = dict
    only_onnx: bool = False
    loss: Callable[[Tensor, Tensor], Tensor] = likelihood
    rate: float = 3e-3
    enough: float = 0.97

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        return FILES / self.file

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of the classes, one after another."""
        return self.labels or tuple(map(str, range(self.classes)))

    @property
    def network(self) -> str:
        """The value of ``--network``."""
        return f"{self.path}:{self.cls}"


def pipeline(*steps: Callable[[Any], Any]) -> tv.Compose:
    return tv.Compose([*steps])


def normalised(mean: float, std: float) -> tv.Compose:
    return pipeline(tv.ToTensor(), tv.Normalize((mean,), (std,)))


def transposed(image_CHW: Tensor) -> Tensor:
    return image_CHW.transpose(1, 2)


def tutorial_checkpoint(weights: Weights) -> dict[str, Any]:
    """As PyTorch's tutorial on checkpoints writes it."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))], lr=3e-3)
    return {
        "epoch": 12,
        "model_state_dict": weights,
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": 0.0123,
    }


def lightning_checkpoint(weights: Weights) -> dict[str, Any]:
    return {
        "epoch": 4,
        "global_step": 9375,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.001, "params": [0, 1]}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"hidden_dim": 64, "learning_rate": 0.001},
    }


STRANGERS = (
    Stranger("mlp", "mlp.py", "MLP", flags={}),
    Stranger(
        "mlp_sequential",
        "mlp_sequential.py",
        "build_model",
        author_input=pipeline(tv.ToTensor(), torch.flatten),
        flags={"--layout": "flat"},
    ),
    Stranger("softmax_regression", "softmax_regression.ipynb", "SoftmaxRegression", flags={}),
    Stranger(
        "lenet5",
        "lenet5.py",
        "LeNet5",
        author_input=pipeline(tv.Resize((32, 32)), tv.ToTensor()),
        flags={"--input-size": "32"},
    ),
    Stranger(
        "lenet_padded",
        "lenet_padded.py",
        "LeNet",
        author_input=pipeline(tv.Pad(2), tv.ToTensor()),
        flags={"--input-size": "32", "--place": "pad"},
    ),
    Stranger(
        "example_net",
        "example_net.py",
        "Net",
        author_input=normalised(0.1307, 0.3081),
        author_scores=torch.exp,
        flags=MNIST_STATISTICS,
        rate=2e-3,
        enough=0.92,
    ),
    Stranger(
        "old_example_net",
        "old_example_net.py",
        "Net",
        author_input=normalised(0.1307, 0.3081),
        author_scores=torch.exp,
        flags=MNIST_STATISTICS,
    ),
    Stranger(
        "output_and_features",
        "output_and_features.py",
        "CNN",
        author_scores=lambda output: softmax(output[0]),
        flags={},
    ),
    Stranger(
        "logits_and_probas",
        "logits_and_probas.py",
        "ConvNet",
        args={"num_classes": 10},
        author_scores=lambda output: output[1],
        flags={},
        rate=1e-2,
    ),
    Stranger(
        "batchnorm_cnn",
        "batchnorm_cnn.py",
        "DigitNet",
        author_input=normalised(0.1307, 0.3081),
        flags=MNIST_STATISTICS,
        saves=tutorial_checkpoint,
    ),
    Stranger("small_resnet", "small_resnet.py", "ResNet8", flags={}, rate=1e-2),
    Stranger("depthwise_separable", "depthwise_separable.py", "MobileNetTiny", flags={}, rate=1e-2),
    Stranger(
        "all_convolutional",
        "all_convolutional.py",
        "AllConv",
        author_scores=lambda output_BK11: softmax(output_BK11.flatten(1)),
        flags={},
        rate=1e-2,
    ),
    Stranger(
        "rgb_cnn",
        "rgb_cnn.py",
        "RGBNet",
        author_input=pipeline(
            tv.Grayscale(num_output_channels=3),
            tv.ToTensor(),
            tv.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ),
        flags={"--channels": "3", "--mean": "0.485,0.456,0.406", "--std": "0.229,0.224,0.225"},
    ),
    Stranger(
        "softmax_at_end",
        "softmax_at_end.py",
        "Model",
        author_scores=as_it_is,
        flags={},
        rate=5e-3,
        enough=0.99,
    ),
    Stranger(
        "sigmoid_at_end",
        "sigmoid_at_end.py",
        "NeuralNetwork",
        author_scores=as_it_is,
        flags={"--scores": "probabilities"},
        loss=yes_or_no,
    ),
    Stranger(
        "half_normalised",
        "half_normalised.py",
        "Net",
        author_input=normalised(0.5, 0.5),
        flags={"--mean": "0.5", "--std": "0.5"},
    ),
    Stranger(
        "raw_pixels",
        "raw_pixels.py",
        "RawNet",
        author_input=lambda image: tv.functional.pil_to_tensor(image).float(),
        flags={"--range": "0-255"},
        rate=1e-3,
    ),
    Stranger(
        "dark_on_light",
        "dark_on_light.py",
        "PaperNet",
        author_input=pipeline(tv.ToTensor(), lambda x: 1 - x),
        flags={"--expects": "dark-on-light"},
    ),
    Stranger(
        "emnist_digits",
        "emnist_digits.py",
        "EmnistNet",
        author_input=pipeline(tv.ToTensor(), transposed),
        flags={"--transpose": ""},
    ),
    Stranger("relu_logits", "relu_logits.py", "NeuralNetwork", flags={}, rate=1e-3),
    Stranger(
        "constructor_arguments",
        "constructor_arguments.py",
        "ConvClassifier",
        args={"in_channels": 1, "hidden": 16, "num_classes": 10},
        flags={},
        enough=0.99,
    ),
    Stranger(
        "dict_of_outputs",
        "dict_of_outputs.py",
        "DigitModel",
        author_scores=lambda output: softmax(output["logits"]),
        flags={},
    ),
    Stranger(
        "digit_or_none",
        "digit_or_none.py",
        "CellNet",
        flags={},
        labels=(*map(str, range(10)), "none"),
        classes=11,
        target=digits_and_none,
    ),
    Stranger(
        "letters",
        "letters.py",
        "LetterNet",
        author_input=normalised(0.1722, 0.3309),
        flags={"--mean": "0.1722", "--std": "0.3309"},
        labels=LETTERS,
        classes=26,
        target=lambda: marked_digits(26),
    ),
    Stranger(
        "emnist_balanced",
        "emnist_balanced.py",
        "BalancedNet",
        author_input=pipeline(tv.ToTensor(), transposed),
        author_scores=torch.exp,
        model_toml={"input": {"transpose": True}, "labels": list(BALANCED), "fit": "exact"},
        labels=BALANCED,
        classes=47,
        target=lambda: marked_digits(47),
    ),
    Stranger(
        "tiny_vit",
        "tiny_vit.py",
        "ViT",
        author_input=normalised(0.5, 0.5),
        flags={"--mean": "0.5", "--std": "0.5"},
        rate=2e-3,
    ),
    Stranger("row_lstm", "row_lstm.py", "RNN", flags={}, rate=1e-2),
    Stranger(
        "row_gru",
        "row_gru.py",
        "GRUNet",
        author_input=pipeline(tv.ToTensor(), lambda x: x.reshape(28, 28)),
        flags={"--layout": "nhw"},
        saves=lambda weights: {"model": weights},
        rate=1e-2,
    ),
    Stranger(
        "data_parallel",
        "data_parallel.py",
        "DropNet",
        author_input=normalised(0.1307, 0.3081),
        flags=MNIST_STATISTICS,
        prefix="module.",
    ),
    Stranger(
        "lightning_style",
        "lightning_style.py",
        "Backbone",
        flags={},
        prefix="model.",
        saves=lightning_checkpoint,
    ),
    Stranger(
        "notebook_cnn",
        "notebook_cnn.ipynb",
        "Net",
        author_input=normalised(0.1307, 0.3081),
        flags=MNIST_STATISTICS,
    ),
    Stranger(
        "inverted_half",
        "inverted_half.py",
        "WhitePaper",
        author_input=pipeline(ImageOps.invert, tv.ToTensor(), tv.Normalize((0.5,), (0.5,))),
        flags={"--expects": "dark-on-light", "--mean": "0.5", "--std": "0.5"},
    ),
    Stranger(
        "keras_nhwc",
        "keras_nhwc.py",
        "KerasCNN",
        author_input=pipeline(tv.ToTensor(), lambda image_CHW: image_CHW.permute(1, 2, 0)),
        author_scores=as_it_is,
        flags={"--layout": "nhwc"},
        only_onnx=True,
    ),
    Stranger("two_files", "two_files/net.py", "Net", flags={}),
    Stranger(
        "vgg_rgb32",
        "vgg_rgb32.py",
        "VGG",
        author_input=pipeline(
            tv.Resize(32),
            tv.Grayscale(3),
            tv.ToTensor(),
            tv.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ),
        model_toml={
            "input": {
                "size": [32, 32],
                "channels": 3,
                "range": "0-1",
                "mean": [0.4914, 0.4822, 0.4465],
                "std": [0.2023, 0.1994, 0.2010],
            }
        },
        saves=lambda weights: {"net": weights, "acc": 99.1, "epoch": 3},
    ),
)
