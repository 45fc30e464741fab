"""DeepConvSep: convolutional autoencoders whose decoders are the transposes of their encoders.

Chandna et al., Monoaural audio source separation using deep convolutional neural networks, 2017
(DSD100, iKala), Miron et al. 2017 (Bach10, informed by scores), Erruz 2017 (stereo). The estimates
are shares of the mixture. With `compat` the published forms return: two biases for each
convolution, masks that are 0 where all outputs are, with a little noise below, and what the row of
a network names.
"""

from abc import abstractmethod
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import nnx

from gensep.cli.records import Json
from gensep.representation.magnitude import Spectra
from gensep.separators.convolution import Convolution, size_after
from gensep.separators.masks import ratio_masks

FRAMES = 30  # by default
NOISE = 1e-8  # at most, under the masks of the published form


class Sizes(NamedTuple):
    """What a network takes and gives."""

    frames: int
    bins: int
    planes: int  # of the mixture: its channels, or one for each source with `scored`
    sources: int
    scored: bool = False  # the planes are the mixture filtered by the score of each source


class Layout(NamedTuple):
    """The two convolutions of an autoencoder; taps of None are as many as bins."""

    first: int | None  # bin taps
    stride: int
    second: tuple[int, int]  # bin and frame taps


# name -> its layout, for a number of frames
LAYOUTS = {
    "deepconvsep": lambda frames: Layout(None, 1, (1, frames // 2)),
    "deepconvsep_ild": lambda frames: Layout(None, 1, (1, frames // 2)),
    "deepconvsep_ikala": lambda frames: Layout(30, 3, (20, frames // 3)),
    "deepconvsep_bach10": lambda frames: Layout(30, 4, (1, 2 * frames // 3)),
    "deepconvsep_scored": lambda frames: Layout(30, 4, (1, 2 * frames // 3)),
}
# decoder of each source in the published form, where it is not its own: "other" has that of bass
SHARED = {"deepconvsep": (0, 1, 2, 1)}


class RatioMasked(nnx.Module):
    """A network of non-negative outputs, whose shares multiply the mixture.

    Magnitudes are multiplied by `scale` before they enter the network.
    """

    def __init__(self, sizes: Sizes, scale: float, *, compat: bool = False):
        self.sizes, self.scale, self.compat = sizes, scale, compat
        self.output_bias = nnx.Param(jnp.zeros((sizes.sources, sizes.planes)))

    @abstractmethod
    def decode(self, x: jax.Array) -> jax.Array:
        """Return `[batch, source, bin, frame, plane]` for `x: [batch, bin, frame, plane]`."""

    def outputs(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, plane, frame, bin]` for the mixture, without negative values."""
        decoded = self.decode(self.scale * mixture.transpose(0, 3, 2, 1))
        raised = decoded + self.output_bias[...][None, :, None, None]
        return jax.nn.relu(raised).transpose(0, 1, 4, 3, 2)

    def __call__(self, mixture: jax.Array) -> jax.Array:
        """Return `[batch, source, channel, frame, bin]` for `mixture: [batch, plane, frame, bin]`.

        Networks that are informed by scores give one channel, shares of the sum of the planes.
        """
        return self._estimates(mixture, jnp.asarray(0.5))

    def in_training(self, mixture: jax.Array, key: jax.Array) -> tuple[jax.Array, Self]:
        """Return estimates, in the published form with random noise below, and the network."""
        noise = 1 - jax.random.uniform(key, mixture[:, None, :1].shape)  # never 0
        return self._estimates(mixture, noise), self

    def _estimates(self, mixture: jax.Array, noise: jax.Array) -> jax.Array:
        outputs = self.outputs(mixture)
        if self.sizes.scored:
            mixture = mixture.sum(1, keepdims=True)
            if self.compat:  # the planes of the first source pass for the sources
                outputs = outputs[:, 0, :, None]
            else:
                outputs = outputs.sum(2, keepdims=True)
        if self.compat:
            below = outputs.sum(1, keepdims=True) + NOISE * noise
            return outputs / below * mixture[:, None]
        return ratio_masks(outputs) * mixture[:, None]


class DeepConvSep(RatioMasked):
    """Two convolutions, a layer of `hidden` units, and decoders tied to the convolutions."""

    def __init__(
        self,
        sizes: Sizes,
        layout: Layout,
        filters: int,
        hidden: int,
        scale: float = 0.3,
        decoders: tuple[int, ...] | None = None,
        *,
        compat: bool = False,
        rngs: nnx.Rngs,
    ):
        super().__init__(sizes, scale, compat=compat)
        taps, second, biases = layout.first or sizes.bins, layout.second, 1 + compat
        self.conv1 = Convolution(sizes.planes, filters, (taps, 1), layout.stride, biases, rngs=rngs)
        self.conv2 = Convolution(filters, filters, second, 1, biases, rngs=rngs)
        bins = size_after(sizes.bins, taps, layout.stride)
        self.form = (size_after(bins, second[0]), size_after(sizes.frames, second[1]), filters)
        self.bins = bins
        units = self.form[0] * self.form[1] * self.form[2]
        start = nnx.initializers.glorot_uniform
        self.enter = nnx.Linear(units, hidden, kernel_init=start(), rngs=rngs)
        self.decoders = decoders or tuple(range(sizes.sources))
        own = len(set(self.decoders))
        each = start(in_axis=0, out_axis=2, batch_axis=1)
        self.leave = nnx.Param(each(rngs.params(), (hidden, own, units)))
        self.leave_bias = nnx.Param(jnp.zeros((own, units)))

    def decode(self, x: jax.Array) -> jax.Array:
        """Return `[batch, source, bin, frame, plane]` for `x: [batch, bin, frame, plane]`."""
        h = self.conv2(self.conv1(x))
        h = jax.nn.relu(self.enter(h.reshape(len(h), -1)))
        h = jax.nn.relu(jnp.tensordot(h, self.leave[...], 1) + self.leave_bias[...][None])
        own = h.shape[1]
        h = self.conv2.transpose(h.reshape(-1, *self.form), self.bins)
        y = self.conv1.transpose(h, self.sizes.bins)
        y = y.reshape(len(x), own, *y.shape[1:])
        if own == self.sizes.sources:
            return y
        return jnp.stack([y[:, decoder] for decoder in self.decoders], 1)


class ConvSep1x1(RatioMasked):
    """Six convolutions, one of a single tap that parts the sources, and their transposes.

    Its decoders pass only where the encoder's layer was active: they are the transpose of the
    encoder's derivative at the mixture.
    """

    # share of the filters of the widest layer, bin taps, frame taps
    STEPS = ((0.15, 5, 1), (0.25, 5, 1), (0.35, 5, 1), (0.5, 5, 1), (1, 5, 10), (1, 5, 10))

    def __init__(self, sizes: Sizes, filters: int, scale: float, *, compat: bool, rngs: nnx.Rngs):
        super().__init__(sizes, scale, compat=compat)
        before, bins, layers = sizes.planes, sizes.bins, []
        for share, rows, columns in self.STEPS:
            wide, bins = max(1, round(share * filters)), size_after(bins, rows, 2)
            layers.append(Convolution(before, wide, (rows, columns), 2, rngs=rngs))
            before = wide
        self.layers = nnx.List(layers)
        self.part = Convolution(filters, sizes.sources * filters, (1, 1), rngs=rngs)
        after = [layer.kernel.shape[-1] for layer in (*layers, self.part)] if compat else []
        self.biases = nnx.List([nnx.Param(jnp.zeros(size)) for size in after])  # after rectifiers

    def decode(self, x: jax.Array) -> jax.Array:
        """Return `[batch, source, bin, frame, plane]` for `x: [batch, bin, frame, plane]`."""
        h, active, heights = x, [], []
        biases = iter([*self.biases])
        for layer in (*self.layers, self.part):
            heights.append(h.shape[1])
            h = jax.nn.relu(layer(h))
            active.append(h > 0)
            if self.compat:
                h = h + next(biases)[...][None, None, None]
        sources = self.sizes.sources
        y = h.reshape(*h.shape[:-1], sources, -1)
        y = jnp.moveaxis(y, -2, 1)
        for i, layer in reversed([*enumerate(self.layers)]):
            y = jnp.where(active[i][:, None], y, 0)
            y = layer.transpose(y.reshape(-1, *y.shape[2:]), heights[i])
            y = y.reshape(len(x), sources, *y.shape[1:])
        return y


def build(settings: Json, rngs: nnx.Rngs, *, scored: bool) -> RatioMasked:
    """Build the network of a separator's settings; `scored`: its planes are filtered by scores."""
    name, sources = settings["network"], len(settings["sources"])
    spectra, frames = Spectra(**settings["spectra"]), settings.get("frames", FRAMES)
    planes = sources if scored else spectra.channels
    sizes = Sizes(frames, spectra.bins, planes, sources, scored)
    filters, scale, compat = (settings[key] for key in ("filters", "scale", "compat"))
    if name not in LAYOUTS:
        return ConvSep1x1(sizes, filters, scale, compat=compat, rngs=rngs)
    decoders = SHARED.get(name) if compat and sources == 4 else None
    layout, hidden = LAYOUTS[name](frames), settings["hidden"]
    return DeepConvSep(sizes, layout, filters, hidden, scale, decoders, compat=compat, rngs=rngs)
