"""Training a separator: batches of mixtures with their sources, a loss, validation."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gensep.cli.records import Json
from gensep.datasets.examples import VALID_SEED
from gensep.datasets.mixture_examples import MixtureExamples
from gensep.runtime.errors import UserError
from gensep.separators.family import Measuring, Separator, in_training
from gensep.separators.files import FILE, LoadedSeparator, load_separator, save_separator
from gensep.separators.losses import LOSSES
from gensep.separators.networks import SEPARATORS, make_separator
from gensep.training.contract import Validation
from gensep.training.optimisers import choose_optimiser, on_plateau
from gensep.training.updates import ModelState, ModelTask, Outcome

if TYPE_CHECKING:
    import optax

    from gensep.training.options import Learning

Raw = jax.Array | np.ndarray
MEASURED, MEASURED_SIZE = 32, 16  # batches, and their sizes, that statistics are measured on
VALID_FRAMES = 512  # of the windows of a validation song, for networks of any length


class SeparatorFile(NamedTuple):
    """A separator to be written, see `gensep.separators.files.save_separator`."""

    network: Separator
    settings: Json
    about: Json

    def write(self, folder: Path, **about: object) -> None:
        """Write separator.npz."""
        path, about = folder / FILE, about | self.about
        save_separator(path, self.network, self.settings, half=False, **about)


class SeparatorTask(ModelTask[Separator, Raw]):
    """A network to be trained on `examples` with the options `c` of gensep.train_separator.

    Raises:
        UserError: if the data lack a source, or the separator to start from is another network.
    """

    c: Any

    def __init__(self, c: "Learning", examples: MixtureExamples, settings: Json) -> None:
        super().__init__(c)
        self.examples, self.settings = examples, settings
        family = SEPARATORS[settings["network"]]
        self.frames = family.frames
        self.loss_name = self.c.loss or family.loss
        sources = settings["sources"]
        if missing := [name for name in sources if name not in examples.sources]:
            there = ", ".join(examples.sources)
            raise UserError(f"the data have no source {missing[0]}; they have {there}")
        if family.sums and len(sources) < len(examples.sources):
            raise UserError(
                f"the estimates of {settings['network']} add up to the mixture: name all of "
                f"{', '.join(examples.sources)} after --sources, not {', '.join(sources)} alone"
            )
        LOSSES[self.loss_name].check(len(sources))
        self.targets = np.array([examples.sources.index(name) for name in sources])
        self.first = self._load_first()

    def _load_first(self) -> LoadedSeparator | None:
        """Return the separator that training starts from, if any."""
        if self.c.init is None:
            return None
        loaded = load_separator(self.c.init)
        wanted = self.settings
        if differ := [key for key in wanted if loaded.settings.get(key) != wanted[key]]:
            had, key = loaded.settings.get(differ[0]), differ[0]
            raise UserError(
                f"separator {loaded.name} has {key} {had}, not {wanted[key]}; to start from it, "
                "ask for the same"
            )
        return loaded

    @cached_property
    def _optimiser(self) -> "optax.GradientTransformation":
        return choose_optimiser(self.c, self.rates)

    def rates(self, model: Separator) -> Separator:
        """Return the factors of the learning rate: 0 for variables that are not trained."""
        from flax import nnx

        def factor(variable: nnx.Variable) -> nnx.Variable:
            trained = isinstance(variable, nnx.Param)
            return jax.tree.map(jnp.ones_like if trained else jnp.zeros_like, variable)

        return jax.tree.map(factor, model, is_leaf=lambda x: isinstance(x, nnx.Variable))

    def batch(self, step: int, rows: slice) -> Raw:
        """Return some rows of the raw examples of a step."""
        return self.examples.batch(self.c.seed, step, self.c.batch)[rows]

    def make_model(self, key: jax.Array) -> Separator:
        """Return the untrained network, from `c.seed`, or that of the separator to start from."""
        if self.first:  # a copy, as training uses up its arrays
            return jax.tree.map(jnp.array, self.first.network)
        network = make_separator(self.settings, self.c.seed)
        return network.measured(self._some()) if isinstance(network, Measuring) else network

    def _some(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        """Yield batches of varied training examples, the same ones every time."""
        inputs = jax.jit(self.examples.inputs)
        for i, key in enumerate(jax.random.split(jax.random.key(0), MEASURED)):
            mixture, sources = inputs(key, self.examples.batch(VALID_SEED, i, MEASURED_SIZE))
            yield mixture, sources[:, self.targets]

    def loss(self, model: Separator, key: jax.Array, raw: Raw) -> Outcome[Separator]:
        """Return the loss of a batch, and the network with its running statistics moved."""
        vary, drop = jax.random.split(key)
        mixture, sources = self.examples.inputs(vary, jnp.asarray(raw))
        estimates, moved = in_training(model, mixture, drop)
        value = self._value(estimates, sources[:, self.targets], mixture)
        return Outcome(value, model=moved)

    def _value(self, estimates: jax.Array, sources: jax.Array, mixture: jax.Array) -> jax.Array:
        """Return the loss, as published where the network is."""
        loss = LOSSES[self.loss_name]
        compat = {"compat": True} if self.settings.get("compat") and loss.has_compat else {}
        return loss(estimates, sources, mixture, **compat)

    @partial(jax.jit, static_argnums=0)
    def _measure(
        self, model: Separator, mixture: jax.Array, sources: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the loss, and energies of the sources and of their errors, `[source]`."""
        estimates = model(mixture)
        value = self._value(estimates, sources, mixture)
        axes = (0, 2, 3, 4)
        return value, (sources**2).sum(axes), ((estimates - sources) ** 2).sum(axes)

    def validate(self, state: ModelState[Separator]) -> Validation:
        """Measure the averaged weights on whole validation songs, each of equal weight.

        The row also has the ratio of magnitudes to their errors by source, in dB, mean over songs.
        """
        model, values, ratios = state.learner.average, [], []
        for mixture, sources in self.examples.held_out():
            parts = [self._measure(model, *part) for part in self._windows(mixture, sources)]
            loss, energy, error = (np.array([part[i] for part in parts]) for i in range(3))
            values.append(loss.mean())
            ratios.append(10 * np.log10(energy.sum(0) / np.maximum(error.sum(0), 1e-20) + 1e-10))
        mean = np.mean(ratios, axis=0)
        names = self.settings["sources"]
        row = {f"valid_ratio_{name}": float(db) for name, db in zip(names, mean, strict=True)}
        about = {"config": dataclasses.asdict(self.c), "songs": len(values)}
        return Validation(float(np.mean(values)), row, SeparatorFile(model, self.settings, about))

    def _windows(
        self, mixture: np.ndarray, sources: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cut a song `[1, ..., frame, bin]` into windows, the last one padded with silence.

        All have one length, so that the network is compiled once.
        """
        frames = self.frames or VALID_FRAMES
        for at in range(0, mixture.shape[-2], frames):
            yield _window(mixture, at, frames), _window(sources, at, frames)[:, self.targets]

    def validated(
        self, state: ModelState[Separator], validation: Validation
    ) -> ModelState[Separator]:
        """Lower the learning rate on a plateau, if the options ask for it."""
        learner = state.learner
        following = on_plateau(self.c, learner.optimiser, int(state.stale))
        return state._replace(learner=learner._replace(optimiser=following))

    def finish(self, folder: Path) -> None:
        """Draw the estimates of the best network for the first validation song."""
        from gensep.plots.spectrograms import plot_magnitudes

        whole, true = next(self.examples.held_out())
        mixture, sources = next(self._windows(whole, true))
        estimates = np.asarray(load_separator(str(folder)).network(jnp.asarray(mixture)))[0]
        panels = {"mixture": mixture[0], "sum of the estimates": estimates.sum(0)}
        for name, mine, its in zip(self.settings["sources"], estimates, sources[0], strict=True):
            panels |= {name: mine, f"{name}, reference": its}
        frames = whole.shape[-2]  # a window may be longer
        shown = {name: magnitudes.mean(0)[:frames] for name, magnitudes in panels.items()}
        plot_magnitudes(folder / "estimates.png", shown, self.examples.spectra.sample_rate)


def _window(x: np.ndarray, at: int, frames: int) -> np.ndarray:
    part = x[..., at : at + frames, :]
    ends = [(0, 0)] * (x.ndim - 2) + [(0, frames - part.shape[-2]), (0, 0)]
    return np.pad(part, ends)
