"""An independent client of the Open Inference Protocol: NVIDIA's, written without our server.

Usage: python -m tests.support.triton_client ADDRESS FILE.npz. Runs in a process of its own: its
messages and ours have the same names. Reads arrays from the file, prints the answers as JSON.
"""

from __future__ import annotations

import io
import json
import queue
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import np_to_triton_dtype


def infer(client: Any, model: str, name: str, values: Any, parameters: dict[str, int]) -> Any:
    """Labels, probabilities and parameters of the answer, or status and message of the refusal."""
    try:
        answer = client.infer(
            model, [tensor(name, values)], request_id="seven", parameters=parameters
        )
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
    said |= extensions(client, model, images)
    print(json.dumps(said))


def extensions(client: Any, model: str, images: Any) -> dict[str, Any]:
    """Triton's extensions: other types of images, classes, versions, configuration, streams."""
    floats = images.astype(np.float32)
    files = np.array([png(image) for image in images[:20]], dtype=np.object_)
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    best = client.infer(model, [tensor("image", images[:2])], outputs=wanted)
    config = client.get_model_config(model, as_json=True)["config"]
    statistics = client.get_inference_statistics(model, as_json=True)["model_stats"]
    index = client.get_model_repository_index(as_json=True)["models"]
    return {
        "floats": infer(client, model, "image", floats, {}),
        "shares": infer(client, model, "image", floats / 255, {}),
        "files": infer(client, model, "image", files, {}),
        "broken": infer(client, model, "image", np.array([b"no png"], dtype=np.object_), {}),
        "best": [[one.decode() for one in row] for row in best.as_numpy("probabilities")],
        "numbered": ready(client, model, ["1", "2", "0"]),
        "config": [config["name"], config["max_batch_size"], config["input"][0]["dims"]],
        "statistics": statistics[0],
        "index": index,
        "stream": streamed(client, model, images),
        "load": refused(lambda: client.load_model(model)),
    }


def tensor(name: str, values: Any) -> Any:
    """An input with the values' own type."""
    given = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    given.set_data_from_numpy(values)
    return given


def png(image: Any) -> bytes:
    """A picture file."""
    out = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(out, "PNG")
    return out.getvalue()


def ready(client: Any, model: str, versions: list[str]) -> list[bool]:
    """Which versions are ready."""
    return [client.is_model_ready(model, version) for version in versions]


def streamed(client: Any, model: str, images: Any) -> dict[str, Any]:
    """Labels by request id, and the error of one request, over one stream."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for place in range(40):
        client.async_stream_infer(
            model, [tensor("image", images[place : place + 1])], request_id=str(place)
        )
    client.async_stream_infer("other", [tensor("image", images[:1])], request_id="wrong")
    labels, errors = {}, []
    for _ in range(41):
        result, error = answers.get(timeout=30)
        if error is not None:
            errors.append(error.message())
        else:
            labels[result.get_response().id] = int(result.as_numpy("label")[0])
    client.stop_stream()
    return {"labels": labels, "errors": errors}


def refused(call: Callable[[], Any]) -> str:
    """The status of a call that is refused."""
    try:
        call()
    except triton.InferenceServerException as error:
        return str(error.status())
    return "OK"


if __name__ == "__main__":
    main()
