"""What training a score prior does at each step: batches, loss, validation, the prior file."""

import dataclasses
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from basis import Linear, Problem, sample, sde, unconditioned
from gensep import __version__
from gensep.augment import Spread, augment, crop
from gensep.priors import FILE, load_prior, make_edm, save_prior
from gensep.representation import Representation
from gensep.training import Log, TrainState
from score import EDMPrior, denoising_loss, karras, lognormal

VALID_SEED = 7919  # validation windows and noise are the same in every run and at every step


class Task:
    """A score prior to be trained with the config `c` on two sets of windows."""

    def __init__(self, c: Any, train: Any, valid: Any):
        self.c, self.train, self.valid = c, train, valid
        self.representation = Representation(**train.representation)

    def batch(self, step: int) -> np.ndarray:
        """Give the windows of a step: a pure function of seed and step."""
        return self.train.batch(self.c.seed, step, self.c.batch)

    @property
    def spread(self) -> Spread:
        """Give the strength of augmentation."""
        c = self.c
        return Spread(c.gain_low, c.gain_high, c.equaliser, c.tilt, c.room, c.noise, c.stretch)

    def inputs(self, key: jax.Array, windows: jax.Array) -> jax.Array:
        """Augment int16 windows and encode them, `[batch, frames, mel]` in model units."""
        power = augment(key, windows / 100.0, self.c.frames, self.spread)
        return self.representation.encode(power)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Sizes of the network, and the mean and scale of augmented training data."""
        examples = jax.jit(self.inputs)(jax.random.key(0), self.train.batch(VALID_SEED, 0, 1024))
        mean = examples.mean((0, 1))
        sd = float(jnp.sqrt(((examples - mean) ** 2).mean()))
        return {"n_mels": self.representation.n_mels, "width": self.c.width,
                "blocks": self.c.blocks, "levels": self.c.levels,
                "mean": [round(float(m), 4) for m in mean], "sigma_data": round(sd, 4)}

    def make_model(self) -> Any:
        """Build the untrained denoiser."""
        return make_edm(self.settings, self.c.seed)

    def loss(self, model: Any, key: jax.Array, windows: jax.Array) -> jax.Array:
        """Give the denoising loss of a batch at random noise levels."""
        c = self.c
        augment_key, sigma_key, noise_key = jax.random.split(key, 3)
        x = self.inputs(augment_key, windows)
        sigma = lognormal(sigma_key, len(x), c.log_sigma_mean, c.log_sigma_sd, c.sigma_min,
                          c.sigma_max)
        return denoising_loss(model, x, jax.random.normal(noise_key, x.shape), sigma).mean()

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Fixed noise levels, and fixed validation windows at three levels of loudness."""
        sigmas = karras(self.c.levels, self.c.sigma_min, self.c.sigma_max, 5.0)
        power = crop(jnp.asarray(self.valid.batch(VALID_SEED, 0, self.c.valid_windows)) / 100.0,
                     self.c.frames)
        gains = 10 ** (jnp.asarray([-8.0, -2.0, 4.0]) / 10)
        gains = jnp.resize(gains, (len(power), 1, 1))
        return sigmas, np.asarray(self.representation.encode(power * gains))

    @partial(jax.jit, static_argnums=0)
    def _errors(self, model: Any, x: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give the mean weighted loss and the mean squared error per band at one level."""
        noise = jax.random.normal(jax.random.key(VALID_SEED), x.shape)
        loss = denoising_loss(model, x, noise, jnp.full(len(x), sigma)).mean()
        error = model(x + sigma * noise, sigma) - x
        return loss, (error**2).mean((0, 1))

    def validate(self, state: TrainState, folder: Path, log: Log, step: int) -> TrainState:
        """Measure the averaged weights on the fixed grid; keep the best as the run's prior."""
        sigmas, x = self._grid
        measured = [self._errors(state.average, x, sigma) for sigma in sigmas]
        losses = [float(loss) for loss, _ in measured]
        mean = float(np.mean(losses))
        log.write(step, valid_loss=mean, skipped=int(state.skipped),
                  **{f"valid_loss_sigma_{s:.3g}": v for s, v in zip(sigmas, losses, strict=True)})
        if mean >= float(state.best):
            return state
        errors = jnp.sqrt(jnp.stack([error for _, error in measured]))
        prior = EDMPrior(state.average, jnp.asarray(sigmas), errors)
        save_prior(folder / FILE, "edm", prior, self.settings, self.representation,
                   gensep=__version__, step=step, valid_loss=round(mean, 5), data=self.c.data,
                   config=dataclasses.asdict(self.c))
        return state._replace(best=jnp.asarray(mean, state.best.dtype))

    def finish(self, folder: Path) -> None:
        """Draw unconditional samples of the best prior beside windows of the data."""
        from gensep.plots import plot_windows

        loaded = load_prior(str(folder))
        draws = draw(loaded.prior, jax.random.key(self.c.seed), 8, self.c.frames,
                     self.representation.n_mels)
        real = self._grid[1][:8]
        plot_windows(folder / "samples.png", {"samples of the prior": np.asarray(draws),
                                              "validation data": real})


def draw(
    prior: Any, key: jax.Array, n: int, frames: int, n_mels: int, levels: int = 48
) -> jax.Array:
    """Draw from a prior, `[n, frames, n_mels]`, by the samplers' loop with nothing observed."""
    nothing = jnp.zeros((n, frames, n_mels))
    problem = Problem((prior,), Linear(jnp.ones(1)), nothing, jnp.asarray(1e12))
    high, low = float(prior.sigmas[0]), float(prior.sigmas[-1])
    sigmas = jnp.asarray(karras(levels, low, high, 5.0))
    sources, _ = jax.jit(lambda k, p: sample(sde(unconditioned), k, p, sigmas))(key, problem)
    return sources[0]

