"""Semi-supervised training of a separator: a loss on paired songs, and a critic per source.

Stoller, Ewert and Dixon 2018 ("AAS"). Every critic tells recordings of its source from estimates on
mixtures whose sources nobody has; the separator learns from paired songs, from the critics, and
from the demand that its estimates add up to the mixture.
"""

from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gensep.cli.records import Json
from gensep.datasets.mixture_examples import MixtureExamples
from gensep.separators.family import Separator, in_training
from gensep.training.contract import Row, TrainState, first_state
from gensep.training.options import Adversarial
from gensep.training.separator_task import SeparatorTask
from gensep.training.updates import where_finite
from score import SpectrogramCritic, gradient_penalty, wasserstein

if TYPE_CHECKING:
    Critics = SpectrogramCritic  # stacked: a leading axis [source] at every leaf


class Unpaired(Protocol):
    """Excerpts of mixtures and of solo recordings that have nothing to do with one another."""

    def batch(self, seed: int, step: int, size: int) -> dict[str, np.ndarray]:
        """Return waves, a pure function of the arguments.

        mixtures: `[size, critic steps + 1, channel, samples]`; solos:
        `[size, critic steps, source, channel, samples]`.
        """


class Batch(NamedTuple):
    """Raw examples of one update, dealt over devices along their first axis."""

    paired: jax.Array | np.ndarray  # raw examples of the paired data
    mixtures: jax.Array | np.ndarray
    solos: jax.Array | np.ndarray


class Opponents(NamedTuple):
    """A separator and its critics in training."""

    model: Separator
    average: Separator  # exponential moving average of the weights
    optimiser: optax.OptState
    critics: "Critics"
    critic_optimiser: optax.OptState


OpponentsState = TrainState[Opponents]


