"""A set that tensorflow-datasets itself downloads, from this machine, prepares and keeps."""

import functools
import http.server
import io
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ntkens.data import tfds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TensorFlow, as it is imported
]

SPLITS = {"train": slice(0, 40), "test": slice(40, 60), "extra": slice(60, 65)}


def digits(channels=1):
    """Digits in 8 bits, of different brightness in each channel, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8, 1) * (15, 9, 4)[:channels]).astype(np.uint8), labels


def assert_the_same_examples(found, images, labels):
    """In whatever order: tensorflow-datasets shuffles what it writes."""
    assert found.inputs.dtype == np.float32
    assert found.labels.dtype == np.int32
    ours, theirs = (
        sorted(map(tuple, np.column_stack([rows.reshape(len(rows), -1), labels]).tolist()))
        for rows, labels in (found, (images / np.float32(255), labels))
    )
    assert ours == theirs


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Digits of three colours in a file on a server of this machine."""
    folder = tmp_path_factory.mktemp("server")
    images, labels = digits(3)
    np.savez(folder / "digits.npz", images=images, labels=labels)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):  # a caller that hangs up, having heard that there is a file
            pass

    handler = functools.partial(Quiet, directory=folder)
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/digits.npz"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def builder(url):
    """A set as those of tensorflow-datasets are written, known by its name from now on.

    And a second one of colour images, with an entry that is nobody's, as CIFAR has.
    """
    import tensorflow_datasets

    class TinyDigits(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        url_infos = {url: None}  # noqa: RUF012 - as a class property has it
        channels = 1

        def _info(self):
            features = tensorflow_datasets.features
            return tensorflow_datasets.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "id": features.Text(),
                        "image": features.Image(shape=(8, 8, self.channels)),
                        "label": features.ClassLabel(num_classes=10),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, downloads):
            content = io.BytesIO(Path(downloads.download(url)).read_bytes())
            with np.load(content) as arrays:
                images, labels = arrays["images"], arrays["labels"]
            return {
                name: self._generate_examples(images[rows], labels[rows])
                for name, rows in SPLITS.items()
            }

        def _generate_examples(self, images, labels):
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                image = image[..., : self.channels]
                yield row, {"id": str(row), "image": image, "label": int(label)}

    class ColourDigits(TinyDigits):
        channels = 3

    return TinyDigits


@pytest.fixture(scope="module")
def directory(builder, tmp_path_factory):
    """Where the set is prepared, by the first to load it."""
    folder = tmp_path_factory.mktemp("prepared")
    tfds.load("tiny_digits", directory=folder)
    tfds.load("colour_digits", directory=folder)
    return folder


@pytest.mark.parametrize(("name", "channels"), [("tiny_digits", 1), ("colour_digits", 3)])
def test_a_prepared_set_is_what_was_written(directory, name, channels):
    images, labels = digits(channels)
    data = tfds.load(name, directory=directory)
    for split, found in zip(("train", "test"), data, strict=True):
        assert_the_same_examples(found, images[SPLITS[split]], labels[SPLITS[split]])


def test_what_was_prepared_is_read_without_tensorflow(directory, tmp_path):
    """In another process, which has never heard of the builder."""
    code = f"""
import sys
import numpy as np
from ntkens.data import tfds
data = tfds.load("tiny_digits", directory={str(directory)!r})
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
np.savez({str(tmp_path / "found.npz")!r}, *data.train, *data.test)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    data = tfds.load("tiny_digits", directory=directory)
    with np.load(tmp_path / "found.npz") as found:
        for name, array in zip(found.files, (*data.train, *data.test), strict=True):
            np.testing.assert_array_equal(found[name], array)


def test_other_splits_and_their_slices(directory):
    images, labels = digits()
    whole = tfds.load("tiny_digits", directory=directory).train
    data = tfds.load("tiny_digits", splits=("extra", "train[75%:]"), directory=directory)
    assert_the_same_examples(data.train, images[SPLITS["extra"]], labels[SPLITS["extra"]])
    np.testing.assert_array_equal(data.test.inputs, whole.inputs[30:])
    np.testing.assert_array_equal(data.test.labels, whole.labels[30:])


@pytest.mark.parametrize("split", ["validation", "train[:0]"])
def test_a_split_without_examples_is_refused(directory, split):
    with pytest.raises(ValueError, match=r"splits: got .*; wants .*'extra'"):
        tfds.load("tiny_digits", splits=(split, "test"), directory=directory)


@pytest.mark.parametrize("splits", ["train", ("train", "test", "extra")])
def test_the_splits_are_two(splits, tmp_path):
    with pytest.raises(ValueError, match=r"splits: got .*; wants two"):
        tfds.load("tiny_digits", splits=splits, directory=tmp_path)


def test_a_format_that_needs_tensorflow_is_refused(builder, tmp_path):
    builder(data_dir=tmp_path).download_and_prepare(file_format="tfrecord")
    with pytest.raises(ValueError, match=r"prepared as tfrecord, .* move that folder away"):
        tfds.load("tiny_digits", directory=tmp_path)


@pytest.mark.parametrize("answer", ["silence", "refusal", "not found"])
def test_without_network_the_remedy_is_said_in_time(builder, url, answer, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call, and says nothing
        port = server.getsockname()[1]
        if answer == "refusal":
            server.close()
        distant = url + ".not" if answer == "not found" else f"http://127.0.0.1:{port}/digits.npz"
        monkeypatch.setattr(builder, "url_infos", {distant: None})
        begin = time.monotonic()
        with pytest.raises(FileNotFoundError) as caught:
            tfds.load("tiny_digits", directory=tmp_path)
        assert time.monotonic() - begin < 10
    for part in (str(tmp_path / "tiny_digits"), f"tfds.load('tiny_digits', directory='{tmp_path}"):
        assert part in str(caught.value)


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if there were none
    with pytest.raises(ModuleNotFoundError, match="'tensorflow_datasets' is not installed; pip"):
        tfds.load("mnist", directory=tmp_path)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"name: got 'cifar_10', .*'cifar10'"):
        tfds.load("cifar_10", directory=tmp_path)


@pytest.mark.parametrize("name", ["iris", "tf_flowers", "celeb_a"])
def test_what_is_no_array_of_labelled_images_is_refused(name, tmp_path):
    """Vectors, images of several sizes, and images with forty labels."""
    with pytest.raises(ValueError, match=f"name: got '{name}', of"):
        tfds.load(name, directory=tmp_path)
