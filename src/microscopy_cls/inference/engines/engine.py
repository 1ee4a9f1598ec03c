"""The interface of all engines.

Batches have one fixed size, the last one filled up with zeros: then an image's answer does not depend, to the last
bit, on its neighbours or its place in the batch, and an interrupted classification ends as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outputs:
    """Answers for b images: `logits` float32 (members, b, classes), `features` float32 (b, d) of the first member."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Engine(Protocol):
    """Networks ready to answer.

    Attributes:
        name: torch, openvino or onnx.
        precision: of matrix products: fp32, bf16 or int8.
        device: for the record.
        batch_size: images a batch.
    """

    name: str
    precision: str
    device: str
    batch_size: int

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Outputs]:
        """Answer batches, each uint8 (b, size_px, size_px, 3) with b up to `batch_size`, in order.

        Takes some batches ahead of the answers it gives, where that keeps the device busy.
        """
        ...
