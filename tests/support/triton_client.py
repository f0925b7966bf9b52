"""An independent client of the Open Inference Protocol: NVIDIA's, written without our server.

Usage: python -m tests.support.triton_client ADDRESS FILE.npz. Runs in a process of its own: its
messages and ours have the same names. Reads arrays from the file, prints the answers as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton


def infer(client: Any, model: str, name: str, values: Any, parameters: dict[str, int]) -> Any:
    """Labels, probabilities and parameters of the answer, or status and message of the refusal."""
    given = triton.InferInput(name, list(values.shape), "UINT8")
    given.set_data_from_numpy(values)
    try:
        answer = client.infer(model, [given], request_id="seven", parameters=parameters)
    except triton.InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    probabilities = answer.as_numpy("probabilities")
    return {
        "labels": answer.as_numpy("label").tolist(),
        "best": probabilities.argmax(axis=1).tolist(),
        "sums": probabilities.sum(axis=1).tolist(),
        "id": answer.get_response().id,
    }


def main() -> None:
    """Ask for everything that the protocol has."""
    address, path = sys.argv[1:]
    arrays = np.load(path)
    images, features, model = arrays["images"], arrays["features"], str(arrays["model"])
    level = {"level": int(arrays["level"])}
    client = triton.InferenceServerClient(address)
    metadata = client.get_model_metadata(model, as_json=True)
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "other_ready": client.is_model_ready("other"),
        "server": client.get_server_metadata(as_json=True)["name"],
        "inputs": [tensor["name"] for tensor in metadata["inputs"]],
        "images": infer(client, model, "image", images, {}),
        "one": infer(client, model, "image", images[:1], {}),
        "many": infer(client, model, "image", np.repeat(images[:1], 1500, axis=0), {}),
        "narrow": infer(client, model, "image", images, level),
        "features": infer(client, model, "features", features, level),
        "unknown": infer(client, "other", "image", images, {}),
        "misshaped": infer(client, model, "image", images[:, :5], {}),
        "misnamed": infer(client, model, "picture", images, {}),
        "beyond": infer(client, model, "image", images, {"level": 99}),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
