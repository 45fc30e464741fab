"""Images: dequantised afresh at every step of training, or as they are."""

import jax
import jax.numpy as jnp
import numpy as np

from gensep.datasets.examples import VALID_SEED, Options, Request, Selection
from gensep.datasets.images import SETS, load_images
from gensep.representation.image import ImageForm
from gensep.runtime.errors import UserError


def open_image_examples(c: Options) -> "ImageExamples":
    """Open the set of images named `c.data` in `c.data_dir`, for training."""
    splits = (load_images(c.data, x, c.data_dir, download=c.download) for x in ("train", "valid"))
    (train, _), (valid, _) = splits
    return ImageExamples(ImageForm(c.data, *SETS[c.data].shape), train, valid[: c.valid_windows])


def read_image_examples(data: str, request: Request) -> Selection:
    """Read images `[image, height, width, channels]` of a set by its name.

    Raises:
        UserError: if the set is not found, or its images are not of the form asked for.
    """
    images, _ = load_images(data, request.split or "test", request.data_dir)
    own = ImageForm(data, *SETS[data].shape)
    form = request.form or own
    if form.shape(request.frames) != own.shape():
        problem = f"{data} holds {own.describe()}, the prior is of {form.describe()}"
        remedy = "give the set that it was trained on, or one of the same shape"
        raise UserError(f"{problem}; {remedy}")
    rng = np.random.default_rng(request.seed)
    chosen = images[rng.permutation(len(images))[: request.examples]]
    x = own.encode(chosen, rng.uniform(size=chosen.shape) if request.dequantise else 0.5)
    return Selection(x.astype(np.float32), form)


class ImageExamples:
    """Examples of uint8 `[n, height, width, channels]`; satisfies the protocol `Examples`."""

    def __init__(self, form: ImageForm, train: np.ndarray, valid: np.ndarray) -> None:
        self.form, self.features = form, form.features
        self.train, self.valid = train, valid

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        """Return uint8 images, uniformly drawn with replacement."""
        return self.train[np.random.default_rng((seed, step)).integers(len(self.train), size=size)]

    def inputs(self, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Dequantise integers v: x = (v + u) / 256 with u uniform in [0, 1)."""
        return self.form.encode(raw, jax.random.uniform(key, raw.shape))

    def held_out(self) -> np.ndarray:
        """Return validation images with fixed u."""
        return np.asarray(self.inputs(jax.random.key(VALID_SEED), jnp.asarray(self.valid)))
