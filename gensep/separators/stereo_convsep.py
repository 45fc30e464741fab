"""PytorchConvSep: a stereo network whose decoders are not tied, and a denoiser of its vocals.

Both are convolutional; the denoiser has a recurrent layer between its convolutions. With `compat`
the published forms return: estimates are scaled back by the range of each target, so that they do
not add up to the mixture, and the denoiser has a second bias and a layer without use.
"""

from collections.abc import Iterable
from typing import Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from gensep.cli.records import Json
from gensep.representation.magnitude import Spectra
from gensep.separators.convolution import Convolution, size_after, transposed
from gensep.separators.masks import ratio_masks

FRAMES = 30  # by default
SMALL_INPUT, SMALL_OUTPUT = 1e-30, 1e-11  # that the published form adds
TAPS = 8  # bins that the convolutions of the denoiser see


class Measured(nnx.Variable):
    """A value that was measured on data, and is not trained."""


class Range(nnx.Module):
    """Least and greatest magnitude of every bin, `[..., bin]`: 0 and 1 where nothing is known."""

    def __init__(self, *shape: int):
        self.least, self.greatest = Measured(jnp.zeros(shape)), Measured(jnp.ones(shape))

    def set(self, batches: Iterable[ArrayLike]) -> None:
        """Take the range from batches of magnitudes `[batch, ..., frame, bin]`."""
        least, greatest = jnp.asarray(jnp.inf), jnp.asarray(-jnp.inf)
        for batch in batches:
            x = jnp.asarray(batch)
            least = jnp.minimum(least, x.min((0, -2)))
            greatest = jnp.maximum(greatest, x.max((0, -2)))
        self.least[...], self.greatest[...] = least, greatest

    def normalised(self, x: jax.Array) -> jax.Array:
        """Map the range to 0 to 1, in `x: [batch, ..., frame, bin]`."""
        least, width = self._limits()
        return (x - least) / width

    def restored(self, x: jax.Array) -> jax.Array:
        """Undo `normalised`."""
        least, width = self._limits()
        return x * width + least

    def _limits(self) -> tuple[jax.Array, jax.Array]:
        least, greatest = self.least[...], self.greatest[...]
        width = jnp.maximum(greatest - least, 1e-8)  # a bin that is always silent
        return least[None, ..., None, :], width[None, ..., None, :]


