"""Training a critic, as a prior by itself or against a prior: batches, losses, validation."""

import dataclasses
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from basis import Prior, denoise
from gensep.cli.records import Json
from gensep.datasets.examples import VALID_SEED, Examples, measured
from gensep.priors.critic_networks import make_critic
from gensep.priors.files import GUIDE, LoadedPrior, load_guide, load_prior
from gensep.priors.unconditional import make_kernel, noise_levels, sample_batch, sample_prior
from gensep.runtime.errors import UserError
from gensep.training.contract import PriorFile, Validation
from gensep.training.options import TrainingConfig
from gensep.training.updates import ModelState, ModelTask
from score import (
    Critic,
    CriticPrior,
    GuidedPrior,
    contrast_loss,
    draw_reference,
    karras,
    lognormal,
    order_loss,
)

SAMPLED = 64  # samples of the other prior at once


class Raw(NamedTuple):
    """A batch: raw examples, and samples of the prior that is corrected (none without one)."""

    examples: jax.Array | np.ndarray
    others: jax.Array | np.ndarray | None = None


class CriticTask(ModelTask[Critic, Raw]):
    """A critic to be trained on `examples` with the options `c` of gensep.train_critic.

    Raises:
        UserError: if the prior to be corrected, `c.against`, is of other data.
    """

    c: Any

    def __init__(self, c: TrainingConfig, examples: Examples):
        super().__init__(c)
        self.examples = examples
        self.loss_name = "weighted denoising loss"
        self.other = self._load_other()

    def _load_other(self) -> LoadedPrior | None:
        """Return the prior that is to be corrected, if any."""
        if self.c.against is None:
            return None
        loaded = load_prior(self.c.against)
        if loaded.form != self.examples.form:
            raise UserError(
                f"prior {loaded.name} is of {loaded.form.describe()}, unlike the data "
                f"{self.c.data}; give the data that it was trained on"
            )
        return loaded

    @cached_property
    def pool(self) -> np.ndarray:
        """Samples of the prior that is to be corrected, the same ones whenever training resumes."""
        assert self.other
        levels, shape = noise_levels(self.other, self.c.sampling_steps), self.held_out.shape[1:]
        kernel = make_kernel("sde")
        drawn = sample_prior(
            self.other.prior, self.c.seed, self.c.samples, SAMPLED, shape, levels, kernel
        )
        return np.concatenate(list(drawn))

    def batch(self, step: int, rows: slice) -> Raw:
        """Return some rows of the raw examples and of the samples of a step."""
        raw = self.examples.batch(self.c.seed, step, self.c.batch)[rows]
        if not self.other:
            return Raw(raw)
        chosen = np.random.default_rng((self.c.seed, step)).integers(
            len(self.pool), size=self.c.batch
        )
        return Raw(raw, self.pool[chosen[rows]])

    @cached_property
    def settings(self) -> Json:
        """Sizes of the network, and mean and variance of augmented training data."""
        c, x = self.c, measured(self.examples)
        axes = tuple(range(x.ndim - 1))
        known: Json = {"network": c.network, "features": self.examples.features}
        known |= {"width": c.width, "blocks": c.blocks, "levels": c.levels}
        known |= {"mean": x.mean(axes).tolist(), "variance": x.var(axes).tolist()}
        return known | ({"against": self.other.name} if self.other else {})

    @cached_property
    def grid(self) -> np.ndarray:
        """Noise levels of validation."""
        levels = karras(self.c.levels, self.c.sigma_min, self.c.sigma_max, 5.0)
        if not self.other:
            return levels
        own = np.asarray(self.other.prior.sigmas)
        return np.unique(np.clip(levels, own.min(), own.max()))[::-1]

    def make_model(self, key: jax.Array) -> Critic:
        """Return the untrained critic, from `c.seed`."""
        return make_critic(self.settings, self.c.seed)

    def loss(self, model: Critic, key: jax.Array, raw: Raw) -> jax.Array:
        """Return the logistic loss of a batch, every example at its own random noise level."""
        keys, c = jax.random.split(key, 5), self.c
        x0 = self.examples.inputs(keys[0], jnp.asarray(raw.examples))
        sigma = lognormal(
            keys[1], len(x0), c.log_sigma_mean, c.log_sigma_sd, c.sigma_min, c.sigma_max
        )
        wide = sigma.reshape(-1, *[1] * (x0.ndim - 1))
        noise = partial(jax.random.normal, shape=x0.shape)
        x = x0 + wide * noise(keys[2])
        if raw.others is not None:
            others = jnp.asarray(raw.others) + wide * noise(keys[3])
            return contrast_loss(model, x, others, sigma).mean()
        value = order_loss(model, x, noise(keys[3]), sigma, c.step).mean()
        if c.contrast:
            others = draw_reference(model, noise(keys[4]), sigma)
            value = value + c.contrast * contrast_loss(model, x, others, sigma).mean()
        return value

    @cached_property
    def held_out(self) -> np.ndarray:
        """Fixed validation examples."""
        return self.examples.held_out()

    @partial(jax.jit, static_argnums=0)
    def _squares(self, prior: Prior, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Return the mean squared error of the denoiser per feature at one noise level."""
        noise = jax.random.normal(jax.random.key(VALID_SEED), x.shape)
        error = denoise(prior, x + sigma * noise, sigma) - x
        return (error**2).mean(tuple(range(x.ndim - 1)))

    def _losses(self, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
        """Return weighted denoising losses as of score networks `[level]`, and rms errors."""
        squares = np.stack([self._squares(prior, self.held_out, sigma) for sigma in self.grid])
        power, of_data = self.grid**2, float(np.mean(self.settings["variance"]))
        return squares.mean(1) * (power + of_data) / (power * of_data), np.sqrt(squares)

    @cached_property
    def uncorrected(self) -> float:
        """Denoising loss of the other prior by itself."""
        assert self.other
        return float(self._losses(self.other.prior)[0].mean())

    def validate(self, state: ModelState[Critic]) -> Validation:
        """Measure how well the critic's prior, or the prior that it corrects, denoises.

        That is the loss of score networks, so that all kinds of priors can be compared.
        """
        critic = state.learner.average
        table = jnp.ones((len(self.grid), self.examples.features))
        own = CriticPrior(critic, jnp.asarray(self.grid), table)
        prior = GuidedPrior(self.other.prior, critic, jnp.ones(())) if self.other else own
        losses, errors = self._losses(prior)
        row = {
            f"valid_loss_sigma_{s:.3g}": float(v) for s, v in zip(self.grid, losses, strict=True)
        }
        if self.other:
            row["valid_loss_uncorrected"] = self.uncorrected
        about = {"data": self.c.data, "config": dataclasses.asdict(self.c)}
        kind, settings = (
            GUIDE if self.other else "critic",
            self.settings | {"levels": len(self.grid)},
        )
        kept = own._replace(errors=jnp.asarray(errors))
        file = PriorFile(kind, kept, settings, self.examples.form, about)
        return Validation(float(losses.mean()), row, file)

    def finish(self, folder: Path) -> None:
        """Draw samples of the best critic, or of the prior it corrects, beside the data."""
        from gensep.plots.examples import plot_examples

        real, key = self.held_out[:8], jax.random.key(self.c.seed)
        if self.other:
            critic = cast(CriticPrior, load_guide(str(folder)).prior).critic
            before, levels = self.other.prior, noise_levels(self.other)
            shown = {
                "samples of the corrected prior": GuidedPrior(before, critic, jnp.ones(())),
                "samples of the prior from the same noise": before,
            }
        else:
            loaded = load_prior(str(folder))
            shown, levels = {"samples of the prior": loaded.prior}, noise_levels(loaded)
        rows = {
            name: np.asarray(sample_batch(prior, key, real.shape, levels))
            for name, prior in shown.items()
        }
        rows["validation data"] = real
        plot_examples(folder / "samples.png", rows, self.examples.form.picture)
