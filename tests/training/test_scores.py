"""Scores are what numpy counts, and a calibrated model's confidence is right."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import ToTensor

from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.training.digits import Digits
from batchdigit.training.scores import MIN_ERRORS, calibrate, evaluate, to_float


def with_errors(digits: Digits, count: int) -> Digits:
    """The digits, the first ``count`` of them labelled wrongly."""
    labels = digits.labels.clone()
    labels[:count] = (labels[:count] + 1) % 10
    return Digits(digits.images, labels)


def packaged() -> CNN:
    return load_checkpoint(PACKAGED_WEIGHTS).model


def test_pixels_are_those_of_to_tensor(hundred: Digits) -> None:
    found = to_float(hundred.images[:5])
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    for pixels, image in zip(found, hundred.images, strict=False):
        assert torch.equal(pixels, ToTensor()(Image.fromarray(image[0].numpy())))


@pytest.mark.parametrize("times", [1, 11])  # in one part and in several
def test_score_is_what_numpy_counts(hundred: Digits, times: int) -> None:
    torch.manual_seed(0)
    model = CNN().train()
    digits = Digits(hundred.images.repeat(times, 1, 1, 1), hundred.labels.repeat(times))
    score = evaluate(model, digits, torch.device("cpu"))
    assert not model.training
    with torch.inference_mode():
        logits = model(digits.images.double().div(255).float()).double().numpy()
    truth = digits.labels.numpy()
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (truth, logits.argmax(1)), 1)
    logs = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(truth)), truth]
    assert score.confusion == confusion.tolist()
    assert score.errors == (logits.argmax(1) != truth).sum()
    assert score.images == 100 * times
    assert score.loss == pytest.approx(logs.mean(), rel=1e-5)
    assert score.accuracy == pytest.approx((logits.argmax(1) == truth).mean())


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_calibration_undoes_a_wrong_temperature(hundred: Digits, factor: float) -> None:
    digits = with_errors(hundred, 20)  # 80% is the right confidence
    model, other = packaged(), packaged()
    for parameter in other.fc[-1].parameters():
        parameter.data.mul_(factor)
    temperature, others = calibrate(model, digits), calibrate(other, digits)
    assert others == pytest.approx(temperature * factor, rel=0.02)
    image = digits.images[:1].float() / 255
    assert torch.allclose(model(image), other(image), rtol=0.02, atol=1e-3)


def test_temperature_is_the_best_of_all(hundred: Digits) -> None:
    """It is the one that a search over a grid finds."""
    digits, model = with_errors(hundred, 20), packaged()
    with torch.inference_mode():
        logits = model(to_float(digits.images))
    grid = torch.logspace(np.log10(0.05), np.log10(50), 4000)
    scaled = (logits / grid[:, None, None]).flatten(0, 1)
    each = nn.functional.cross_entropy(scaled, digits.labels.repeat(len(grid)), reduction="none")
    losses = each.reshape(len(grid), -1).mean(1)
    assert calibrate(model, digits) == pytest.approx(float(grid[losses.argmin()]), rel=0.005)
    with torch.inference_mode():
        after = float(nn.functional.cross_entropy(model(to_float(digits.images)), digits.labels))
    assert after == pytest.approx(float(losses.min()), rel=1e-4)


@pytest.mark.parametrize("errors", [0, MIN_ERRORS - 1])
def test_few_errors_say_nothing_of_the_temperature(hundred: Digits, errors: int) -> None:
    model = packaged()
    assert calibrate(model, with_errors(hundred, errors)) == 1
    expected = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())


def test_labels_stay_as_they_were(hundred: Digits) -> None:
    model, calibrated = packaged(), packaged()
    calibrate(calibrated, with_errors(hundred, 20))
    with torch.inference_mode():
        before, after = (one(to_float(hundred.images)) for one in (model, calibrated))
    assert not torch.allclose(before, after)
    assert torch.equal(before.argmax(1), after.argmax(1))
