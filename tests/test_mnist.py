"""Preparation of MNIST, on a few random images in its formats."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from data_prep.mnist import binarize, mnist
from zfaudio.data import read_manifest, read_utterances
from zfaudio.errors import UserError

TRAIN, TEST, VALID = 30, 10, 8
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(magic: int, values: np.ndarray) -> bytes:
    """The content of an IDX file."""
    return struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()


@pytest.fixture
def gray() -> np.ndarray:
    """Gray images, uint8 [40, 28, 28], with many pixels that are black or white."""
    drawn = np.random.default_rng(0).integers(-300, 600, (TRAIN + TEST, 28, 28))
    return drawn.clip(0, 255).astype(np.uint8)


@pytest.fixture
def corpus(tmp_path: Path, gray: np.ndarray) -> Path:
    """The four files, packed, with the labels 0, 1, ..., 9, 0, 1, ..."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    labels = (np.arange(TRAIN + TEST) % 10).astype(np.uint8)
    contents = (
        idx(2051, gray[:TRAIN]),
        idx(2049, labels[:TRAIN]),
        idx(2051, gray[TRAIN:]),
        idx(2049, labels[TRAIN:]),
    )
    for name, content in zip(FILES, contents, strict=True):
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def read_images(shards: Path) -> dict[str, np.ndarray]:
    """The images of each split, [images, 28, 28]."""
    splits = read_manifest(shards).splits
    return {split: np.stack([u.frames.reshape(28, 28) for u in read_utterances(shards, split)]) for split in splits}


def write_fixed(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Larochelle's files."""
    folder.mkdir()
    for split, pixels in images.items():
        np.savetxt(folder / f"binarized_mnist_{split}.amat", pixels.reshape(len(pixels), 784), fmt="%d")
    return folder


@pytest.mark.parametrize(("layout", "shape"), [("pixels", (784, 1)), ("rows", (28, 28))])
def test_each_image_is_an_utterance_whose_speaker_is_its_label(corpus, tmp_path, gray, layout, shape):
    mnist(corpus, tmp_path / "out", layout=layout, valid=VALID)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.kind, manifest.frame_size, manifest.image_size) == ("binary", shape[1], [28, 28])
    counts = {"train": TRAIN - VALID, "valid": VALID, "test": TEST}
    assert {split: found.utterances for split, found in manifest.splits.items()} == counts
    number = 0
    for split in counts:
        for utterance in read_utterances(tmp_path / "out", split):
            assert utterance.frames.shape == shape
            assert utterance.speaker == str(number % 10)
            pixels = utterance.frames.reshape(28, 28)
            assert np.all(pixels[gray[number] == 0] == 0)
            assert np.all(pixels[gray[number] == 255] == 1)
            number += 1
    assert number == TRAIN + TEST


def test_a_pixel_is_one_with_the_probability_of_its_gray_value():
    gray = np.repeat(np.array([0, 51, 128, 204, 255], np.uint8), 500)[:, None].repeat(784, 1)
    shares = binarize(gray, "train", 0).reshape(5, -1).mean(1)
    np.testing.assert_allclose(shares, [0, 0.2, 128 / 255, 0.8, 1], atol=5 * 0.5 / np.sqrt(500 * 784))
    assert shares[0] == 0
    assert shares[4] == 1


def test_the_draws_depend_on_the_seed_alone_and_not_on_the_layout(corpus, tmp_path):
    for out, options in {"a": {}, "b": {"layout": "rows"}, "c": {"seed": 1}}.items():
        mnist(corpus, tmp_path / out, valid=VALID, **options)
    a, b, c = (read_images(tmp_path / out) for out in "abc")
    for split in a:
        assert np.array_equal(a[split], b[split])
        assert not np.array_equal(a[split], c[split])


def test_the_draws_are_the_same_everywhere():
    drawn = binarize(np.full((1, 784), 128, np.uint8), "train", 0)[0]
    assert "".join(map(str, drawn[:32])) == "10110111111101001100110101011100"


def test_files_may_be_unpacked_and_have_the_names_that_this_gives_them(corpus, tmp_path):
    mnist(corpus, tmp_path / "packed", valid=VALID)
    for name in FILES:
        content = gzip.decompress((corpus / f"{name}.gz").read_bytes())
        (corpus / f"{name}.gz").unlink()
        (corpus / (name if "train" in name else name.replace("-idx", ".idx"))).write_bytes(content)
    mnist(corpus, tmp_path / "plain", valid=VALID)
    for split, images in read_images(tmp_path / "packed").items():
        assert np.array_equal(images, read_images(tmp_path / "plain")[split])


