"""Open-Unmix: bidirectional LSTMs on magnitudes, one network per source.

Stoeter, Uhlich, Liutkus and Mitsufuji 2019, "Open-Unmix: a reference implementation for music
source separation", in the form of its release 1.3 and in that of the spring of 2019. The networks
of all sources are held and run together: their weights have a first axis `source`. Features have
the axes `[source, frame, batch, feature]`.
"""

from collections.abc import Iterable
from typing import Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from gensep.separators.lstm import Lstm, State, uniform

Network = TypeVar("Network", bound="OpenUnmix")
Older = TypeVar("Older", bound="OpenUnmix2019")
States = tuple[State, ...]
DROPOUT = 0.4  # between layers of the LSTM
MOMENTUM = 0.1  # by which running statistics follow those of a batch
SMALL = 1e-5  # added to variances
LEAST_DEVIATION = 1e-4  # of a bin, as a share of that of the bin that varies most


class Statistic(nnx.Variable):
    """A number that was computed from data and is not trained."""


class Dense(nnx.Module):
    """A linear map without bias."""

    def __init__(self, sources: int, size: int, out: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(uniform(rngs.params(), (sources, size, out), size))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[source, frame, batch, size]` to `[source, frame, batch, out]`."""
        return jnp.einsum("stbi,sio->stbo", x, self.kernel[...])


class BatchNorm(nnx.Module):
    """Features with the mean and the variance of the running statistics taken out (Ioffe 2015)."""

    def __init__(self, sources: int, size: int):
        self.scale = nnx.Param(jnp.ones((sources, size)))
        self.bias = nnx.Param(jnp.zeros((sources, size)))
        self.mean = nnx.BatchStat(jnp.zeros((sources, size)))
        self.variance = nnx.BatchStat(jnp.ones((sources, size)))

    def __call__(self, x: jax.Array, *, training: bool) -> jax.Array:
        """Normalise `x`; in training by its own statistics, which move the running ones."""
        mean, variance = self.mean[...], self.variance[...]
        if training:
            mean, variance = x.mean((1, 2)), x.var((1, 2))
            count = x.shape[1] * x.shape[2]
            unbiased = variance * (count / max(count - 1, 1))
            self.mean[...] = _towards(self.mean[...], mean)
            self.variance[...] = _towards(self.variance[...], unbiased)
        gain = self.scale[...] / jnp.sqrt(variance + SMALL)
        shift = self.bias[...] - mean * gain
        return x * gain[:, None, None] + shift[:, None, None]


def _towards(running: jax.Array, value: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient((1 - MOMENTUM) * running + MOMENTUM * value)


class OpenUnmix(nnx.Module):
    """Release 1.3: masks of `sources` sources. Its first `seen` bins are the ones that it sees.

    `width` is the number of features of a frame, of both directions together.
    """

    def __init__(
        self,
        sources: int,
        channels: int = 2,
        bins: int = 2049,
        seen: int = 1487,
        width: int = 512,
        layers: int = 3,
        *,
        unidirectional: bool = False,
        rngs: nnx.Rngs,
    ):
        self.seen, directions = seen, 1 if unidirectional else 2
        self.input_mean = Statistic(jnp.zeros((sources, seen)))
        self.input_scale = Statistic(jnp.ones((sources, seen)))
        self.encoder = Dense(sources, channels * seen, width, rngs=rngs)
        self.encoder_norm = BatchNorm(sources, width)
        hidden = width // directions
        dropout = DROPOUT if layers > 1 else 0
        self.lstm = Lstm(
            sources, width, hidden, layers, directions=directions, dropout=dropout, rngs=rngs
        )
        self.middle = Dense(sources, 2 * width, width, rngs=rngs)
        self.middle_norm = BatchNorm(sources, width)
        self.decoder = Dense(sources, width, channels * bins, rngs=rngs)
        self.decoder_norm = BatchNorm(sources, channels * bins)
        self.output_scale = nnx.Param(jnp.ones((sources, bins)))
        self.output_mean = nnx.Param(jnp.ones((sources, bins)))

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, channel, frame, bin]` for `[batch, channel, frame, bin]`.

        Both are magnitudes on a linear scale.
        """
        return self._run(mixture)[0]

    def measured(self, examples: Iterable[tuple[ArrayLike, ArrayLike]]) -> Self:
        """Return the network for inputs like those of the examples.

        Args:
            examples: magnitudes of mixtures `[batch, channel, frame, bin]`, and of their sources
                `[batch, source, channel, frame, bin]`.
        """
        return with_statistics(self, *_moments(mixture for mixture, _ in examples))

    def in_training(self, mixture: jax.Array, key: jax.Array) -> tuple[jax.Array, "OpenUnmix"]:
        """Return estimates with dropout and statistics of the batch, and the moved network."""
        moved = nnx.clone(self)
        return moved._run(mixture, key=key)[0], moved

    @property
    def streams(self) -> bool:
        """Whether the LSTM reads forwards only."""
        return all(layer.directions == 1 for layer in self.lstm.layers)

    def stream(self, mixture: jax.Array, states: States | None = None) -> tuple[jax.Array, States]:
        """Return estimates and what to give for the frames that follow; for one direction only."""
        return self._run(mixture, states)

    def _run(
        self, mixture: jax.Array, states: States | None = None, key: jax.Array | None = None
    ) -> tuple[jax.Array, States]:
        training = key is not None
        x = jnp.transpose(mixture[..., : self.seen], (2, 0, 1, 3))[None]
        x = x + self.input_mean[...][:, None, None, None]
        x = x * self.input_scale[...][:, None, None, None]
        x = self.encoder(x.reshape(*x.shape[:3], -1))
        x = jnp.tanh(self.encoder_norm(x, training=training))
        recurrent, states = self.lstm(x, states, key)
        x = self.middle(jnp.concatenate([x, recurrent], -1))
        x = jax.nn.relu(self.middle_norm(x, training=training))
        x = self.decoder_norm(self.decoder(x), training=training)
        masks = jax.nn.relu(_scaled(x, mixture, self.output_scale, self.output_mean))
        return masks * mixture[:, None], states


def _scaled(x: jax.Array, mixture: jax.Array, scale: nnx.Variable, mean: nnx.Variable) -> jax.Array:
    """Return `[batch, source, channel, frame, bin]`, with a scale and a mean for every bin."""
    x = x.reshape(*x.shape[:3], mixture.shape[1], -1)
    x = x * scale[...][:, None, None, None] + mean[...][:, None, None, None]
    return jnp.transpose(x, (2, 0, 3, 1, 4))


def with_statistics(network: Network, mean: ArrayLike, scale: ArrayLike) -> Network:
    """Return the network with inputs of mean 0 and standard deviation 1.

    `mean` and `scale` `[bin]` are the mean and the standard deviation of the magnitudes of the
    training mixtures. Deviations are raised to 1e-4 times the largest one.
    """
    seen = network.seen
    mean, scale = (jnp.asarray(each, jnp.float32)[:seen] for each in (mean, scale))
    scale = jnp.maximum(scale, LEAST_DEVIATION * scale.max())
    moved = nnx.clone(network)
    shape = moved.input_mean.shape
    moved.input_mean[...] = jnp.broadcast_to(-mean[None], shape)
    moved.input_scale[...] = jnp.broadcast_to(1 / scale[None], shape)
    return moved


def seen_bins(bandwidth: float, sample_rate: int, n_fft: int) -> int:
    """Return how many bins of a transform do not lie above `bandwidth`, in Hz."""
    return min(int(bandwidth * n_fft // sample_rate), n_fft // 2) + 1


class OpenUnmix2019(nnx.Module):
    """The form of spring 2019: magnitudes instead of masks, every recording normalised by itself.

    Each feature has mean 0 and variance 1 over the frames that the network is given. With one
    channel, it sees the root of the summed powers of the channels of the mixture.
    """

    def __init__(
        self,
        sources: int,
        channels: int = 1,
        bins: int = 2049,
        seen: int = 1394,
        width: int = 512,
        layers: int = 3,
        *,
        unidirectional: bool = False,
        rngs: nnx.Rngs,
    ):
        self.channels, self.seen, directions = channels, seen, 1 if unidirectional else 2
        self.encoder = Dense(sources, channels * seen, width, rngs=rngs)
        hidden = width // directions
        self.lstm = Lstm(sources, width, hidden, layers, directions=directions, rngs=rngs)
        self.middle = Dense(sources, width, width, rngs=rngs)
        self.decoder = Dense(sources, width, channels * bins, rngs=rngs)
        self.output_scale = nnx.Param(jnp.ones((sources, bins)))
        self.output_mean = nnx.Param(jnp.ones((sources, bins)))

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, channel, frame, bin]` for `[batch, channel, frame, bin]`.

        Both are magnitudes on a linear scale.
        """
        if self.channels == 1:
            mixture = jnp.sqrt((mixture**2).sum(1, keepdims=True))
        x = jnp.transpose(mixture[..., : self.seen], (2, 0, 1, 3))[None]
        x = _normalised(x.reshape(*x.shape[:3], -1))
        x = jnp.tanh(_normalised(self.encoder(x)))
        x, _ = self.lstm(x)
        x = jax.nn.relu(_normalised(self.middle(x)))
        x = _normalised(self.decoder(x))
        return jax.nn.relu(_scaled(x, mixture, self.output_scale, self.output_mean))

    def measured(self, examples: Iterable[tuple[ArrayLike, ArrayLike]]) -> Self:
        """Return the network with estimates around the mean spectra of the sources of examples."""
        means = [np.asarray(sources).mean((0, 2, 3)) for _, sources in examples]
        return with_target_means(self, np.mean(means, 0))


def _moments(batches: Iterable[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation `[bin]` of batches `[batch, channel, frame, bin]`.

    Channels are averaged first.
    """
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for batch in batches:
        x = np.asarray(batch, np.float64).mean(1)
        count += x[..., 0].size
        total, squares = total + x.sum((0, 1)), squares + (x**2).sum((0, 1))
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def _normalised(x: jax.Array) -> jax.Array:
    """Give every feature mean 0 and variance 1 over frames (Ulyanov, Vedaldi, Lempitsky 2016)."""
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + SMALL)


def with_target_means(network: Older, means: ArrayLike) -> Older:
    """Return the network with estimates around the mean magnitudes `[source, bin]` of sources."""
    moved = nnx.clone(network)
    moved.output_mean[...] = jnp.asarray(means, jnp.float32)
    return moved
