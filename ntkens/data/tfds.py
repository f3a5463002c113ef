"""Labelled images through tensorflow-datasets, as arrays.

The files are array_record, and Pillow decodes the images: TensorFlow is imported to prepare a data
set the first time, and never to read one.
"""

import difflib
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from ntkens.data import Dataset, Examples

PATIENCE = 5.0  # seconds for a host to answer; tensorflow-datasets itself asks again for minutes


def load(
    name: str, *, splits: tuple[str, str] = ("train", "test"), directory: str | Path | None = None
) -> Dataset:
    """A set of labelled images of one size: mnist, cifar10, cifar100, svhn_cropped, ...

    Inputs are [n height width channels] float32 in [0, 1], in steps of 1/255; the order is that of
    the files, and the same every time. What is not prepared yet is downloaded and prepared, if a
    host that has it answers within 5 s. Reading takes 0.1 ms an image.

    Args:
        name: as tensorflow-datasets spells it, "name/config" where a set has several.
        splits: the training and the test examples; slices as in ("train[:90%]", "train[90%:]").
        directory: where tensorflow-datasets keeps its files; None for its own default.

    Raises:
        ValueError: there is no such set, or no such split; it is not of labelled images of one size
            and 8 bits; it is prepared in a format that only TensorFlow reads.
        FileNotFoundError: neither prepared there nor to be had; the message says what to do.
        ModuleNotFoundError: tensorflow-datasets, or what it imports, is not installed.
    """
    if isinstance(splits, str) or len(splits) != 2:
        raise ValueError(f"splits: got {splits!r}; wants two, of training and of test")
    builder = _builder(name, directory)
    if not builder.is_prepared():
        urls = list(builder.url_infos or ())
        if urls and not _answered(urls):
            where = f", directory={str(directory)!r}" if directory else ""
            raise FileNotFoundError(
                f"{name}: not prepared in {builder.data_path}, and not to be had from "
                f"{_hosts(urls)} within {PATIENCE:g} s. Where there is a network, run once\n"
                f'  python -c "from ntkens.data import tfds; tfds.load({name!r}{where})"\n'
                "and copy that folder to this machine"
            )
        builder.download_and_prepare(file_format="array_record")
    return Dataset(*(_examples(builder, split) for split in splits))


def _builder(name: str, directory) -> Any:
    """What tensorflow-datasets knows of a set, if that is of labelled images of one size."""
    try:
        import tensorflow_datasets as tfds  # half a second
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"ntkens.data.tfds needs tensorflow-datasets, and the module {error.name!r} is not "
            "installed; pip install tensorflow-datasets",
            name=error.name,
        ) from error
    try:
        builder = tfds.builder(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known) or "none that is spelt like it"
        raise ValueError(
            f"name: got {name!r}, which is no set of tensorflow-datasets; it has {close}"
        ) from None
    features: Any = builder.info.features
    if builder.info.supervised_keys != ("image", "label") or not (
        isinstance(features["image"], tfds.features.Image)
        and isinstance(features["label"], tfds.features.ClassLabel)
        and features["image"].np_dtype == np.uint8
        and None not in features["image"].shape
    ):
        raise ValueError(
            f"name: got {name!r}, of {features}; wants an image of one size and 8 bits, and a label"
        )
    return builder


def _examples(builder: Any, split: str) -> Examples:
    """The examples of one split of a prepared set."""
    try:
        source = builder.as_data_source(split)
    except NotImplementedError:
        raise ValueError(
            f"directory: {builder.data_path} was prepared as {builder.info.file_format.value}, "
            "which only TensorFlow reads; move that folder away, or take another directory, and "
            "load again, to prepare it as array_record"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"splits: got {split!r}; wants examples of {list(builder.info.splits)}"
        ) from error
    images = np.empty((len(source), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for row, example in enumerate(source):
        images[row], labels[row] = example["image"], example["label"]
    return Examples(images.astype(np.float32) / np.float32(255), labels)


def _hosts(urls: Iterable[str]) -> str:
    return ", ".join(sorted({urlsplit(url).netloc for url in urls}))


def _answered(urls: Iterable[str]) -> bool:
    """Whether any of these can be had: one of each host is asked, all at once.

    In threads that are left to themselves after `PATIENCE`: nothing else ends the look-up of a
    host's name, or the wait for each of its addresses in turn.
    """
    asked = {urlsplit(url).netloc: url for url in urls}
    answers = queue.SimpleQueue()

    def ask(url):
        try:
            with requests.get(url, stream=True, timeout=PATIENCE) as answer:
                answers.put(answer.ok)
        except requests.RequestException:
            answers.put(False)

    for url in asked.values():
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    end = time.monotonic() + PATIENCE
    for _ in asked:
        try:
            if answers.get(timeout=max(0.0, end - time.monotonic())):
                return True
        except queue.Empty:
            return False
    return False