def test_fixed_images_are_taken_as_they_are_with_the_labels_of_the_same_gray_images(corpus, tmp_path, gray, capsys):
    images = {"train": gray[:22] > 128, "valid": gray[22:TRAIN] > 128, "test": gray[TRAIN:] > 128}
    fixed = write_fixed(tmp_path / "fixed", images)
    mnist(corpus, tmp_path / "out", valid=VALID, fixed=fixed)
    for split, found in read_images(tmp_path / "out").items():
        assert np.array_equal(found, images[split])
    assert [u.speaker for u in read_utterances(tmp_path / "out", "test")] == [str(n) for n in range(10)]
    assert "unknown" not in capsys.readouterr().out


def test_fixed_images_in_another_order_have_no_labels(corpus, tmp_path, gray, capsys):
    images = {"train": gray[:22] > 128, "valid": gray[22:TRAIN] > 128, "test": gray[TRAIN:][::-1] > 128}
    mnist(corpus, tmp_path / "out", valid=VALID, fixed=write_fixed(tmp_path / "fixed", images))
    assert {u.speaker for u in read_utterances(tmp_path / "out", "test")} == {"unknown"}
    assert "test: not the images of the labels" in capsys.readouterr().out


# Mistakes


def assert_said(corpus: Path, tmp_path: Path, said: str, **options: object) -> None:
    with pytest.raises(UserError, match=said) as caught:
        mnist(corpus, tmp_path / "out", **{"valid": VALID} | options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/manifest.json").exists()


def damage(corpus: Path, name: str, content: bytes) -> None:
    (corpus / f"{name}.gz").unlink()
    (corpus / name).write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 3, 9, -1])
def test_a_file_cut_short(corpus, tmp_path, name, left):
    damage(corpus, name, gzip.decompress((corpus / f"{name}.gz").read_bytes())[:left])
    assert_said(corpus, tmp_path, f"{name}: cut short")


def test_a_packed_file_cut_short_or_damaged(corpus, tmp_path):
    path = corpus / "t10k-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[:1000])
    assert_said(corpus, tmp_path, r"t10k-images-idx3-ubyte\.gz: cut short")
    path.write_bytes(packed[:1000] + bytes(100) + packed[1100:])
    assert_said(corpus, tmp_path, r"t10k-images-idx3-ubyte\.gz: cannot be unpacked")
    path.write_bytes(b"no archive")
    assert_said(corpus, tmp_path, r"t10k-images-idx3-ubyte\.gz: cannot be unpacked")


def test_what_is_no_file_of_mnist(corpus, tmp_path, gray):
    images = FILES[0]
    damage(corpus, images, idx(2051, gray[:TRAIN]) + b"more")
    assert_said(corpus, tmp_path, f"{images}: longer than its header says")
    (corpus / images).write_bytes(idx(2049, gray[:TRAIN]))
    assert_said(corpus, tmp_path, rf"{images}: no IDX file of images \(it starts with 0x00000801")
    (corpus / images).write_bytes(idx(2051, gray[:TRAIN, :20, :20].copy()))
    assert_said(corpus, tmp_path, f"{images}: images of 20 x 20 pixels")
    (corpus / images).write_bytes(idx(2051, gray[: TRAIN - 1]))
    assert_said(corpus, tmp_path, "train-labels-idx1-ubyte.gz: 30 labels, but train-images-idx3-ubyte has 29 images")
    (corpus / images).unlink()
    assert_said(corpus, tmp_path, f"corpus: no file {images} or {images}.gz")
    assert_said(corpus / "nowhere", tmp_path, "nowhere: no such folder")


def test_labels_that_are_no_digits(corpus, tmp_path):
    damage(corpus, FILES[3], idx(2049, np.full(TEST, 10, np.uint8)))
    assert_said(corpus, tmp_path, "t10k-labels-idx1-ubyte: label 10")


@pytest.mark.parametrize("valid", [-1, TRAIN])
def test_too_many_images_for_validation(corpus, tmp_path, valid):
    assert_said(corpus, tmp_path, f"--valid {valid}: ", valid=valid)


def test_fixed_files_that_are_missing_or_damaged(corpus, tmp_path, gray):
    assert_said(corpus, tmp_path, r"binarized_mnist_train\.amat: no such file", fixed=tmp_path / "nowhere")
    fixed = write_fixed(tmp_path / "fixed", {"train": gray[:22] > 128, "valid": gray[22:TRAIN] > 128})
    (fixed / "binarized_mnist_test.amat").write_bytes(b"")
    assert_said(corpus, tmp_path, r"test\.amat: empty", fixed=fixed)
    (fixed / "binarized_mnist_test.amat").write_text("0 1\n")
    assert_said(corpus, tmp_path, r"test\.amat: line 1 is not 784 zeros and ones", fixed=fixed)
    (fixed / "binarized_mnist_test.amat").write_text("2 " * 784 + "\n")
    assert_said(corpus, tmp_path, r"test\.amat: line 1 is not 784 zeros and ones", fixed=fixed)
