"""``python litserve_server.py NETWORK PORT``: LitServe with one ONNX network.

A request is JSON with the pixels of an image in base64, the answer a label and probabilities.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):  # type: ignore[misc]
    """The network in ONNX Runtime on one thread."""

    def setup(self, device: str) -> None:
        """Load the network."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request: dict[str, str]) -> Any:
        """Return the image (1, 28, 28, 1)."""
        pixels = np.frombuffer(base64.b64decode(request["image"]), np.uint8)
        return pixels.reshape(1, 28, 28, 1)

    def predict(self, image: Any) -> Any:
        """Return label and probabilities."""
        return self._session.run(None, {"image": image})

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the response as JSON values."""
        label, probabilities = output
        return {"label": int(label[0]), "probabilities": probabilities[0].tolist()}


if __name__ == "__main__":
    litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
    )
