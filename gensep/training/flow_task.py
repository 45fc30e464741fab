"""Training a flow by maximum likelihood: batches, loss, validation, pictures."""

import dataclasses
import json
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from flows import FlowPrior, bits_per_dim, learning_rates
from flows.density import likelihood_and_denoising, negative_log_likelihood
from gensep.cli.records import Json
from gensep.datasets.examples import VALID_SEED, Examples, extent, moments
from gensep.priors.files import load_prior
from gensep.priors.flow_networks import FLOWS, FlowModel, make_flow
from gensep.representation.form import is_sound
from gensep.representation.image import PIXEL_VALUES
from gensep.training.contract import PriorFile, Row, Validation
from gensep.training.flow_pictures import draw_pictures
from gensep.training.options import FlowConfig
from gensep.training.updates import ModelState, ModelTask, Outcome
from score import karras, lognormal

FlowBatch = jax.Array | np.ndarray | tuple[np.ndarray, np.float32]  # of a `LevelTask` the last


class FlowTask(ModelTask[FlowModel, FlowBatch]):
    """A flow to be trained by maximum likelihood, perhaps with a denoising loss beside it.

    `architecture` is a row of `gensep.priors.flow_networks.FLOWS`; `c` has the settings it reads.
    """

    c: FlowConfig
    loss_name = "negative log likelihood, nats per dimension"

    def __init__(self, c: FlowConfig, examples: Examples, architecture: str):
        super().__init__(c)
        self.examples, self.architecture = examples, architecture

    def batch(self, step: int, rows: slice) -> FlowBatch:
        """Return some rows of the raw examples of a step."""
        return self.examples.batch(self.c.seed, step, self.c.batch)[rows]

    @cached_property
    def settings(self) -> Json:
        """Sizes of the flow, and the mean and scale of augmented training data."""
        c, form, row = self.c, self.examples.form, FLOWS[self.architecture]
        shape, kept = form.shape(c.frames), ("layout", "squeeze", "logit", "dequantise")
        if len(shape) == 2:
            shape = (shape[0], 1, shape[1]) if c.layout == "bands" else (*shape, 1)
        # after a logit the first ActNorm finds mean and scale itself
        mean, sd = ([0.0] * self.examples.features, 1.0) if c.logit else moments(self.examples)
        low, high = extent(self.examples)
        return {
            "architecture": self.architecture,
            **{name: getattr(c, name) for name in (*row.sizes, *row.others.values(), *kept)},
            "shape": list(shape),
            "features": self.examples.features,
            "mean": mean,
            "sd": sd,
            "low": low,
            "high": high,
            "embedding": 0 if c.schedule == "none" else c.embedding,
            "floor": c.sigma_min / 4,
            "levels": len(self.grid),
        }

    @cached_property
    def grid(self) -> np.ndarray:
        """Fixed noise levels of validation; of plain data 0 alone."""
        if self.c.schedule == "none":
            return np.zeros(1, np.float32)
        return karras(self.c.levels, self.c.sigma_min, self.c.sigma_max, 5.0)

    def make_model(self, key: jax.Array) -> FlowModel:
        """Return the untrained flow, from `c.seed`, its ActNorms set by noisy examples."""
        model = make_flow(self.settings, self.c.seed)

        @jax.jit
        def start(model: FlowModel, raw: jax.Array) -> FlowModel:
            if model.dequantiser is not None:
                made = model.dequantiser.initialize(key, raw.astype(jnp.float32))
                model = model._replace(dequantiser=made)
            x, noise, sigma, _ = self._sample(model, key, raw)
            noisy = x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * noise
            return model._replace(density=model.density.initialize(noisy, sigma))

        return start(model, self.examples.batch(self.c.seed, 0, max(64, self.c.batch)))

    def _sample(self, model: FlowModel, key: jax.Array, raw: FlowBatch) -> tuple[jax.Array, ...]:
        """Return examples, noise, noise levels `[batch]` and log q of the dequantisation."""
        augment_key, sigma_key, noise_key, fill_key = jax.random.split(key, 4)
        x = self.examples.inputs(augment_key, jnp.asarray(raw))
        x, log_q = _filled(model, fill_key, x)
        return x, jax.random.normal(noise_key, x.shape), self._levels(sigma_key, len(x)), log_q

    def _levels(self, key: jax.Array, n: int) -> jax.Array:
        """Sample the noise levels of a batch, stratified."""
        c, (level_key, plain_key) = self.c, jax.random.split(key)
        if c.schedule == "none":
            return jnp.zeros(n)
        limits = c.sigma_min, c.sigma_max
        if c.schedule == "lognormal":
            sigma = lognormal(level_key, n, c.log_sigma_mean, c.log_sigma_sd, *limits)
        else:
            place = (jnp.arange(n) + jax.random.uniform(level_key, (n,))) / n
            sigma = c.sigma_min * (c.sigma_max / c.sigma_min) ** place
        if not c.plain:
            return sigma
        return jnp.where(jax.random.uniform(plain_key, (n,)) < c.plain, 0.0, sigma)

    def rates(self, model: FlowModel) -> FlowModel:
        """Return the factors that keep wide and deep flows from diverging."""
        return learning_rates(model)

    def loss(self, model: FlowModel, key: jax.Array, raw: FlowBatch) -> Outcome[FlowModel]:
        """Return -log p_sigma(x + sigma n), nats per dimension, every example at its own sigma.

        With the option `denoising`, the weighted error of the flow's denoiser is added.
        """
        x, noise, sigma, log_q = self._sample(model, key, raw)
        seen: Row = {}
        if not self.c.denoising or not self.grid.any():
            nll, logdet = negative_log_likelihood(model.density, x, noise, sigma)
            loss = (nll + log_q / x[0].size).mean()
        else:
            nll, logdet, error = likelihood_and_denoising(model.density, x, noise, sigma)
            # the log shows the likelihood alone, as validation does
            seen = {"loss": nll.mean(), "denoising": error.mean()}
            loss = (nll + self.c.denoising * error).mean()
        row = {"log_det_min": logdet.min(), "log_det_max": logdet.max(), **seen}
        return Outcome(loss, row)

    @cached_property
    def held_out(self) -> np.ndarray:
        """Fixed validation examples, a whole number of batches if there are so many."""
        held = self.examples.held_out()
        return held[: max(1, len(held) // self.c.batch) * self.c.batch]

    @partial(jax.jit, static_argnums=0)
    def _measure(
        self, model: FlowModel, key: jax.Array, x: jax.Array, sigma: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the mean loss and the mean squared error of the denoiser, `[features]`."""
        fill_key, noise_key = jax.random.split(key)
        x, log_q = _filled(model, fill_key, x)
        noisy = x + sigma * jax.random.normal(noise_key, x.shape)

        def total(noisy: jax.Array) -> tuple[jax.Array, jax.Array]:
            log_prob = model.density.log_prob(noisy, sigma)
            return log_prob.sum(), log_prob

        score, log_prob = jax.grad(total, has_aux=True)(noisy)
        error = (noisy + sigma**2 * score - x) ** 2
        return ((log_q - log_prob) / x[0].size).mean(), error.mean(tuple(range(x.ndim - 1)))

    def measure(self, model: FlowModel, x: np.ndarray, sigma: float) -> tuple[float, jax.Array]:
        """Return loss and rms error per feature at one noise level, measured batch by batch."""
        parts = np.split(x, range(self.c.batch, len(x), self.c.batch))
        key, level = jax.random.key(VALID_SEED), jnp.asarray(sigma, jnp.float32)
        keys = [jax.random.fold_in(key, i) for i in range(len(parts))]
        each = [self._measure(model, *of, level) for of in zip(keys, parts, strict=True)]
        loss, error = (sum(values) / len(each) for values in zip(*each, strict=True))
        return float(loss), jnp.sqrt(error)

    def validate(self, state: ModelState[FlowModel]) -> Validation:
        """Measure the averaged weights on the fixed noise levels."""
        model, sigmas = state.learner.average, self.grid
        measured = [self.measure(model, self.held_out, sigma) for sigma in sigmas]
        losses = {f"{sigma:.3g}": loss for sigma, (loss, _) in zip(sigmas, measured, strict=True)}
        if self.c.plain and self.c.schedule != "none":
            losses["0"] = self.measure(model, self.held_out, 0.0)[0]
        row = {f"valid_loss_sigma_{sigma}": loss for sigma, loss in losses.items()}
        if self.examples.form.discrete and "0" in losses:
            row["valid_bits_per_dim"] = float(bits_per_dim(jnp.asarray(losses["0"]), 1))
        errors = jnp.stack([error for _, error in measured])
        prior = FlowPrior(model.density, jnp.asarray(sigmas), errors, model.dequantiser)
        about = {"data": self.c.data, "config": dataclasses.asdict(self.c)}
        file = PriorFile("flow", prior, self.settings, self.examples.form, about)
        table = ("likelihood.json", json.dumps(self.table(losses), indent=1))
        return Validation(float(np.mean(list(losses.values()))), row, file, (table,))

    def table(self, losses: dict[str, float]) -> Json:
        """Return losses (sigma -> nats per dimension) in the units of the data, and what they mean.

        The negative log density of decibels is ln(span) nats more than that of model units;
        `least` is the entropy of the noise alone, which no loss of noisy data can fall below.
        """
        rows, form = {}, self.examples.form
        for name, loss in losses.items():
            sigma = float(name)
            row = {"nats_per_dim": loss}
            if sigma:
                row["least"] = float(np.log(2 * np.pi * np.e * sigma**2) / 2)
            if is_sound(form):
                row["nats_per_dim_db"] = loss + float(np.log(form.span_db))
                row["sigma_db"] = sigma * form.span_db
            elif not sigma:
                row["bits_per_dim"] = float(bits_per_dim(jnp.asarray(loss), 1))
            rows[name] = row
        return {
            "examples": len(self.held_out),
            "sigma": rows,
            "dequantisation": self.c.dequantise if form.discrete else "none: continuous data",
        }

    def finish(self, folder: Path) -> None:
        """Draw samples of the best prior, their neighbours in the training set, and latents."""
        prior = cast(FlowPrior, load_prior(str(folder)).prior)
        raw = self.examples.batch(VALID_SEED + 1, 0, 2048)
        train = np.asarray(jax.jit(self.examples.inputs)(jax.random.key(1), raw))
        draw_pictures(folder, prior, self.examples.form, train, self.held_out[:8], self.c.seed)


def _filled(model: FlowModel, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x and log q; a model with learnt dequantisation noise samples x between integers."""
    if model.dequantiser is None:
        return x, jnp.zeros(len(x))
    return model.dequantiser(key, jnp.floor(x * PIXEL_VALUES))