class AdversarialTask(SeparatorTask):
    """A separator and critics to be trained with the options `c` of gensep.train_adversarial.

    Validation, the file and the pictures are those of a supervised training.
    """

    c: Adversarial

    def __init__(
        self, c: Adversarial, examples: MixtureExamples, unpaired: Unpaired, settings: Json
    ) -> None:
        super().__init__(c, examples, settings)
        self.unpaired = unpaired

    def batch(self, step: int, rows: slice) -> Batch:  # type: ignore[override]
        """Return some rows of the raw examples of a step."""
        c = self.c
        both = self.unpaired.batch(c.seed, step, c.batch)
        paired = self.examples.batch(c.seed, step, c.batch)
        return Batch(paired[rows], both["mixtures"][rows], both["solos"][rows])

    @cached_property
    def _critic_optimiser(self) -> optax.GradientTransformation:
        first, second = self.c.critic_betas
        return optax.adam(self.c.critic_rate, b1=first, b2=second)

    def start(self, key: jax.Array) -> OpponentsState:  # type: ignore[override]
        """Return the state of the untrained separator, or of the one to start from, and critics."""
        from flax import nnx

        plain = super().start(key).learner
        frames, bins = self.c.critic_frames, self.examples.spectra.bins - 1

        def make(seed: jax.Array) -> SpectrogramCritic:
            return SpectrogramCritic(frames, bins, self.c.critic_width, rngs=nnx.Rngs(seed))

        seeds = jax.random.split(jax.random.key(self.c.seed + 2), len(self.targets))
        critics = jax.jit(jax.vmap(make))(seeds)
        return first_state(Opponents(*plain, critics, self._critic_optimiser.init(critics)))

    def update(  # type: ignore[override]
        self, key: jax.Array, state: OpponentsState, batch: Batch
    ) -> tuple[OpponentsState, Row]:
        """Return the state after `critic_steps` updates of the critics and one of the separator.

        Updates that are not finite are left out; those of the separator are counted.
        """
        return self._both(key, state, batch)

    @partial(jax.jit, static_argnums=0, donate_argnums=2)
    def _both(
        self, key: jax.Array, state: OpponentsState, batch: Batch
    ) -> tuple[OpponentsState, Row]:
        critic_key, separator_key = jax.random.split(key)
        old = state.learner
        critics, critic_optimiser, seen = self._teach_critics(critic_key, old, batch)
        graded = jax.value_and_grad(self._separator_loss, has_aux=True)
        (value, (row, moved)), gradient = graded(old.model, critics, separator_key, batch)
        good = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        change, following = self._optimiser.update(gradient, old.optimiser, old.model)
        new = optax.apply_updates(moved, change), following
        model, following = where_finite(good, new, (old.model, old.optimiser))
        rate = 1 - jnp.minimum(self.c.ema, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(model, old.average, rate)
        learner = Opponents(model, average, following, critics, critic_optimiser)
        skipped = state.skipped + ~good
        state = state._replace(step=state.step + 1, learner=learner, skipped=skipped)
        return state, {"loss": value, **row, **seen}

    def _teach_critics(
        self, key: jax.Array, learner: Opponents, batch: Batch
    ) -> tuple["Critics", optax.OptState, Row]:
        """Return the critics after their updates, their optimiser, and what the last one saw."""
        mixtures = jnp.moveaxis(batch.mixtures[:, :-1], 1, 0)
        solos = jnp.moveaxis(batch.solos, (1, 2), (0, 1))  # [step, source, batch, channel, samples]

        def step(
            carry: tuple["Critics", optax.OptState], given: tuple[jax.Array, ...]
        ) -> tuple[tuple["Critics", optax.OptState], tuple[jax.Array, jax.Array]]:
            critics, optimiser = carry
            key, mixture, solo = given
            order_key, share_key = jax.random.split(key)
            fake = self._seen(jnp.moveaxis(learner.model(self._magnitudes(mixture)), 1, 0))
            # estimates meet solos in another order, as those of one place may resemble each other
            fake = jax.random.permutation(order_key, jax.lax.stop_gradient(fake), axis=1)
            real = self._seen(self._magnitudes(solo))
            share = jax.random.uniform(share_key, real.shape[:2])
            graded = jax.value_and_grad(self._critic_loss, has_aux=True)
            (value, found), gradient = graded(critics, real, fake, share)
            good = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
            change, following = self._critic_optimiser.update(gradient, optimiser, critics)
            new = optax.apply_updates(critics, change), following
            return where_finite(good, new, carry), found

        first = learner.critics, learner.critic_optimiser
        keys = jax.random.split(key, len(solos))
        # XLA compiles convolutions in a loop to code for a CPU that takes twice the time
        unroll = jax.default_backend() == "cpu"
        (critics, optimiser), (distances, penalties) = jax.lax.scan(
            step, first, (keys, mixtures, solos), unroll=unroll
        )
        row = {"penalty": penalties[-1].mean()}
        for i, name in enumerate(self.settings["sources"]):
            row[f"wasserstein_{name}"] = distances[-1, i]
        return critics, optimiser, row

    def _critic_loss(
        self, critics: "Critics", real: jax.Array, fake: jax.Array, share: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Return the sum of the critics' losses, and by source their distances and penalties."""
        each = list(zip(_unstacked(critics), real, fake, strict=True))
        one_sided = self.c.one_sided
        distance = jnp.stack([wasserstein(critic, r, f) for critic, r, f in each])
        penalty = jnp.stack(
            [
                gradient_penalty(critic, r, f, x, one_sided=one_sided)
                for (critic, r, f), x in zip(each, share, strict=True)
            ]
        )
        return (self.c.penalty * penalty - distance).sum(), (distance, penalty)

    def _separator_loss(
        self, model: Separator, critics: "Critics", key: jax.Array, batch: Batch
    ) -> tuple[jax.Array, tuple[Row, Separator]]:
        """Return the loss of the separator, its terms, and the network with moved statistics."""
        vary, drop = jax.random.split(key)
        mixture, sources = self.examples.inputs(vary, jnp.asarray(batch.paired))
        estimates, moved = in_training(model, mixture, drop)
        paired = self._value(estimates, sources[:, self.targets], mixture)
        mixture = self._magnitudes(jnp.asarray(batch.mixtures)[:, -1])
        estimates = model(mixture)
        fake = self._seen(jnp.moveaxis(estimates, 1, 0))
        marks = [d(f).mean() for d, f in zip(_unstacked(critics), fake, strict=True)]
        judged = -jnp.stack(marks).sum()
        unequal = jnp.mean((mixture - estimates.sum(1)) ** 2)
        value = paired + self.c.alpha * judged + self.c.beta * unequal
        return value, ({"paired": paired, "judged": judged, "unequal": unequal}, moved)

    def _magnitudes(self, waves: jax.Array) -> jax.Array:
        return self.examples.spectra.magnitudes(waves)

    def _seen(self, magnitudes: jax.Array) -> jax.Array:
        """Return what critics see of `[source, batch, channel, frame, bin]`: the central frames.

        The logarithms of 1 + magnitude, mean over channels, without the highest bin:
        `[source, batch, frame, bin]`.
        """
        frames = self.c.critic_frames
        first = (magnitudes.shape[-2] - frames) // 2
        return jnp.log1p(magnitudes.mean(2)[..., first : first + frames, :-1])


def _unstacked(critics: "Critics") -> list[SpectrogramCritic]:
    """Return the critic of every source.

    One after the other they take half the time of a vmap on a CPU, which turns the convolutions of
    several networks into grouped ones.
    """
    count = len(jax.tree.leaves(critics)[0])
    return [jax.tree.map(lambda x, i=i: x[i], critics) for i in range(count)]
