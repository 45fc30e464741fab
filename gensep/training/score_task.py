"""Training a score prior: batches, denoising loss, validation."""

import dataclasses
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gensep.cli.records import Json
from gensep.datasets.examples import VALID_SEED, Examples, moments
from gensep.priors.files import LoadedPrior, load_prior
from gensep.priors.score_networks import NETWORKS, Denoiser, features, make_denoiser
from gensep.priors.unconditional import noise_levels, sample_batch
from gensep.runtime.errors import UserError
from gensep.training.contract import PriorFile, Validation
from gensep.training.options import TrainingConfig
from gensep.training.updates import ModelState, ModelTask
from score import DenoiserPrior, denoising_loss, geometric, karras, lognormal

Raw = jax.Array | np.ndarray


class ScoreTask(ModelTask[Denoiser, Raw]):
    """A denoiser to be trained on `examples` with the options `c` of gensep.train_ncsn.

    Raises:
        UserError: if the prior to start from, `c.init`, has another network.
    """

    c: Any
    loss_name = "weighted denoising loss"

    def __init__(self, c: TrainingConfig, examples: Examples):
        super().__init__(c)
        self.examples = examples
        self.first = self._load_first()

    def batch(self, step: int, rows: slice) -> Raw:
        """Return some rows of the raw examples of a step."""
        return self.examples.batch(self.c.seed, step, self.c.batch)[rows]

    def _load_first(self) -> LoadedPrior | None:
        """Return the prior that training starts from, if any."""
        if (c := self.c).init is None:
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
    def settings(self) -> Json:
        """Sizes of the network, and the mean and scale of augmented training data.

        If training starts from another prior, its mean and scale stay: its weights go with them.
        """
        c, (mean, sd) = self.c, moments(self.examples)
        known: Json = {"network": c.network, "features": self.examples.features}
        known |= {"width": c.width, "blocks": c.blocks, "levels": len(self.grid)}
        known |= {"mean": mean, "sigma_data": sd}
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
        """Noise levels of the geometric schedule, falling."""
        return geometric(self.c.noise_levels, self.c.sigma_min, self.c.sigma_max)

    @cached_property
    def grid(self) -> np.ndarray:
        """Noise levels of validation: some of the trained ones if these are fixed."""
        if (c := self.c).schedule == "geometric":
            some = np.linspace(0, c.noise_levels - 1, min(c.levels, c.noise_levels))
            return self.trained_levels[np.round(some).astype(int)]
        return karras(c.levels, c.sigma_min, c.sigma_max, 5.0)

    def make_model(self, key: jax.Array) -> Denoiser:
        """Return the untrained denoiser, from `c.seed`, or that of the prior to start from."""
        if self.first:  # a copy, as training uses up its arrays
            return jax.tree.map(jnp.array, cast(DenoiserPrior, self.first.prior).denoiser)
        return make_denoiser(self.settings, self.c.seed)

    def loss(self, model: Denoiser, key: jax.Array, raw: Raw) -> jax.Array:
        """Return the denoising loss of a batch, every example at its own random noise level."""
        augment_key, sigma_key, noise_key = jax.random.split(key, 3)
        x = self.examples.inputs(augment_key, jnp.asarray(raw))
        sigma = self._sample_levels(sigma_key, len(x))
        return denoising_loss(model, x, jax.random.normal(noise_key, x.shape), sigma).mean()

    def _sample_levels(self, key: jax.Array, n: int) -> jax.Array:
        if (c := self.c).schedule == "geometric":
            return jax.random.choice(key, jnp.asarray(self.trained_levels), (n,))
        return lognormal(key, n, c.log_sigma_mean, c.log_sigma_sd, c.sigma_min, c.sigma_max)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Fixed validation examples."""
        return self.examples.held_out()

    @partial(jax.jit, static_argnums=0)
    def _errors(self, model: Denoiser, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, ...]:
        """Return mean weighted loss and mean squared error per feature at one noise level."""
        noise = jax.random.normal(jax.random.key(VALID_SEED), x.shape)
        loss = denoising_loss(model, x, noise, jnp.full(len(x), sigma)).mean()
        error = model(x + sigma * noise, sigma) - x
        return loss, (error**2).mean(tuple(range(x.ndim - 1)))

    def validate(self, state: ModelState[Denoiser]) -> Validation:
        """Measure the averaged weights on the fixed noise levels."""
        model, sigmas = state.learner.average, self.grid
        measured = [self._errors(model, self.held_out, sigma) for sigma in sigmas]
        losses = [float(loss) for loss, _ in measured]
        row = {f"valid_loss_sigma_{s:.3g}": v for s, v in zip(sigmas, losses, strict=True)}
        errors = jnp.sqrt(jnp.stack([error for _, error in measured]))
        prior = DenoiserPrior(model, jnp.asarray(sigmas), errors)
        about = {"data": self.c.data, "config": dataclasses.asdict(self.c)}
        file = PriorFile("edm", prior, self.settings, self.examples.form, about)
        return Validation(float(np.mean(losses)), row, file)

    def finish(self, folder: Path) -> None:
        """Draw unconditional samples of the best prior beside windows of the data."""
        from gensep.plots.examples import plot_examples

        real = self.held_out[:8]
        loaded = load_prior(str(folder))
        key, sigmas = jax.random.key(self.c.seed), noise_levels(loaded)
        samples = np.asarray(sample_batch(loaded.prior, key, real.shape, sigmas))
        rows = {"samples of the prior": samples, "validation data": real}
        plot_examples(folder / "samples.png", rows, self.examples.form)
