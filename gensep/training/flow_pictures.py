"""Pictures of a trained flow: samples and their neighbours, reconstructions, interpolations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from flows import FlowPrior
from gensep.representation.form import Form

TEMPERATURES = (1.0, 0.8, 0.6)


def draw_pictures(
    folder: Path, prior: FlowPrior, form: Form, train: np.ndarray, held: np.ndarray, seed: int
) -> None:
    """Write samples.png and latents.png into the folder of a run.

    The samples, from `seed`, stand above their nearest neighbours in `train`, training examples
    `[n, ...]`; `held` are validation examples `[few, ...]`.
    """
    from gensep.plots.examples import plot_examples

    sigma = prior.sigmas[-1]

    @jax.jit
    def sample(prior: FlowPrior, temperature: float) -> jax.Array:
        x = prior.density.sample(jax.random.key(seed), held.shape, sigma, temperature)
        return x + sigma**2 * prior.score(x, sigma)

    sampled = {t: np.asarray(sample(prior, t)) for t in TEMPERATURES}
    rows = {f"samples, temperature {t:g}" if t != 1 else "samples": x for t, x in sampled.items()}
    rows["training examples nearest to the samples of the first row"] = nearest(sampled[1.0], train)
    rows["validation data"] = held
    plot_examples(folder / "samples.png", rows, form)

    @jax.jit
    def travel(prior: FlowPrior, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        z, _ = prior.density.to_latent(x, sigma)
        share = jnp.linspace(0, 1, len(x)).reshape(-1, *[1] * (z.ndim - 1))
        back = prior.density.from_latent(z, sigma, x.shape[1:])
        # along a great circle, so that latents between two have the norm of latents
        norms = jnp.sqrt((z[0] ** 2).sum() * (z[-1] ** 2).sum())
        angle = jnp.arccos(jnp.clip((z[0] * z[-1]).sum() / norms, -1, 1))
        between = jnp.sin((1 - share) * angle) * z[:1] + jnp.sin(share * angle) * z[-1:]
        between = between / jnp.sin(angle)
        return back, prior.density.from_latent(between, sigma, x.shape[1:])

    back, between = (np.asarray(x) for x in travel(prior, held))
    error = float(np.abs(back - held).max())
    rows = {
        "validation data": held,
        f"back from their latents (largest error {error:.1e})": back,
        "between the latents of the first and the last": between,
    }
    plot_examples(folder / "latents.png", rows, form)


def nearest(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the examples of `among: [m, ...]` nearest to `x: [n, ...]`, in Euclidean distance."""
    a, b = x.reshape(len(x), -1), among.reshape(len(among), -1)
    return among[((b**2).sum(1) - 2 * a @ b.T).argmin(1)]
