"""Bits per dimension of a flow of images on a whole test set, an upper bound on the integers' own.

    python scripts/flow_bits.py RUN ... --data_dir FOLDER

Each image is filled with `--draws` draws of the noise that the flow was trained with; the mean of
-log p(x) + log q(u | v) over them is the bound, and its standard error is over images.
"""

import argparse
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from flows import bits_per_dim, uniform
from gensep.errors import UserError
from gensep.image_form import ImageForm
from gensep.images import load_images
from gensep.priors import load_prior


@partial(jax.jit, static_argnums=3)
def bound(prior, key, v, draws):
    """Give the bound of every image of integers `v: [batch, H, W, C]`, bits a dimension."""
    def one(key):
        fill = uniform if prior.dequantiser is None else prior.dequantiser
        x, log_q = fill(key, v)
        return log_q - prior.log_prob(x, jnp.zeros(()))

    nll = jax.lax.map(one, jax.random.split(key, draws)).mean(0)
    return bits_per_dim(nll, v[0].size)


def measure(name, split, data_dir, draws, batch, limit):
    """Give the figures of one run."""
    loaded = load_prior(name)
    if not isinstance(loaded.representation, ImageForm) or loaded.header["kind"] != "flow":
        raise UserError(f"{name} is not a flow of images")
    settings = loaded.header["settings"]
    if settings["embedding"] and not loaded.header["about"]["config"]["plain"]:
        raise UserError(f"{name} never saw images without noise; train it with --schedule none or "
                        "--plain 0.1")
    images, _ = load_images(loaded.representation.name, split, data_dir)
    images = images[:limit] if limit else images
    padded = np.concatenate([images, images[: -len(images) % batch]]).astype(np.float32)
    each = [bound(loaded.prior, jax.random.fold_in(jax.random.key(0), i), padded[i : i + batch],
                  draws) for i in range(0, len(padded), batch)]
    bits = np.concatenate(each)[: len(images)]
    return {"run": loaded.name, "split": split, "images": len(images), "draws": draws,
            "dequantisation": settings["dequantise"], "step": loaded.header["about"]["step"],
            "bits_per_dim": round(float(bits.mean()), 4),
            "standard_error": round(float(bits.std() / np.sqrt(len(bits))), 5)}


def main():
    """Print one line of JSON a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data_dir")
    parser.add_argument("--split", default="test")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--limit", type=int, default=0, help="images at most; 0 takes all")
    c = parser.parse_args()
    for run in c.runs:
        print(json.dumps(measure(run, c.split, c.data_dir, c.draws, c.batch, c.limit)))


if __name__ == "__main__":
    main()
