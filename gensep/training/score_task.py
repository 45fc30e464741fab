"""What training a score prior does at each step: batches, loss, validation, the prior file."""

import dataclasses
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gensep.cli.records import __version__
from gensep.datasets.examples import VALID_SEED, moments
from gensep.priors.files import FILE, load_prior, save_prior
from gensep.priors.score_networks import NETWORKS, features, make_denoiser
from gensep.priors.unconditional import noise_levels, sample_batch
from gensep.runtime.errors import UserError
from gensep.training.log import Log
from gensep.training.loop import TrainState
from score import DenoiserPrior, denoising_loss, geometric, karras, lognormal


class Task:
    """A score prior to be trained with the config `c` on `examples` (gensep.datasets.examples)."""

    loss_name = "weighted denoising loss"

    def __init__(self, c: Any, examples: Any):
        self.c, self.examples = c, examples
        self.first = self._load_first()

    def batch(self, step: int) -> np.ndarray:
        """Give the raw examples of a step: a pure function of seed and step."""
        return self.examples.batch(self.c.seed, step, self.c.batch)

    def _load_first(self) -> Any:
        """Give the loaded prior that training starts from, or None.

        Raises:
            UserError: if its network is another.
        """
        c = self.c
        if c.init is None:
            return None
        loaded = load_prior(c.init)
        had = loaded.header["settings"]
        wanted = {"network": c.network, "width": c.width, "blocks": c.blocks}
        differ = [f"{k} {had.get(k)}" for k, v in wanted.items() if had.get(k, v) != v]
        if differ or features(had) != self.examples.features:
            differ = differ or [f"{features(had)} features"]
            raise UserError(
                f"prior {loaded.name} has {', '.join(differ)}; to start from it, ask for the same"
            )
        return loaded

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Sizes of the network, and the mean and scale of augmented training data.

        A prior that training starts from keeps its own: they belong to its weights.
        """
        c = self.c
        mean, sd = moments(self.examples)
        known = {
            "network": c.network,
            "features": self.examples.features,
            "width": c.width,
            "blocks": c.blocks,
            "levels": len(self.grid),
            "mean": mean,
            "sigma_data": sd,
        }
        if self.first:
            had = self.first.header["settings"]
            known |= {name: had[name] for name in ("mean", "sigma_data")}
        if c.schedule == "geometric":
            known["sigmas"] = [float(s) for s in self.trained_levels]
        network = NETWORKS[c.network]
        known |= {name: getattr(self.examples.form, name) for name in network.of_form}
        return known | {name: getattr(c, name) for name in network.of_options}

    @cached_property
    def trained_levels(self) -> np.ndarray:
        """Give the noise levels of the geometric schedule."""
        return geometric(self.c.noise_levels, self.c.sigma_min, self.c.sigma_max)

    @cached_property
    def grid(self) -> np.ndarray:
        """Give the fixed noise levels of validation; a network of fixed levels is asked there."""
        c = self.c
        if c.schedule == "geometric":
            some = np.linspace(0, c.noise_levels - 1, min(c.levels, c.noise_levels))
            return self.trained_levels[np.round(some).astype(int)]
        return karras(c.levels, c.sigma_min, c.sigma_max, 5.0)

    def make_model(self) -> Any:
        """Build the denoiser as training finds it."""
        if self.first:
            return self.first.prior.denoiser
        return make_denoiser(self.settings, self.c.seed)

    def rates(self, model: Any) -> None:
        """Let every parameter learn at the full rate."""

    def loss(self, model: Any, key: jax.Array, raw: jax.Array) -> jax.Array:
        """Give the denoising loss of a batch, every example at a random noise level of its own."""
        augment_key, sigma_key, noise_key = jax.random.split(key, 3)
        x = self.examples.inputs(augment_key, raw)
        sigma = self._draw_levels(sigma_key, len(x))
        return denoising_loss(model, x, jax.random.normal(noise_key, x.shape), sigma).mean()

    def _draw_levels(self, key: jax.Array, n: int) -> jax.Array:
        c = self.c
        if c.schedule == "geometric":
            return jax.random.choice(key, jnp.asarray(self.trained_levels), (n,))
        return lognormal(key, n, c.log_sigma_mean, c.log_sigma_sd, c.sigma_min, c.sigma_max)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Give the fixed validation examples."""
        return self.examples.held_out()

    @partial(jax.jit, static_argnums=0)
    def _errors(self, model: Any, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give the mean weighted loss and the mean squared error per feature at one level."""
        noise = jax.random.normal(jax.random.key(VALID_SEED), x.shape)
        loss = denoising_loss(model, x, noise, jnp.full(len(x), sigma)).mean()
        error = model(x + sigma * noise, sigma) - x
        return loss, (error**2).mean(tuple(range(x.ndim - 1)))

    def validate(self, state: TrainState, folder: Path, log: Log, step: int) -> TrainState:
        """Measure the averaged weights on the fixed grid; keep the best as the run's prior."""
        sigmas = self.grid
        measured = [self._errors(state.average, self.held_out, sigma) for sigma in sigmas]
        losses = [float(loss) for loss, _ in measured]
        mean = float(np.mean(losses))
        log.write(
            step,
            valid_loss=mean,
            skipped=int(state.skipped),
            **{f"valid_loss_sigma_{s:.3g}": v for s, v in zip(sigmas, losses, strict=True)},
        )
        if mean >= float(state.best):
            return state
        errors = jnp.sqrt(jnp.stack([error for _, error in measured]))
        prior = DenoiserPrior(state.average, jnp.asarray(sigmas), errors)
        save_prior(
            folder / FILE,
            "edm",
            prior,
            self.settings,
            self.examples.form,
            gensep=__version__,
            step=step,
            valid_loss=round(mean, 5),
            data=self.c.data,
            config=dataclasses.asdict(self.c),
        )
        return state._replace(best=jnp.asarray(mean, state.best.dtype))

    def finish(self, folder: Path) -> None:
        """Draw unconditional samples of the best prior beside windows of the data."""
        from gensep.plots.examples import plot_examples

        real = self.held_out[:8]
        loaded = load_prior(str(folder))
        key, sigmas = jax.random.key(self.c.seed), noise_levels(loaded)
        samples = np.asarray(sample_batch(loaded.prior, key, real.shape, sigmas))
        rows = {"samples of the prior": samples, "validation data": real}
        plot_examples(folder / "samples.png", rows, self.examples.form)
