"""What training a flow does at each step: batches, loss, validation, the prior file, pictures."""

import dataclasses
import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flows import (
    FlowPrior,
    bits_per_dim,
    learning_rates,
    likelihood_and_denoising,
    negative_log_likelihood,
)
from gensep.cli.records import __version__
from gensep.datasets.examples import VALID_SEED, extent, moments
from gensep.priors.files import FILE, load_prior, save_prior
from gensep.priors.flow_networks import FlowModel, make_flow
from gensep.representation.image import PIXEL_VALUES
from gensep.runtime.files import write_atomically
from gensep.training.flow_pictures import draw_pictures
from gensep.training.log import Log
from gensep.training.loop import TrainState
from score import karras, lognormal


class FlowTask:
    """A flow to be trained by maximum likelihood with the config `c` on `examples`.

    Args:
        c: a `gensep.training.options.FlowConfig`.
        examples: see `gensep.datasets.examples`.
        architecture: a row of `gensep.priors.flow_networks.FLOWS` and the settings its maker reads.
    """

    loss_name = "negative log likelihood, nats a dimension"
    kind = "flow"

    def __init__(self, c: Any, examples: Any, **architecture: Any):
        self.c, self.examples, self.architecture = c, examples, architecture
        self.images = examples.form.discrete

    def batch(self, step: int) -> np.ndarray:
        """Give the raw examples of a step: a pure function of seed and step."""
        return self.examples.batch(self.c.seed, step, self.c.batch)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Sizes of the flow, and the mean and scale of augmented training data."""
        c, shape = self.c, self.examples.form.shape(self.c.frames)
        if len(shape) == 2:
            shape = (shape[0], 1, shape[1]) if c.layout == "bands" else (*shape, 1)
        # after a logit the first ActNorm finds mean and scale itself
        mean, sd = ([0.0] * self.examples.features, 1.0) if c.logit else moments(self.examples)
        low, high = extent(self.examples)
        return {
            **self.architecture,
            "shape": list(shape),
            "layout": c.layout,
            "features": self.examples.features,
            "mean": mean,
            "sd": sd,
            "low": low,
            "high": high,
            "embedding": 0 if c.schedule == "none" else c.embedding,
            "floor": c.sigma_min / 4,
            "squeeze": c.squeeze,
            "logit": c.logit,
            "dequantise": c.dequantise,
            "levels": len(self.grid),
        }

    @cached_property
    def grid(self) -> np.ndarray:
        """Give the fixed noise levels of validation; 0 alone for plain data."""
        c = self.c
        if c.schedule == "none":
            return np.zeros(1, np.float32)
        return karras(c.levels, c.sigma_min, c.sigma_max, 5.0)

    def make_model(self) -> FlowModel:
        """Build the flow, its ActNorms set from the first batch at its noise levels."""
        model = make_flow(self.settings, self.c.seed)

        @jax.jit
        def start(model, raw):
            key = jax.random.key(self.c.seed)
            if model.dequantiser is not None:
                made = model.dequantiser.initialize(key, raw.astype(jnp.float32))
                model = model._replace(dequantiser=made)
            x, noise, sigma, _ = self._draw(model, key, raw)
            noisy = x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * noise
            return model._replace(density=model.density.initialize(noisy, sigma))

        return start(model, self.examples.batch(self.c.seed, 0, max(64, self.c.batch)))

    def _draw(self, model: FlowModel, key: jax.Array, raw: jax.Array) -> tuple[jax.Array, ...]:
        """Give examples, noise, noise levels `[batch]` and log q of the dequantisation."""
        augment_key, sigma_key, noise_key, fill_key = jax.random.split(key, 4)
        x, log_q = _filled(model, fill_key, self.examples.inputs(augment_key, raw))
        return x, jax.random.normal(noise_key, x.shape), self._levels(sigma_key, len(x)), log_q

    def _levels(self, key: jax.Array, n: int) -> jax.Array:
        """Draw the noise levels of a batch, stratified."""
        c, (level_key, plain_key) = self.c, jax.random.split(key)
        if c.schedule == "none":
            return jnp.zeros(n)
        if c.schedule == "lognormal":
            sigma = lognormal(
                level_key, n, c.log_sigma_mean, c.log_sigma_sd, c.sigma_min, c.sigma_max
            )
        else:
            place = (jnp.arange(n) + jax.random.uniform(level_key, (n,))) / n
            sigma = c.sigma_min * (c.sigma_max / c.sigma_min) ** place
        if not c.plain:
            return sigma
        return jnp.where(jax.random.uniform(plain_key, (n,)) < c.plain, 0.0, sigma)

    def rates(self, model: FlowModel) -> Any:
        """Give the factors that keep wide and deep flows from diverging."""
        return learning_rates(model)

    def loss(self, model: FlowModel, key: jax.Array, raw: jax.Array) -> tuple[jax.Array, dict]:
        """Give -log p_sigma(x + sigma n) in nats a dimension, every example at its own sigma."""
        x, noise, sigma, log_q = self._draw(model, key, raw)
        if not self.c.denoising or not self.grid.any():
            nll, logdet = negative_log_likelihood(model.density, x, noise, sigma)
            seen = {"log_det_min": logdet.min(), "log_det_max": logdet.max()}
            return (nll + log_q / x[0].size).mean(), seen
        nll, logdet, error = likelihood_and_denoising(model.density, x, noise, sigma)
        # logs compare the likelihood with that of the validation
        seen = {
            "log_det_min": logdet.min(),
            "log_det_max": logdet.max(),
            "loss": nll.mean(),
            "denoising": error.mean(),
        }
        return (nll + self.c.denoising * error).mean(), seen

    @cached_property
    def held_out(self) -> np.ndarray:
        """Give the fixed validation examples, a whole number of batches if there are so many."""
        held = self.examples.held_out()
        return held[: max(1, len(held) // self.c.batch) * self.c.batch]

    @partial(jax.jit, static_argnums=0)
    def _measure(self, model: FlowModel, key: jax.Array, x: jax.Array, sigma: jax.Array):
        """Give the mean loss and the mean squared error of the denoiser, `[features]`."""
        fill_key, noise_key = jax.random.split(key)
        x, log_q = _filled(model, fill_key, x)
        noisy = x + sigma * jax.random.normal(noise_key, x.shape)

        def total(noisy):
            log_prob = model.density.log_prob(noisy, sigma)
            return log_prob.sum(), log_prob

        score, log_prob = jax.grad(total, has_aux=True)(noisy)
        error = (noisy + sigma**2 * score - x) ** 2
        return ((log_q - log_prob) / x[0].size).mean(), error.mean(tuple(range(x.ndim - 1)))

    def measure(self, model: FlowModel, x: np.ndarray, sigma: float) -> tuple[float, jax.Array]:
        """Give loss and rms error per feature at one level, batch by batch."""
        parts = np.split(x, range(self.c.batch, len(x), self.c.batch))
        key, level = jax.random.key(VALID_SEED), jnp.asarray(sigma, jnp.float32)
        each = [
            self._measure(model, jax.random.fold_in(key, i), part, level)
            for i, part in enumerate(parts)
        ]
        loss, error = (sum(values) / len(each) for values in zip(*each, strict=True))
        return float(loss), jnp.sqrt(error)

    def validate(self, state: TrainState, folder: Path, log: Log, step: int) -> TrainState:
        """Measure the averaged weights on the fixed grid; keep the best as the run's prior."""
        model, sigmas = state.average, self.grid
        measured = [self.measure(model, self.held_out, sigma) for sigma in sigmas]
        losses = {f"{sigma:.3g}": loss for sigma, (loss, _) in zip(sigmas, measured, strict=True)}
        if self.c.plain and self.c.schedule != "none":
            losses["0"] = self.measure(model, self.held_out, 0.0)[0]
        mean = float(np.mean(list(losses.values())))
        row = {f"valid_loss_sigma_{sigma}": loss for sigma, loss in losses.items()}
        if self.images and "0" in losses:
            row["valid_bits_per_dim"] = float(bits_per_dim(jnp.asarray(losses["0"]), 1))
        log.write(step, valid_loss=mean, skipped=int(state.skipped), **row)
        if not mean < float(state.best):
            return state
        errors = jnp.stack([error for _, error in measured])
        prior = FlowPrior(model.density, jnp.asarray(sigmas), errors, model.dequantiser)
        save_prior(
            folder / FILE,
            self.kind,
            prior,
            self.settings,
            self.examples.form,
            gensep=__version__,
            step=step,
            valid_loss=round(mean, 5),
            data=self.c.data,
            config=dataclasses.asdict(self.c),
        )
        write_atomically(folder / "likelihood.json", json.dumps(self.table(losses), indent=1))
        return state._replace(best=jnp.asarray(mean, state.best.dtype))

    def table(self, losses: dict[str, float]) -> dict[str, Any]:
        """Give the losses, sigma -> nats a dimension, in the units of the data, and what they are.

        A density in decibels has ln(span) nats less than one in model units; `least` is the
        entropy of the noise alone, below which no law of noisy data lies.
        """
        rows = {}
        for name, loss in losses.items():
            sigma = float(name)
            row = {"nats_per_dim": loss}
            if sigma:
                row["least"] = float(np.log(2 * np.pi * np.e * sigma**2) / 2)
            if not self.images:
                row["nats_per_dim_db"] = loss + float(np.log(self.examples.form.span_db))
                row["sigma_db"] = sigma * self.examples.form.span_db
            elif not sigma:
                row["bits_per_dim"] = float(bits_per_dim(jnp.asarray(loss), 1))
            rows[name] = row
        return {
            "examples": len(self.held_out),
            "sigma": rows,
            "dequantisation": self.c.dequantise if self.images else "none: continuous data",
        }

    def finish(self, folder: Path) -> None:
        """Draw samples of the best prior, their neighbours in the training set, and latents."""
        prior = load_prior(str(folder)).prior
        raw = self.examples.batch(VALID_SEED + 1, 0, 2048)
        train = np.asarray(jax.jit(self.examples.inputs)(jax.random.key(1), raw))
        draw_pictures(folder, prior, self.examples, train, self.held_out[:8], self.c.seed)


def _filled(model: FlowModel, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give x, its noise between integers drawn anew where the model has noise of its own."""
    if model.dequantiser is None:
        return x, jnp.zeros(len(x))
    return model.dequantiser(key, jnp.floor(x * PIXEL_VALUES))
