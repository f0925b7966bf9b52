"""``python kserve_server.py NETWORK GRPC_PORT HTTP_PORT``: KServe's server with one network."""

from __future__ import annotations

import sys
from typing import Any

import kserve  # type: ignore[import-not-found]
import onnxruntime

NAME = "digits"


class Digits(kserve.Model):  # type: ignore[misc]
    """The network in ONNX Runtime on one thread."""

    def __init__(self, path: str) -> None:
        super().__init__(NAME)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Return both outputs as raw contents, like our server."""
        image = payload.inputs[0].as_numpy()
        outputs = []
        for name, values in zip(
            ("label", "probabilities"), self._session.run(None, {"image": image}), strict=True
        ):
            datatype = "INT64" if name == "label" else "FP32"
            outputs.append(kserve.InferOutput(name, list(values.shape), datatype))
            outputs[-1].set_data_from_numpy(values, binary_data=True)
        return kserve.InferResponse(payload.id, NAME, outputs)


if __name__ == "__main__":
    network, grpc_port, http_port = sys.argv[1:]
    kserve.ModelServer(grpc_port=int(grpc_port), http_port=int(http_port), workers=1).start(
        [Digits(network)]
    )