class Transposed(nnx.Module):
    """A transposed convolution with weights of its own and a bias, see `convolution.transposed`."""

    def __init__(self, inputs: int, outputs: int, taps: tuple[int, int], *, rngs: nnx.Rngs):
        start = nnx.initializers.glorot_uniform()
        self.kernel = nnx.Param(start(rngs.params(), (*taps, outputs, inputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array, bins: int) -> jax.Array:
        """Return `[batch, bins, frame, out]` for `x: [batch, bin, frame, in]`."""
        return transposed(x, self.kernel[...], bins) + self.bias[...][None, None, None]


class Decoder(nnx.Module):
    """From hidden units to the non-negative outputs of one source."""

    def __init__(
        self,
        hidden: int,
        form: tuple[int, int, int],
        filters: int,
        taps: int,
        size: tuple[int, int],
        *,
        rngs: nnx.Rngs,
    ):
        self.form, (self.bins, channels) = form, size
        start = nnx.initializers.glorot_uniform()
        units = form[0] * form[1] * form[2]
        self.leave = nnx.Linear(hidden, units, kernel_init=start, rngs=rngs)
        self.conv2 = Transposed(form[2], filters, (1, taps), rngs=rngs)
        self.conv1 = Transposed(filters, channels, (self.bins, 1), rngs=rngs)

    def __call__(self, h: jax.Array) -> jax.Array:
        """Return `[batch, bin, frame, channel]` for `h: [batch, hidden]`."""
        y = jax.nn.relu(self.leave(h)).reshape(len(h), *self.form)
        return jax.nn.relu(self.conv1(self.conv2(y, 1), self.bins))


class StereoConvSep(nnx.Module):
    """The stereo network: estimates are shares of the mixture, in every channel.

    Bins of the mixture are brought to the range 0 to 1 first. Before training, `measured` finds
    their ranges in the data.
    """

    def __init__(
        self,
        frames: int,
        bins: int,
        channels: int,
        sources: int,
        filters: int,
        hidden: int,
        *,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.compat = compat
        taps, fewer = frames // 2, max(1, round(0.6 * filters))
        start = nnx.initializers.glorot_uniform()
        self.conv1 = Convolution(channels, filters, (bins, 1), rngs=rngs)
        self.conv2 = Convolution(filters, fewer, (1, taps), rngs=rngs)
        form = (1, size_after(frames, taps), fewer)
        self.enter = nnx.Linear(form[1] * fewer, hidden, kernel_init=start, rngs=rngs)
        size = (bins, channels)
        self.decoders = nnx.List(
            [Decoder(hidden, form, filters, taps, size, rngs=rngs) for _ in range(sources)]
        )
        self.mixture = Range(channels, bins)
        self.targets = Range(sources, channels, bins) if compat else None

    def measured(self, examples: Iterable[tuple[ArrayLike, ArrayLike]]) -> Self:
        """Return the network with the ranges of examples of the data.

        Args:
            examples: magnitudes of mixtures `[batch, plane, frame, bin]`, and of their sources
                `[batch, source, channel, frame, bin]`.
        """
        network, examples = nnx.clone(self), [*examples]
        network.mixture.set(mixture for mixture, _ in examples)
        if network.targets is not None:
            network.targets.set(sources for _, sources in examples)
        return network

    def outputs(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, channel, frame, bin]` for a mixture in the range 0 to 1."""
        h = self.conv2(self.conv1(mixture.transpose(0, 3, 2, 1)))
        h = jax.nn.relu(self.enter(h.reshape(len(h), -1)))
        y = jnp.stack([decoder(h) for decoder in self.decoders], 1)
        return y.transpose(0, 1, 4, 3, 2)

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, channel, frame, bin]` for `mixture: [batch, plane, frame, bin]`.

        In the published form shares of the normalised mixture are scaled back by the ranges of
        the targets.
        """
        x = self.mixture.normalised(mixture)
        if self.targets is None:
            return ratio_masks(self.outputs(x)) * mixture[:, None]
        x = x + SMALL_INPUT
        outputs = self.outputs(x) + SMALL_OUTPUT
        shares = outputs / outputs.sum(1, keepdims=True)
        return self.targets.restored(shares * x[:, None])


class LSTM(nnx.Module):
    """A recurrent layer that runs over the frames, from the first to the last."""

    def __init__(self, inputs: int, units: int, biases: int = 1, *, rngs: nnx.Rngs):
        self.units = units

        def start(*shape: int) -> nnx.Param:
            reach = units**-0.5
            return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-reach, maxval=reach))

        self.from_input, self.from_state = start(inputs, 4 * units), start(units, 4 * units)
        self.biases = nnx.List([start(4 * units) for _ in range(biases)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[batch, frame, units]` for `x: [batch, frame, inputs]`, from a state of 0."""
        entering = x.swapaxes(0, 1) @ self.from_input[...]
        for bias in self.biases:
            entering = entering + bias[...][None, None]
        weights = self.from_state[...]

        def step(
            state: tuple[jax.Array, jax.Array], now: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, cell = state
            let_in, keep, new, let_out = jnp.split(now + h @ weights, 4, -1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(let_in) * jnp.tanh(new)
            h = jax.nn.sigmoid(let_out) * jnp.tanh(cell)
            return (h, cell), h

        nothing = jnp.zeros((len(x), self.units), entering.dtype)
        return jax.lax.scan(step, (nothing, nothing), entering)[1].swapaxes(0, 1)


class VocalDenoiser(nnx.Module):
    """Vocals without what is left of other sources, from estimated vocals of any length."""

    def __init__(self, bins: int, channels: int, *, compat: bool = False, rngs: nnx.Rngs):
        self.bins = bins
        units = size_after(bins, TAPS)
        self.enter = Convolution(channels, channels, (TAPS, 1), rngs=rngs)
        self.over_time = LSTM(units, units, 1 + compat, rngs=rngs)
        self.leave = Transposed(channels, channels, (TAPS, 1), rngs=rngs)
        self.unused = nnx.Linear(64, 64, rngs=rngs) if compat else None

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, 1, channel, frame, bin]` for `mixture: [batch, channel, frame, bin]`.

        The mixture is that of the vocals with what disturbs them: the estimate of another network.
        """
        h = self.enter(mixture.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
        h = self.over_time(h.reshape(-1, *h.shape[2:])).reshape(h.shape)
        y = jax.nn.relu(self.leave(h.transpose(0, 3, 2, 1), self.bins))
        return y.transpose(0, 3, 2, 1)[:, None]


def build(settings: Json, rngs: nnx.Rngs) -> StereoConvSep | VocalDenoiser:
    """Build the network of a separator's settings."""
    spectra, compat = Spectra(**settings["spectra"]), settings["compat"]
    bins, channels = spectra.bins, spectra.channels
    if settings["network"] == "vocal_denoiser":
        return VocalDenoiser(bins, channels, compat=compat, rngs=rngs)
    sources, frames = len(settings["sources"]), settings.get("frames", FRAMES)
    filters, hidden = settings["filters"], settings["hidden"]
    return StereoConvSep(frames, bins, channels, sources, filters, hidden, compat=compat, rngs=rngs)
