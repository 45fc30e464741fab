"""Measure an upper bound on the bits per dimension of a flow of images on a whole test set.

    python scripts/flow_bits.py RUN ... --data_dir FOLDER

Each image is dequantised with --draws samples u of the noise that the flow was trained with. The
mean of -log p(x) + log q(u | v) over them is the bound; its standard error is taken over images.
"""

import json
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from flows import bits_per_dim, uniform
from gensep.cli import config
from gensep.cli.options import Positional
from gensep.datasets.images import load_images
from gensep.priors.files import load_prior
from gensep.runtime.errors import UserError, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the measurement."""

    runs: Positional[tuple[str, ...]]
    """Run folders or prior files."""
    data_dir: str | None = None
    """Folder with the files of the set of images."""
    split: str = "test"
    """Train, valid or test."""
    draws: int = 1
    """Samples of the dequantisation noise per image."""
    batch: int = 200
    """Images per batch."""
    limit: int = 0
    """Largest number of images; 0 for all."""


@partial(jax.jit, static_argnums=3)
def bound(prior, key, v, draws):
    """Return the bound in bits per dimension for every image of integers `v: [batch, H, W, C]`."""

    def one(key):
        fill = uniform if prior.dequantiser is None else prior.dequantiser
        x, log_q = fill(key, v)
        return log_q - prior.log_prob(x, jnp.zeros(()))

    nll = jax.lax.map(one, jax.random.split(key, draws)).mean(0)
    return bits_per_dim(nll, v[0].size)


def measure(name, c):
    """Return the results of one run."""
    loaded = load_prior(name)
    if not loaded.form.discrete or loaded.header["kind"] != "flow":
        raise UserError(f"{name} is not a flow of images; name the run folder of one")
    settings = loaded.header["settings"]
    if settings["embedding"] and not loaded.header["about"]["config"]["plain"]:
        raise UserError(
            f"{name} was not trained on images without noise; train it with --schedule none or "
            "--plain 0.1"
        )
    images, _ = load_images(loaded.form.name, c.split, c.data_dir)
    images = images[: c.limit] if c.limit else images
    whole = -(-len(images) // c.batch) * c.batch
    padded = np.resize(images, (whole, *images.shape[1:])).astype(np.float32)
    each = [
        bound(
            loaded.prior, jax.random.fold_in(jax.random.key(0), i), padded[i : i + c.batch], c.draws
        )
        for i in range(0, len(padded), c.batch)
    ]
    bits = np.concatenate(each)[: len(images)]
    return {
        "run": loaded.name,
        "split": c.split,
        "images": len(images),
        "draws": c.draws,
        "dequantisation": settings["dequantise"],
        "step": loaded.header["about"]["step"],
        "bits_per_dim": round(float(bits.mean()), 4),
        "standard_error": round(float(bits.std() / np.sqrt(len(bits))), 5),
    }


def main(argv):
    """Print one line of JSON per run."""
    c = config.parse(Config, argv)
    for name in c.runs:
        print(json.dumps(measure(name, c)))


if __name__ == "__main__":
    run(main)
