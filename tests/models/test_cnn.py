"""The network is the tutorial's, and folding BatchNorm changes its layers, not its answers."""

import pytest
import torch

from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN, fold_batchnorm
from batchdigit.models.digits import packaged_digits
from tests.support import oracle


def random_model(seed: int) -> CNN:
    """A CNN whose BatchNorm layers do something, unlike those of a new one."""
    torch.manual_seed(seed)
    model = CNN()
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        batchnorm = layer[1]
        for tensor in (batchnorm.weight, batchnorm.running_var):
            tensor.data.uniform_(0.2, 3.0)
        for tensor in (batchnorm.bias, batchnorm.running_mean):
            tensor.data.normal_()
    return model.eval()


def test_layers_are_those_of_the_tutorial() -> None:
    ours, theirs = CNN().state_dict(), oracle.CNN().state_dict()
    assert list(ours) == list(theirs)
    assert [tensor.shape for tensor in ours.values()] == [
        tensor.shape for tensor in theirs.values()
    ]
    assert str(CNN()) == str(oracle.CNN())


def test_answers_are_those_of_the_tutorial() -> None:
    ours, theirs = random_model(0), oracle.CNN().eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(5, 1, 28, 28)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


def test_number_of_classes_is_the_declared_one_unless_it_is_given() -> None:
    assert CNN().fc[-1].out_features == 10
    assert CNN(3).fc[-1].out_features == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folded_batchnorm_gives_the_same_logits(seed: int) -> None:
    """In double precision, where rounding hides no difference between the two formulas."""
    model = random_model(seed).double()
    images = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(images)
        folded = fold_batchnorm(model)(images)
    assert torch.allclose(folded, expected, rtol=1e-12, atol=1e-12)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())


def test_folded_packaged_model_agrees_to_a_millionth() -> None:
    from batchdigit.job import PACKAGED_WEIGHTS

    model = load_checkpoint(PACKAGED_WEIGHTS).model
    images = torch.from_numpy(packaged_digits()).float() / 255
    with torch.inference_mode():
        expected = model(images).softmax(1)
        folded = fold_batchnorm(model)(images).softmax(1)
    assert float((folded - expected).abs().max()) < 1e-6
    assert torch.equal(folded.argmax(1), expected.argmax(1))
