"""Pictures of a trained flow: samples and their neighbours, reconstructions, interpolations."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TEMPERATURES = (1.0, 0.8, 0.6)


def draw_pictures(
    folder: Path, prior: Any, examples: Any, train: np.ndarray, held: np.ndarray, seed: int
) -> None:
    """Write samples.png and latents.png.

    Args:
        folder: of the run.
        prior: a `flows.FlowPrior`.
        examples: see `gensep.datasets.examples`.
        train: examples of the training set, `[n, ...]`, among which neighbours are sought.
        held: validation examples `[few, ...]`.
        seed: of the samples.
    """
    from gensep.plots.examples import plot_examples

    sigma = prior.sigmas[-1]

    @jax.jit
    def sample(prior, temperature):
        x = prior.density.sample(jax.random.key(seed), held.shape, sigma, temperature)
        return x + sigma**2 * prior.score(x, sigma)

    drawn = {t: np.asarray(sample(prior, t)) for t in TEMPERATURES}
    rows = {f"samples, temperature {t:g}" if t != 1 else "samples": x for t, x in drawn.items()}
    rows["training examples nearest to the samples of the first row"] = nearest(drawn[1.0], train)
    rows["validation data"] = held
    plot_examples(folder / "samples.png", rows, examples.form)

    @jax.jit
    def travel(prior, x):
        z, _ = prior.density.to_latent(x, sigma)
        share = jnp.linspace(0, 1, len(x)).reshape(-1, *[1] * (z.ndim - 1))
        back = prior.density.from_latent(z, sigma, x.shape[1:])
        # on the sphere: latents between two have the norm of latents
        angle = jnp.arccos(
            jnp.clip((z[0] * z[-1]).sum() / jnp.sqrt((z[0] ** 2).sum() * (z[-1] ** 2).sum()), -1, 1)
        )
        between = jnp.sin((1 - share) * angle) * z[0] + jnp.sin(share * angle) * z[-1]
        between = between / jnp.sin(angle)
        return back, prior.density.from_latent(between, sigma, x.shape[1:])

    back, between = (np.asarray(x) for x in travel(prior, held))
    error = float(np.abs(back - held).max())
    rows = {
        "validation data": held,
        f"back from their latents (largest error {error:.1e})": back,
        "between the latents of the first and the last": between,
    }
    plot_examples(folder / "latents.png", rows, examples.form)


def nearest(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Give of `among: [m, ...]` the nearest to each of `x: [n, ...]`, by Euclid."""
    a, b = x.reshape(len(x), -1), among.reshape(len(among), -1)
    return among[((b**2).sum(1) - 2 * a @ b.T).argmin(1)]
