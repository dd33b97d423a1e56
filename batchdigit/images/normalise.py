"""Bringing strokes, whatever their size and width, to what MNIST's look like.

The last of the steps that :mod:`batchdigit.images.fit` describes.
"""

from __future__ import annotations

import cv2
import numpy as np

from batchdigit.images.strokes import Pixels, blank
from batchdigit.models.spec import MNIST

DIGIT = 20  # the larger side of a digit in an image of MNIST, in pixels
FINE = 4  # times the final resolution, for the normalisation
# Width of strokes in MNIST at FINE times its resolution: the middle 90% of its training images.
MIN_WIDTH, MAX_WIDTH = 10.0, 18.0


def normalise(strokes: Pixels, side: int) -> Pixels:
    """Strokes whose larger side is ``side`` pixels, as MNIST has them: uint8[28, 28].

    Raises ImageError (``blank``) where nothing of them is left.
    """
    factor = FINE * DIGIT / side
    h, w = strokes.shape
    size = max(1, round(w * factor)), max(1, round(h * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    fine = _of_usual_width(cv2.resize(strokes, size, interpolation=how))
    _, _, w, h = cv2.boundingRect(cv2.compare(fine, 127, cv2.CMP_GT))
    if not w:
        raise blank()
    factor = FINE * DIGIT / max(w, h)
    if abs(factor - 1) > 0.05:
        h, w = fine.shape
        fine = cv2.resize(fine, (max(1, round(w * factor)), max(1, round(h * factor))))
    return cv2.resize(_centred(fine), MNIST.plane, interpolation=cv2.INTER_AREA)


def _of_usual_width(fine: Pixels) -> Pixels:
    """Strokes that are neither thinner nor thicker than usual in MNIST."""
    inside = cv2.threshold(fine, 127, 1, cv2.THRESH_BINARY)[1]
    # The rim makes sure that there is background to measure the distance to.
    inside = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distances = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    width = 4 * cv2.mean(distances, inside)[0]
    radius = round((min(max(width, MIN_WIDTH), MAX_WIDTH) - width) / 2)
    if radius == 0 or width == 0:
        return fine
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
    if radius < 0:
        return cv2.erode(fine, kernel)
    return cv2.dilate(cv2.copyMakeBorder(fine, *(radius,) * 4, cv2.BORDER_CONSTANT), kernel)


def _centred(fine: Pixels) -> Pixels:
    """The strokes on a square of FINE times the final size, with MNIST's centre of mass.

    That is the middle of pixel 14, counted from 0, half a pixel from the middle of the 28.
    """
    side = MNIST.size[0] * FINE
    centre = (MNIST.size[0] / 2 + 0.5) * FINE - 0.5
    moments = cv2.moments(fine)
    left = round(centre - moments["m10"] / moments["m00"])
    top = round(centre - moments["m01"] / moments["m00"])
    square = np.zeros((side, side), np.uint8)
    x, y = max(0, left), max(0, top)
    part = fine[y - top : side - top, x - left : side - left]
    square[y : y + part.shape[0], x : x + part.shape[1]] = part
    return square
