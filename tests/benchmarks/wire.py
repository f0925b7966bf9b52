"""``python -m tests.benchmarks.wire``: bytes, from the codec to the socket.

Measures payloads of all 10,000 test images at four fractions in every encoding; bytes on the socket
between a real gRPC client and server; and accuracy against bytes, compared with sending images.
These rivals' classifiers and curves are measured with ``--full``, which takes long, and otherwise
read from ``docs/results``. Rivals do not depend on the bundle; ``--ours`` measures only its points.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from cloud.training.split.evaluate import device_features
from shared.bundles import bundle_path, shipped
from shared.fractions import level_for
from shared.model.bundle import Bundle, read_bundle
from shared.packed import DeviceHalf
from tests.benchmarks import curves
from tests.benchmarks.harness import Check, Report, pin, show, table
from tests.benchmarks.payloads import (
    coding_us,
    sizes_by_encoding,
    stays_on_device,
    with_dictionaries,
)
from tests.benchmarks.traffic import Traffic, messages_of, stream, unary
from tests.support.processes import start_server

FRACTIONS = (0.125, 0.3, 0.5, 1.0)
D30 = 0.3
TOGETHER = 16
QUICK_SOCKET_IMAGES = 1600
MODES = ("unary", "stream", "stream16")
ONE_BIT = "1-bit 28x28, context coder"
NEVER_REACHED = float("inf")
# Targets of the main bundles for the bytes of a sample at d = 0.3, and for comparisons with them.
TARGETS = {
    "payload_d30": (40.0, "bytes"),
    "payload_zstd_d30": (56.0, "bytes"),
    "context_vs_zstd": (0.7, "ratio"),
    "bytes_per_answer_d30": (14.0, "bytes"),
    "bytes_per_answer_vs_1bit_d30": (0.8, "ratio"),
    "socket_stream_d30": (100.0, "bytes"),
    "socket_stream16_d30": (52.0, "bytes"),
    "encode_us": (10.0, "us"),
    "decode_us": (10.0, "us"),
    "cifar_payload_vs_png_d30": (0.2, "ratio"),
    "cifar_payload_vs_webp_d30": (0.8, "ratio"),
}


def payload_results(bundle: Bundle, sets: tuple[Dataset, Dataset]) -> dict[str, Any]:
    """Measure sizes by fraction and encoding, coding times, and bytes per answer."""
    train_set, test_set = sets
    half, complete = DeviceHalf(bundle), with_dictionaries(bundle, train_set.images)
    found: dict[str, Any] = {}
    for fraction in FRACTIONS:
        level = level_for(fraction, bundle.architecture.device_levels)
        features = device_features(half, test_set.images, level)
        sizes = sizes_by_encoding(complete, features, level)
        encode_us, decode_us = coding_us(bundle, features, level)
        row: dict[str, Any] = {
            "bytes": {name: asdict(size) for name, size in sizes.items()},
            "encode_us": encode_us,
            "decode_us": decode_us,
        }
        if "exit" in bundle.metadata.extra:
            sent = 1 - float(stays_on_device(bundle, features, level).mean())
            rows = features[~stays_on_device(bundle, features, level)]
            of_those = sizes_by_encoding(bundle, rows, level)["sent"].mean if len(rows) else 0.0
            row |= {"sent_share": round(sent, 4), "bytes_per_answer": round(sent * of_those, 3)}
        found[f"{fraction:g}"] = row
    return found


async def socket_results(bundle: Bundle, path: Path, test_set: Dataset, images: int) -> Any:
    """Measure bytes per sample on the socket, by fraction and way to send."""
    half = DeviceHalf(bundle)
    found: dict[str, dict[str, Traffic]] = {}
    with start_server("--model", str(path), "--cloud-fraction", "1") as server:
        for fraction in FRACTIONS:
            level = level_for(fraction, bundle.architecture.device_levels)
            features = device_features(half, test_set.images[:images], level)
            row = {}
            for mode in MODES:
                samples = TOGETHER if mode == "stream16" else 1
                messages = messages_of(bundle, features, level, samples, named=mode == "unary")
                send = unary if mode == "unary" else stream
                row[mode] = await send(server.address, messages, samples)
            if len({traffic.labels for traffic in row.values()}) != 1:
                raise RuntimeError(f"d = {fraction:g}: answers depend on how they are asked for")
            found[f"{fraction:g}"] = row
    return {
        fraction: {
            mode: {"up": round(t.up, 2), "down": round(t.down, 2), "total": round(t.total, 2)}
            for mode, t in row.items()
        }
        for fraction, row in found.items()
    }


def checks(
    payloads: dict[str, Any],
    sockets: dict[str, Any],
    mnist: curves.Curves | None,
    cifar: curves.Curves | None,
) -> list[Check]:
    """Compare the measured values with the targets; None if a value was not measured."""
    at = payloads[f"{D30:g}"]
    sizes, on_socket = at["bytes"], sockets[f"{D30:g}"]
    values: dict[str, float | None] = {
        "payload_d30": sizes["sent"]["mean"],
        "payload_zstd_d30": sizes["zstd_or_raw"]["mean"],
        "encode_us": at["encode_us"],
        "decode_us": at["decode_us"],
        "bytes_per_answer_d30": at.get("bytes_per_answer"),
        "socket_stream_d30": on_socket["stream"]["total"],
        "socket_stream16_d30": on_socket["stream16"]["total"],
    }
    if "context" in sizes:
        values["context_vs_zstd"] = sizes["context"]["mean"] / sizes["zstd_or_raw"]["mean"]
    one_bit = curves.named(mnist.rivals, ONE_BIT) if mnist else []
    if one_bit and "bytes_per_answer" in at:
        values["bytes_per_answer_vs_1bit_d30"] = at["bytes_per_answer"] / one_bit[0].bytes
    if cifar is not None:
        ours = curves.named(cifar.ours, "d=0.3")[0]
        png = curves.named(cifar.rivals, "PNG")[0]
        webp = curves.bytes_at(curves.named(cifar.rivals, "WEBP q"), ours.accuracy)
        values["cifar_payload_vs_png_d30"] = ours.bytes / png.bytes
        if webp != NEVER_REACHED:
            values["cifar_payload_vs_webp_d30"] = ours.bytes / webp
    return [
        Check(name, values.get(name), unit, target, "lower")
        for name, (target, unit) in TARGETS.items()
    ]


def tables(payloads: dict[str, Any], sockets: dict[str, Any], shown: curves.Curves | None) -> Any:
    """Make the tables of payloads, sockets and curves."""
    names = ("raw", "zstd", "context", "sent")
    rows = [
        (
            f"d = {fraction}",
            *(
                f"{row['bytes'][n]['mean']:.1f} / {row['bytes'][n]['p99']:.0f}"
                if n in row["bytes"]
                else "-"
                for n in names
            ),
            f"{row.get('bytes_per_answer', float('nan')):.1f}",
            f"{row['encode_us']:.1f} / {row['decode_us']:.1f}",
        )
        for fraction, row in payloads.items()
    ]
    made = [
        table(
            "payload of one test image, bytes: mean / p99",
            ("", *names, "an answer", "us to encode / decode"),
            rows,
        ),
        table(
            "bytes on the socket per sample, both ways, headers and connection included",
            ("", *MODES),
            [
                (f"d = {fraction}", *(f"{row[mode]['total']:.1f}" for mode in MODES))
                for fraction, row in sockets.items()
            ],
        ),
    ]
    if shown is not None:
        groups = (("", shown.ours), ("with exit head, ", shown.exits), ("", shown.rivals))
        made.append(
            table(
                f"accuracy against bytes, {shown.data}",
                ("sent", "mean bytes", "accuracy, percent"),
                [
                    (f"{prefix}{p.name}", f"{p.bytes:.1f}", f"{100 * p.accuracy:.2f}")
                    for prefix, points in groups
                    for p in points
                ],
            )
        )
    return made


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.wire", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--bundle", default="mnist-binary", help="shipped bundle, or a file")
    parser.add_argument("--data", help="data set (default: the one it was trained on)")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get(DATA_DIR_VARIABLE, "data"))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument(
        "--full", action="store_true", help="measure the rivals too; trains what is missing"
    )
    parser.add_argument(
        "--ours", action="store_true", help="measure taper's points anew beside the kept rivals"
    )
    options = parser.parse_args()
    begin = time.monotonic()
    path = bundle_path(options.bundle, "--bundle")
    bundle = read_bundle(path)
    data = options.data or str(bundle.metadata.training["data"])
    sets = load(data, options.data_dir, "train"), load(data, options.data_dir, "test")
    if options.full:
        cache = Path(options.data_dir) / "rivals"
        curves.write(
            curves.measure(bundle, data, sets, cache, lambda line: print(line, file=sys.stderr))
        )
    kept = curves.read(data) if options.ours else None
    if kept is not None:
        curves.write(curves.with_ours(kept, bundle, sets[1]))
    images = len(sets[1].images) if options.full else QUICK_SOCKET_IMAGES
    sockets = asyncio.run(socket_results(bundle, path, sets[1], images))
    cpu = pin()
    payloads = payload_results(bundle, sets)
    mnist = curves.read("mnist")
    cifar = curves.read("cifar10") if "cifar10-binary" in shipped() else None
    shown = curves.read(data)
    results: dict[str, Any] = {
        "bundle": bundle.metadata.name,
        "version": bundle.metadata.version,
        "images": len(sets[1].images),
        "socket_images": images,
        "payloads": payloads,
        "sockets": sockets,
        "curves": None if shown is None else asdict(shown),
    }
    report = Report(
        results, checks(payloads, sockets, mnist, cifar), tables(payloads, sockets, shown)
    )
    show("wire", report, time.monotonic() - begin, cpu, options.json)


if __name__ == "__main__":
    main()
