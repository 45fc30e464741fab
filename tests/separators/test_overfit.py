"""Every network of the table learns one song: small forms of all rows, trained for moments.

A new row needs nothing here, unless its options have other names or it learns slowly.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gensep.evaluation.metrics import si_sdr
from gensep.representation.magnitude import Spectra
from gensep.separators.family import in_training
from gensep.separators.losses import LOSSES
from gensep.separators.networks import SEPARATORS, make_separator, settings_of

FRAMES = 30  # of a window of a network that takes any number
WINDOWS = 2
SPECTRA = {"sample_rate": 16000, "n_fft": 256, "hop_length": 64}
# options of small networks, where a row has them
OPTIONS = {"filters": 12, "hidden": 48, "width": 32, "blocks": 2}
# what differs for a row: `spectra` (fields of Spectra), `options`, `steps`, `rate`
SMALL = {
    "mel_mask": {"spectra": {}},
    "vocal_denoiser": {"steps": 60},
    # heads of magnitudes may start below zero everywhere, and then never learn
    "unet": {"options": {"width": 8, "blocks": 2, "masks": True}},
    # six strides need many bins
    "deepconvsep_1x1": {
        "spectra": {**SPECTRA, "n_fft": 512, "hop_length": 128},
        "options": {"filters": 32},
    },
}
STEPS, RATE = 40, 7e-3
# Open-Unmix learns the song too, in 120 to 160 steps at a rate of 0.02, which take minutes here
ROWS = [name for name in SEPARATORS if not name.startswith("umx")]


def song(sources, channels, samples, rate):
    """Return waves `[source, channel, sample]`: tones and noises that come and go, panned."""
    rng = np.random.default_rng(0)
    time = np.arange(samples) / rate
    waves = []
    for source in range(sources):
        pitch = 300 * 2.7**source
        wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2)) if source < 3 else 0
        wave = wave + 0.02 * rng.normal(size=samples) * (10 if source == 3 else 1)
        wave = wave * (0.6 + 0.4 * np.sin(2 * np.pi * (3 + 2 * source) * time))
        pan = 0.3 + 0.4 * source / max(1, sources - 1)
        gains = [1 - pan, pan] if channels == 2 else [0.5]
        waves.append([gain * wave for gain in gains])
    return np.array(waves, np.float32)


@pytest.fixture(autouse=True, scope="module")
def _quick(hasty):
    """Compile hastily."""


@pytest.mark.parametrize("name", ROWS)
def test_learns_one_song(name):
    family, small = SEPARATORS[name], SMALL.get(name, {})
    options = {key: OPTIONS[key] for key in OPTIONS if key in family.defaults}
    options |= small.get("options", {})
    settings = settings_of(name, (), small.get("spectra", SPECTRA), **options)
    spectra, sources = Spectra(**settings["spectra"]), len(family.sources)
    frames = family.frames or FRAMES
    samples = spectra.samples(frames * WINDOWS)
    # a network of a single source sees another one as well
    waves = song(max(2, sources), spectra.channels, samples, spectra.sample_rate)
    targets = spectra.magnitudes(jnp.asarray(waves[:sources]))
    whole = spectra.transform(jnp.asarray(waves.sum(0)))  # channel, frame, bin
    if family.scored:  # which bins a source is in, as a score would say
        shares = targets.mean((1, 2), keepdims=True) ** 2
        planes = jnp.abs(whole) * (shares / shares.sum(0, keepdims=True))[:, 0]
    else:
        planes = jnp.abs(whole)

    def cut(x):
        """Cut `[..., frame, bin]` into `[window, ..., frame, bin]`."""
        x = x.reshape(*x.shape[:-2], WINDOWS, frames, x.shape[-1])
        return jnp.moveaxis(x, -3, 0)

    mixture, true = cut(planes), cut(targets)
    optimiser = optax.adam(small.get("rate", RATE))
    graph, start, rest = nnx.split(jax.jit(lambda: make_separator(settings))(), nnx.Param, ...)

    def loss(params, rest, key):
        estimates, moved = in_training(nnx.merge(graph, params, rest), mixture, key)
        return LOSSES[family.loss](estimates, true, mixture), nnx.split(moved, nnx.Param, ...)[2]

    @jax.jit
    def train():
        def step(state, key):
            params, rest, following = state
            slopes, rest = jax.grad(loss, has_aux=True)(params, rest, key)
            change, following = optimiser.update(slopes, following)
            return (optax.apply_updates(params, change), rest, following), None

        keys = jax.random.split(jax.random.key(0), small.get("steps", STEPS))
        state = (start, rest, optimiser.init(start))
        params, last, _ = jax.lax.scan(step, state, keys)[0]
        estimates = nnx.merge(graph, params, last)(mixture)
        return jnp.moveaxis(estimates, 0, -3).reshape(targets.shape)

    shares = train() / jnp.maximum(jnp.abs(whole), 1e-8)[None]
    stems = np.asarray(spectra.waves(shares * whole[None], samples))
    gains = [si_sdr(stems[i], waves[i]) - si_sdr(waves.sum(0), waves[i]) for i in range(sources)]
    print(name, np.round(gains, 1))
    assert np.mean(gains) > 10
