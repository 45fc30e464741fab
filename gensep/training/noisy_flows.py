"""A flow of plain data fine-tuned to noisy data, level after level from small noise to large.

Every level starts at the weights of the level before (Jayaram and Thickstun 2020 found that a
jump to much noise breaks a flow's invertibility). What remains is one prior file: the parameters
of all levels, stacked on one axis.
"""

import dataclasses
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from flows import FlowPrior, StackedFlowPrior
from gensep.cli import config
from gensep.cli.records import __version__
from gensep.datasets.kinds import open_examples
from gensep.priors.files import FILE, LoadedPrior, load_prior, save_prior
from gensep.priors.flow_networks import FlowModel
from gensep.runtime.errors import UserError
from gensep.training.flow_task import FlowTask
from gensep.training.loop import train
from gensep.training.options import FlowConfig
from score import geometric


class LevelTask(FlowTask):
    """A flow of one noise level sigma, started at the weights of another flow."""

    def __init__(self, c: Any, examples: Any, loaded: LoadedPrior, sigma: float):
        super().__init__(c, examples)
        self.loaded, self.sigma = loaded, sigma

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        """Give those of the flow it starts from."""
        return self.loaded.header["settings"] | {"levels": 1}

    @property
    def grid(self) -> np.ndarray:  # type: ignore[override]
        """Give the one level."""
        return np.array([self.sigma], np.float32)

    def make_model(self) -> FlowModel:
        """Take the weights of the flow before."""
        # a copy: training gives its arrays away
        return FlowModel(jax.tree.map(jnp.array, cast(FlowPrior, self.loaded.prior).density))

    def batch(self, step: int) -> Any:
        """Give the raw batch and the noise level, an input: all levels train by one program."""
        return super().batch(step), np.float32(self.sigma)

    def _draw(self, model: FlowModel, key: jax.Array, batch: Any) -> tuple[jax.Array, ...]:
        x, noise, none, log_q = super()._draw(model, key, batch[0])
        return x, noise, jnp.full_like(none, batch[1]), log_q

    def finish(self, folder: Path) -> None:
        """Leave pictures to the whole."""


def load_plain(name: str) -> LoadedPrior:
    """Load a flow of plain data.

    Raises:
        UserError: if it is none.
    """
    loaded = load_prior(name)
    settings = loaded.header["settings"]
    if loaded.header["kind"] != "flow" or settings["embedding"] or settings["logit"]:
        raise UserError(
            f"{name} is not a flow of plain data without a logit map; make one by "
            "gensep.train_glow --schedule none"
        )
    return loaded


def config_of(loaded: LoadedPrior, c: Any) -> FlowConfig:
    """Give the config of the flow's own training, as far as all flows have it, changed by `c`."""
    known = {f.name for f in dataclasses.fields(FlowConfig)}
    stored = {k: v for k, v in loaded.header["about"]["config"].items() if k in known}
    changes = {
        name: getattr(c, name)
        for name in (
            "steps",
            "batch",
            "rate",
            "warmup",
            "clip",
            "ema",
            "seed",
            "validate_every",
            "valid_windows",
            "save_every",
            "max_minutes",
            "sigma_min",
            "sigma_max",
            "denoising",
        )
    }
    moved = {"data_dir": c.data_dir} if c.data_dir else {}
    return config.build(FlowConfig, stored | changes | moved | {"levels": c.noise_levels})


def fine_tune(c: Any) -> None:
    """Train all levels of `gensep.train_noisy_glow`, or go on, and stack them."""
    loaded = load_plain(c.restore)
    base = config_of(loaded, c)
    examples = open_examples(base)
    sigmas = geometric(c.noise_levels, c.sigma_min, c.sigma_max)[::-1]
    for i, sigma in enumerate(sigmas):
        run = dataclasses.replace(base, run=str(Path(c.run) / f"level_{i:02d}"))
        task = LevelTask(run, examples, loaded, float(sigma))
        if int(train(run, task).step) < c.steps:
            return  # out of time; the same command goes on
        loaded = load_prior(run.run)
        if not i:  # pictures of the level of least noise
            FlowTask.finish(task, Path(run.run))
    priors = [load_prior(str(Path(c.run) / f"level_{i:02d}")) for i in range(len(sigmas))][::-1]
    levels = [float(sigma) for sigma in sigmas[::-1]]
    settings = loaded.header["settings"] | {"levels": len(levels), "sigmas": levels}
    losses = [p.header["about"]["valid_loss"] for p in priors]
    save_prior(
        Path(c.run) / FILE,
        "stacked_flows",
        stack([cast(FlowPrior, p.prior) for p in priors]),
        settings,
        examples.form,
        gensep=__version__,
        step=c.steps,
        data=base.data,
        valid_loss=round(float(np.mean(losses)), 5),
        config=dataclasses.asdict(base),
    )


def stack(priors: list[FlowPrior]) -> StackedFlowPrior:
    """Make one prior of flows of one level each, largest level first."""
    densities = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[p.density for p in priors])
    return StackedFlowPrior(
        densities,
        jnp.concatenate([p.sigmas for p in priors]),
        jnp.concatenate([p.errors for p in priors]),
    )
