"""A flow of plain data fine-tuned to noisy data, noise level by noise level from small to large.

Every level starts from the weights of the level before it (Jayaram and Thickstun 2020 found that a
jump to much noise breaks a flow's invertibility). The result is one prior file with the parameters
of all levels, stacked on a first axis.
"""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from flows import FlowPrior, StackedFlowPrior
from gensep.cli import config
from gensep.cli.records import Json, __version__
from gensep.datasets.examples import Examples
from gensep.datasets.kinds import open_examples
from gensep.priors.files import FILE, LoadedPrior, load_prior, save_prior
from gensep.priors.flow_networks import FlowModel
from gensep.runtime.errors import UserError
from gensep.training.flow_task import FlowBatch, FlowTask
from gensep.training.loop import Stopping, train
from gensep.training.options import FlowConfig
from score import geometric

Options = Any  # of gensep.train_noisy_glow


class LevelTask(FlowTask):
    """A flow of the noise level `sigma` alone, which starts from the weights of another flow."""

    def __init__(self, c: FlowConfig, examples: Examples, loaded: LoadedPrior, sigma: float):
        super().__init__(c, examples, loaded.header["settings"]["architecture"])
        self.loaded, self.sigma = loaded, sigma

    @cached_property
    def settings(self) -> Json:
        """Settings of the flow that it starts from."""
        return self.loaded.header["settings"] | {"levels": 1}

    @cached_property
    def grid(self) -> np.ndarray:
        """The one noise level."""
        return np.array([self.sigma], np.float32)

    def make_model(self, key: jax.Array) -> FlowModel:
        """Return a copy of the flow that it starts from; training uses up its arrays."""
        return FlowModel(jax.tree.map(jnp.array, cast(FlowPrior, self.loaded.prior).density))

    def batch(self, step: int, rows: slice) -> FlowBatch:
        """Return raw examples, and the noise level as an input: one program trains all levels."""
        return np.asarray(super().batch(step, rows)), np.float32(self.sigma)

    def _sample(self, model: FlowModel, key: jax.Array, raw: FlowBatch) -> tuple[jax.Array, ...]:
        examples, sigma = raw
        x, noise, zeros, log_q = super()._sample(model, key, examples)
        return x, noise, jnp.full_like(zeros, sigma), log_q

    def finish(self, folder: Path) -> None:
        """Draw no pictures: `fine_tune` draws those of the first level."""


def load_plain(name: str) -> LoadedPrior:
    """Load a flow of plain data.

    Raises:
        UserError: if the prior is of another kind, or knows noise levels or a logit map.
    """
    loaded = load_prior(name)
    settings = loaded.header["settings"]
    if loaded.header["kind"] != "flow" or settings["embedding"] or settings["logit"]:
        raise UserError(
            f"{name} is not a flow of plain data without a logit map; make one by "
            "gensep.train_glow --schedule none"
        )
    return loaded


def config_of(loaded: LoadedPrior, c: Options) -> FlowConfig:
    """Return the options of the flow's own training that all flows have, changed by `c`."""
    known = {f.name for f in dataclasses.fields(FlowConfig)}
    stored = {k: v for k, v in loaded.header["about"]["config"].items() if k in known}
    kept = {"run"} if c.data_dir else {"run", "data_dir"}
    changes = {k: v for k, v in dataclasses.asdict(c).items() if k in known - kept}
    return config.build(FlowConfig, stored | changes | {"levels": c.noise_levels})


def _level(c: Options, number: int) -> str:
    """Return the run folder of a noise level, counted from the smallest."""
    return str(Path(c.run) / f"level_{number:02d}")


def fine_tune(c: Options) -> None:
    """Train all levels of `gensep.train_noisy_glow`, or go on, and stack them in one prior file."""
    loaded = load_plain(c.restore)
    base = config_of(loaded, c)
    examples = open_examples(base)
    sigmas = geometric(c.noise_levels, c.sigma_min, c.sigma_max)[::-1]
    for i, sigma in enumerate(sigmas):
        run = dataclasses.replace(base, run=_level(c, i))
        task = LevelTask(run, examples, loaded, float(sigma))
        state = train(run, task)
        if not Stopping.of(run).finished(int(state.step), int(state.stale)):
            return  # out of time; the same command goes on
        loaded = load_prior(run.run)
        if not i and jax.process_index() == 0:  # pictures of the smallest noise level
            FlowTask.finish(task, Path(run.run))
    if jax.process_index() == 0:
        _save_stacked(c, base, examples)


def _save_stacked(c: Options, base: FlowConfig, examples: Examples) -> None:
    """Write the one prior of all levels."""
    sigmas = geometric(c.noise_levels, c.sigma_min, c.sigma_max)
    priors = [load_prior(_level(c, i)) for i in reversed(range(len(sigmas)))]
    levels = [float(sigma) for sigma in sigmas]
    settings = priors[0].header["settings"] | {"levels": len(levels), "sigmas": levels}
    loss = round(float(np.mean([p.header["about"]["valid_loss"] for p in priors])), 5)
    about = {"gensep": __version__, "step": c.steps, "data": base.data, "valid_loss": loss}
    about["config"] = dataclasses.asdict(base)
    stacked = stack([cast(FlowPrior, p.prior) for p in priors])
    save_prior(Path(c.run) / FILE, "stacked_flows", stacked, settings, examples.form, **about)


def stack(priors: list[FlowPrior]) -> StackedFlowPrior:
    """Return one prior made of flows of one level each, largest level first."""
    densities = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[p.density for p in priors])
    sigmas = jnp.concatenate([p.sigmas for p in priors])
    return StackedFlowPrior(densities, sigmas, jnp.concatenate([p.errors for p in priors]))
