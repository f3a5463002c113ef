import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.data import augmentation


@pytest.mark.parametrize("margin", [4, 1])
def test_each_image_is_one_crop_of_its_padded_self_mirrored_or_not(key, margin):
    images = np.arange(40 * 6 * 8 * 2, dtype=float).reshape(40, 6, 8, 2) + 1
    found = jax.jit(augmentation.flip_and_crop, static_argnames="margin")(
        key, jnp.asarray(images), margin=margin
    )
    sides, places = (margin, margin), range(2 * margin + 1)
    seen = []
    for image, one in zip(images, np.asarray(found), strict=True):
        crops = {
            (is_flipped, row, column): np.pad(
                image[:, ::-1] if is_flipped else image, (sides, sides, (0, 0))
            )[row : row + 6, column : column + 8]
            for is_flipped in (False, True) for row in places for column in places
        }  # fmt: skip
        matches = [place for place, crop in crops.items() if np.array_equal(crop, one)]
        assert len(matches) == 1
        seen += matches
    for each in zip(*seen, strict=True):  # flips, rows and columns: every one of them is drawn
        assert set(each) == ({False, True} if isinstance(each[0], bool) else set(places))


@pytest.mark.parametrize(
    ("images", "margin", "message"),
    [
        (jnp.ones((8, 8, 3)), 4, r"images: got shape \(8, 8, 3\)"),
        (jnp.ones((1, 8, 8, 3)), -1, "margin: got -1"),
    ],
)
def test_arguments_are_checked(key, images, margin, message):
    with pytest.raises(ValueError, match=message):
        augmentation.flip_and_crop(key, images, margin=margin)
