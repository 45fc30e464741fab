"""Small separators whose results are known, and rows of the table for them."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gensep.separators import networks
from gensep.separators.family import Family
from gensep.separators.files import LoadedSeparator

SPECTRA = {"sample_rate": 8000, "n_fft": 64, "hop_length": 16}


class Same(nnx.Module):
    """Every source is the mixture times its share."""

    def __init__(self, *shares):
        self.shares = nnx.Param(jnp.array(shares))

    def __call__(self, mixture):
        return self.shares[...][None, :, None, None, None] * mixture[:, None]


class Convolved(nnx.Module):
    """Two sources; the share of the first depends on the frames `reach` before and behind."""

    def __init__(self, reach=3):
        taps = np.random.default_rng(0).normal(size=2 * reach + 1)
        self.taps = nnx.Param(jnp.asarray(taps, jnp.float32))

    def seen(self, mixture):
        return mixture

    def shares(self, mixture):
        level = jnp.log1p(mixture.mean((1, 3)))
        taps, half = self.taps[...], len(self.taps) // 2
        seen = jax.vmap(lambda x: jnp.convolve(x, taps)[half : half + len(x)])(level)
        tilt = jnp.linspace(-1, 1, mixture.shape[-1])
        return jax.nn.sigmoid(seen[:, None, :, None] + tilt[None, None, None])

    def __call__(self, mixture):
        share = self.shares(self.seen(mixture))
        return jnp.stack([share * mixture, (1 - share) * mixture], 1)


class Fixed(Convolved):
    """The same for windows of 10 frames only, each of which looks different."""

    def seen(self, mixture):
        assert mixture.shape[2] == 10
        return mixture * jnp.arange(10)[None, None, :, None]


class Planes(Same):
    """A network informed by scores that takes its planes for the sources."""

    def __call__(self, planes):
        return planes[:, :, None]


def build(settings, rngs):
    """Build a network as the table does, for separators that are saved and loaded."""
    if shares := settings.get("shares"):
        return Same(*shares)
    return Planes(1) if settings["network"] == "scored" else Convolved()


def add_rows(monkeypatch):
    """Add the rows `fake`, `loose` (estimates need not be the mixture), `fixed` and `scored`."""
    row = Family(build, SPECTRA, ("low", "high"), "l1", context=8, sums=True)
    rows = {"fake": row, "loose": row._replace(sums=False)}
    rows["fixed"] = row._replace(frames=10, overlap=7)
    rows["scored"] = row._replace(scored=True)
    for name, one in rows.items():
        monkeypatch.setitem(networks.SEPARATORS, name, one)


def loaded(network, row="fake", sources=("low", "high"), **spectra):
    """Return a loaded separator."""
    settings = {"network": row, "sources": list(sources), "spectra": {**SPECTRA, **spectra}}
    return LoadedSeparator(row, network, settings, {})
