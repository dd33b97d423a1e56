"""Augmentation changes pictures, not digits."""

import pytest
import torch

from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.training.augment import augmentation
from batchdigit.training.digits import Digits


def test_augmentation_keeps_shape_and_type_and_changes_pixels() -> None:
    torch.manual_seed(0)
    images = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 12:16] = 255
    changed = augmentation()(images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, images)
    assert float(changed.float().mean()) == pytest.approx(float(images.float().mean()), rel=0.4)


def test_images_of_a_group_share_one_transformation(hundred: Digits) -> None:
    torch.manual_seed(1)
    transform = augmentation()
    one = hundred.images[:1]
    together = transform(one.repeat(5, 1, 1, 1))
    assert all(torch.equal(image, together[0]) for image in together)
    assert not torch.equal(transform(one)[0], together[0])


def test_random_numbers_are_those_of_the_seed(hundred: Digits) -> None:
    seen = []
    for seed in (2, 2, 3):
        torch.manual_seed(seed)
        seen.append(augmentation()(hundred.images))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_digits_stay_what_they_are(hundred: Digits) -> None:
    torch.manual_seed(4)
    transform, model = augmentation(), load_checkpoint(PACKAGED_WEIGHTS).model
    images = torch.cat([transform(part) for part in hundred.images.split(5) for _ in range(3)])
    labels = torch.cat([part for part in hundred.labels.split(5) for _ in range(3)])
    with torch.inference_mode():
        found = model(images.float() / 255).argmax(1)
    assert float((found == labels).float().mean()) > 0.97
