"""The model bundle: one safetensors file with everything that a device and a cloud server need.

Tensors are named ``device.STAGE.FIELD``, ``exit.STAGE.FIELD``, ``cloud.STAGE.FIELD`` and
``codec.LEVEL.FIELD``. The header holds a JSON document under the key ``taper``. A device reads only
its part. Nothing is unpickled, and sizes are checked against the network before use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shared.atomic_file import replacing
from shared.errors import BundleError
from shared.model.architecture import Activation, Architecture, Shape, Stage
from shared.model.preprocessing import Preprocessing, default_preprocessing
from shared.model.stage_tensors import StageTensors, from_file, to_file

FORMAT_VERSION = 1
TERNARY_FORMAT_VERSION = 2  # for ternary stages, which readers of version 1 would run as binary
STRIDED_FORMAT_VERSION = 3  # for strides, which readers of version 2 do not know
FORMAT_VERSIONS = (FORMAT_VERSION, TERNARY_FORMAT_VERSION, STRIDED_FORMAT_VERSION)
METADATA_KEY = "taper"
VALIDATION_ACCURACY = "validation_accuracy"  # a key of ``extra``
LARGEST_FILE_BYTES = 256 * 2**20
DEVICE_GROUPS = ("device", "exit", "codec")
CLOUD_GROUPS = ("cloud", "codec")

Array = npt.NDArray[Any]

# Errors of reading values from a foreign JSON document.
UNREADABLE_JSON = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a bundle.

    ``accuracy[d][c]`` is the accuracy on the whole test set at device level d and cloud level c,
    ``exit_accuracy[d]`` that of the exit head. ``training`` records command, seed and data.
    ``preprocessing`` says how pictures become inputs; bundles of earlier versions lack it.
    """

    name: str
    architecture: Architecture
    class_names: tuple[str, ...]
    accuracy: tuple[tuple[float, ...], ...]
    training: Mapping[str, Any]
    digests: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    @property
    def steps(self) -> Preprocessing:
        """How pictures become inputs; derived from data and input if the bundle does not say."""
        if self.preprocessing is not None:
            return self.preprocessing
        data = str(self.training.get("data", ""))
        return default_preprocessing(self.architecture.input_shape, data)

    @property
    def planned_accuracy(self) -> tuple[tuple[float, ...], ...]:
        """Accuracies for making choices: on the validation split, or the test set in older bundles.

        In the form of ``accuracy``; ``BundleError`` if the table is invalid.
        """
        if VALIDATION_ACCURACY not in self.extra:
            return self.accuracy
        made = self.architecture
        size = (len(made.device_levels), len(made.cloud_levels))
        try:
            rows = np.array(self.extra[VALIDATION_ACCURACY], np.float64)
        except (TypeError, ValueError):
            rows = np.zeros(0)
        if rows.shape != size or not np.isfinite(rows).all():
            raise BundleError(f"bundle {self.name}: its {VALIDATION_ACCURACY} cannot be read")
        return tuple(map(tuple, rows.tolist()))

    @cached_property
    def version(self) -> str:
        """SHA-256 (hex) over the network's description and the digests of all its tensors."""
        network = self.architecture.to_json()
        for stage in (*network["device"], *network["cloud"]):
            # Left out so that releases without ternary stages compute the same version; the tensors
            # differ anyway.
            stage.pop("activation", None)
        identity = [network, sorted(self.digests.items()), self.class_names]
        if self.preprocessing is not None:
            identity.append(self.preprocessing.to_json())
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A bundle, or the part of it that was read; tensors of other groups are missing."""

    metadata: Metadata
    tensors: Mapping[str, Array]

    @property
    def architecture(self) -> Architecture:
        """The architecture of the bundle's network."""
        return self.metadata.architecture

    def stage(self, group: str, name: str) -> StageTensors:
        """Return the tensors of stage ``name`` in ``group`` (device, exit, cloud);
        ``BundleError``.
        """
        for place in _places(self.architecture):
            if (place.group, place.stage.name) == (group, name):
                return self._stage(place)
        raise BundleError(f"bundle {self.metadata.name}: has no stage {group}.{name}")

    def _stage(self, place: _Place) -> StageTensors:
        prefix = f"{place.group}.{place.stage.name}."
        fields = {
            n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)
        }
        where = f"bundle {self.metadata.name}: stage {prefix[:-1]}"
        return from_file(fields, place.stage, place.shape, place.levels, place.logits, where)

    def codec_tensor(self, level: int, name: str) -> Array | None:
        """Return the codec's tensor ``name`` for a device level index; None if it is missing."""
        return self.tensors.get(f"codec.{level}.{name}")


