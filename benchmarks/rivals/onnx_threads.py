"""Threads, OpenCV and ONNX Runtime, without torch.

    python -m benchmarks.rivals.onnx_threads FOLDER OUT.csv MODEL.onnx

MODEL.onnx is what ``batchdigit model convert`` makes of the packaged weights: it takes bytes.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnxruntime

from benchmarks.rivals.common import BATCH_SIZE, WORKERS, Row, write_csv


def start_session(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = WORKERS
    # Threads that wait in a loop would take cores away from those that read.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(folder: str, model: str) -> Iterator[Row]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".png"))

    def read(start: int) -> tuple[list[str], np.ndarray]:
        part = names[start : start + BATCH_SIZE]
        images = np.empty((len(part), 1, 28, 28), np.uint8)
        for row, name in enumerate(part):
            images[row, 0] = cv2.imread(f"{folder}/{name}", cv2.IMREAD_GRAYSCALE)
        return part, images

    with ThreadPoolExecutor(WORKERS) as pool:
        batches = pool.map(read, range(0, len(names), BATCH_SIZE))
        session = start_session(model)  # while the first batches are read
        for part, images in batches:
            (logits,) = session.run(None, {"images": images})
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            probs = exponentials / exponentials.sum(axis=1, keepdims=True)
            yield from zip(
                part, probs.argmax(axis=1).tolist(), probs.max(axis=1).tolist(), strict=True
            )


if __name__ == "__main__":
    source, out, weights = sys.argv[1:]
    cv2.setNumThreads(1)
    write_csv(out, predict(source, weights))
