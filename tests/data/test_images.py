import numpy as np
import pytest

from ntkens.data import images


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name: got 'imagenet'"):
        images.load("imagenet")  # pyright: ignore[reportArgumentType]: the error is the question


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorFlow, as it is imported
def test_what_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(FileNotFoundError, match="download_and_prepare"):
        images.load("mnist", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_prepared_set_is_read(tmp_path):
    """A few random images, written as tensorflow-datasets keeps MNIST."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    written = {
        split: (rng.integers(0, 256, (count, 28, 28, 1), np.uint8), rng.integers(0, 10, count))
        for split, count in (("train", 7), ("test", 3))
    }
    builder = tfds.builder("mnist", data_dir=tmp_path)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version=str(builder.version),
        data_dir=tmp_path,
        features=builder.info.features,
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices({"image": image, "label": label})
            for split, (image, label) in written.items()
        },
    )
    data = images.load("mnist", tmp_path)
    for split, found in (("train", data.train), ("test", data.test)):
        order = np.lexsort(found.inputs.reshape(len(found.inputs), -1).T)
        expected, labels = written[split]
        other = np.lexsort(expected.reshape(len(expected), -1).T)
        np.testing.assert_array_equal(found.inputs[order], expected[other] / np.float32(255))
        np.testing.assert_array_equal(found.labels[order], labels[other])