@dataclass(frozen=True)
class _Place:
    """The place of a stage: its group, its input at full width with its activation, its tables."""

    group: str
    stage: Stage
    shape: Shape
    before: Activation
    levels: int
    logits: bool


def _places(architecture: Architecture) -> Iterator[_Place]:
    full = len(architecture.device_levels) - 1
    top = len(architecture.cloud_levels) - 1
    pairs = len(architecture.device_levels) * len(architecture.cloud_levels)
    binary = Activation.BINARY
    for stage, shape, _ in architecture.device_shapes(full):
        yield _Place("device", stage, shape, binary, full + 1, logits=False)
    if architecture.exit_stage is not None:
        sent = architecture.sent_shape(full)
        yield _Place("exit", architecture.exit_stage, sent, binary, full + 1, logits=True)
    shapes = architecture.cloud_shapes(full, top)
    for (stage, shape, _), before in zip(shapes, architecture.cloud_inputs, strict=True):
        last = stage is architecture.cloud[-1]
        yield _Place("cloud", stage, shape, before, pairs, logits=last)


def stage_to_file(
    architecture: Architecture, group: str, name: str, tensors: StageTensors
) -> dict[str, Array]:
    """Return the tensors of one stage under their names in a bundle file."""
    for place in _places(architecture):
        if (place.group, place.stage.name) == (group, name):
            fields = to_file(tensors, place.stage, place.shape, place.before)
            return {f"{group}.{name}.{field}": array for field, array in fields.items()}
    raise BundleError(f"network {architecture.name}: has no stage {group}.{name}")


def make_bundle(metadata: Metadata, tensors: Mapping[str, Array]) -> Bundle:
    """Make a bundle, computing its digests; ``BundleError`` if ``tensors`` do not fit."""
    groups = sorted({name.split(".", 1)[0] for name in tensors})
    digests = {group: _digest(tensors, group) for group in groups}
    bundle = Bundle(Metadata(**{**_shallow(metadata), "digests": digests}), tensors)
    _check_tensors(bundle, groups)
    return bundle


def serialise(bundle: Bundle, groups: Iterable[str] | None = None) -> bytes:
    """Return the bytes of a bundle file with the tensors of ``groups`` (default: all)."""
    wanted = None if groups is None else set(groups)
    tensors = {
        name: np.ascontiguousarray(array)
        for name, array in sorted(bundle.tensors.items())
        if wanted is None or name.split(".", 1)[0] in wanted
    }
    meta = bundle.metadata
    document = {
        "format": _format_version(meta.architecture, tensors),
        "name": meta.name,
        "architecture": meta.architecture.to_json(),
        "class_names": meta.class_names,
        "accuracy": meta.accuracy,
        "training": meta.training,
        "digests": meta.digests,
        "extra": meta.extra,
    }
    if meta.preprocessing is not None:
        document["preprocessing"] = meta.preprocessing.to_json()
    return save(tensors, {METADATA_KEY: json.dumps(document, sort_keys=True)})


def _format_version(architecture: Architecture, tensors: Iterable[str]) -> int:
    """Return the first format version whose readers run the network correctly."""
    if architecture.strided:
        return STRIDED_FORMAT_VERSION
    ternary = any(name.endswith(".low_threshold") for name in tensors)
    return TERNARY_FORMAT_VERSION if ternary else FORMAT_VERSION


def write_bundle(bundle: Bundle, path: Path, flag: str = "--output") -> None:
    """Write ``path`` atomically; ``UsageError`` names ``flag`` if that fails."""
    with replacing(path, flag) as temporary:
        temporary.write_bytes(serialise(bundle))


def read_bundle(path: Path, groups: Iterable[str] | None = None) -> Bundle:
    """Read the tensors of ``groups`` (default: all in the file) and check them.

    Raises ``BundleError`` with one line if the file is missing, truncated, damaged, foreign or of
    another format version.
    """
    where = f"bundle {path}"
    try:
        size = path.stat().st_size
        if not path.is_file():  # reading a pipe would never end
            raise BundleError(f"{where}: is not a file")
        if size > LARGEST_FILE_BYTES:
            raise BundleError(f"{where}: larger than {LARGEST_FILE_BYTES} bytes")
        with safe_open(path, framework="numpy") as file:
            document = (file.metadata() or {}).get(METADATA_KEY)
            names = list(file.keys())
            present = {name.split(".", 1)[0] for name in names}
            wanted = present if groups is None else set(groups) & present
            metadata = _parse_metadata(document, where)
            tensors = {n: file.get_tensor(n) for n in names if n.split(".", 1)[0] in wanted}
    except OSError as error:
        raise BundleError(f"{where}: cannot be read ({error.strerror or error})") from None
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{where}: is no readable safetensors file ({reason})") from None
    bundle = Bundle(metadata, tensors)
    for group in wanted:
        if metadata.digests.get(group) != _digest(tensors, group):
            raise BundleError(f"{where}: damaged, the SHA-256 of its {group} tensors is wrong")
    try:
        _check_tensors(bundle, wanted)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from None
    return bundle


def _parse_metadata(document: str | None, where: str) -> Metadata:
    if document is None:
        raise BundleError(f"{where}: is not a taper bundle (no {METADATA_KEY!r} in its header)")
    try:
        return _metadata_from_json(json.loads(document))
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from None
    except UNREADABLE_JSON as error:
        raise BundleError(f"{where}: its metadata cannot be read ({error!r})") from None


def _metadata_from_json(value: Any) -> Metadata:
    version = value["format"]
    if version not in FORMAT_VERSIONS:
        raise BundleError(
            f"has format version {str(version)[:40]!r}; this taper reads versions "
            f"{FORMAT_VERSION} to {STRIDED_FORMAT_VERSION}"
        )
    name = str(value["name"])
    if not name or not name.isprintable():
        raise ValueError(f"{name!r} is no name")
    architecture = Architecture.from_json(value["architecture"])
    return Metadata(
        name=name,
        architecture=architecture,
        class_names=tuple(str(name) for name in value["class_names"]),
        accuracy=tuple(tuple(float(v) for v in row) for row in value["accuracy"]),
        training=dict(value["training"]),
        digests={str(k): str(v) for k, v in value["digests"].items()},
        extra=dict(value["extra"]),
        preprocessing=_steps_from_json(value.get("preprocessing"), architecture.input_shape),
    )


def _steps_from_json(value: Any, shape: Shape) -> Preprocessing | None:
    if value is None:
        return None
    steps = Preprocessing.from_json(value)
    if steps.colour != (shape.channels == 3) or (steps.ink_box or 0) > min(
        shape.height, shape.width
    ):
        raise BundleError(f"preprocessing: {steps} does not fit an input of {shape}")
    return steps


def _digest(tensors: Mapping[str, Array], group: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.split(".", 1)[0] == group:
            array = np.ascontiguousarray(tensors[name])
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _check_tensors(bundle: Bundle, groups: Iterable[str]) -> None:
    """Raise ``BundleError`` unless every tensor of ``groups`` has the network's type and shape."""
    classes = bundle.architecture.classes
    if len(bundle.metadata.class_names) != classes:
        raise BundleError(f"bundle {bundle.metadata.name}: needs {classes} class names")
    present = set(groups)
    for place in _places(bundle.architecture):
        if place.group in present:
            bundle._stage(place)


def _shallow(metadata: Metadata) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in metadata.__dataclass_fields__}


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return the metadata as a JSON value, for display and for ``GetModel``."""
    meta = bundle.metadata
    return {**asdict(meta), "version": meta.version, "architecture": meta.architecture.to_json()}
