"""Train a score prior (a denoiser of any noise level) of one source."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from gensep import config
from gensep.config import option
from gensep.errors import UserError, run
from gensep.networks import NETWORKS


@dataclass(frozen=True)
class Config:
    """Options of `gensep.train_ncsn`."""

    data: str = option(..., "data set of one source, as gensep.wav_to_spec writes it, or images: "
                       "mnist, fashion_mnist, cifar10, digits")
    run: str = option(..., "run folder: config, checkpoints, metrics, prior.npz; resumed if there")
    data_dir: str | None = option(None, "folder with the files of a set of images")
    download: bool = option(False, "let tensorflow-datasets fetch images")  # noqa: FBT003
    steps: int = option(20000, "updates in all")
    batch: int = option(32, "examples an update")
    frames: int = option(64, "frames a window")
    network: str = option("conv1d", "conv1d or another row of gensep/networks.py")
    width: int = option(208, "channels of the network")
    blocks: int = option(8, "residual blocks; dilations 1 2 4 8 repeat")
    rate: float = option(1e-3, "peak learning rate of Adam")
    warmup: int = option(200, "updates of linear warm-up")
    clip: float = option(1.0, "largest gradient norm")
    ema: float = option(0.999, "decay of the weight average")
    schedule: str = option("lognormal", "noise levels in training: lognormal or geometric")
    noise_levels: int = option(10, "levels of the geometric schedule")
    log_sigma_mean: float = option(-1.2, "mean of ln sigma in training")
    log_sigma_sd: float = option(1.2, "sd of ln sigma in training")
    sigma_min: float = option(0.02, "smallest noise level, model units")
    sigma_max: float = option(2.5, "largest noise level, model units")
    gain_low: float = option(-18.0, "lowest random gain, dB")
    gain_high: float = option(8.0, "highest random gain, dB")
    equaliser: float = option(4.0, "sd of the random equaliser, dB")
    tilt: float = option(9.0, "largest spectral tilt, dB over all bands")
    room: float = option(0.4, "share of windows with an added room")
    noise: float = option(0.4, "share of windows with added background noise")
    stretch: float = option(0.15, "largest relative change of tempo")
    seed: int = option(0, "seed of everything random")
    validate_every: int = option(1000, "updates between validations")
    valid_windows: int = option(256, "examples of the fixed validation batch")
    levels: int = option(8, "noise levels of the validation grid")
    save_every: int = option(500, "updates between checkpoints")
    max_minutes: float = option(0.0, "stop, resumable, after so many minutes; 0 never")

    def __post_init__(self):
        for name in ("steps", "batch", "frames", "width", "blocks", "validate_every",
                     "valid_windows", "levels", "save_every", "noise_levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not '{self.network}'")
        if self.schedule not in ("lognormal", "geometric"):
            raise ValueError(f"schedule must be lognormal or geometric, not '{self.schedule}'")
        if not 0 < self.sigma_min < self.sigma_max or self.gain_low > self.gain_high:
            raise ValueError("expected 0 < sigma_min < sigma_max and gain_low <= gain_high, not "
                             f"{self.sigma_min}, {self.sigma_max}, {self.gain_low}, "
                             f"{self.gain_high}")


# may change between the slices of one run
SLICE_KEYS = {"run", "max_minutes", "save_every", "data_dir", "download"}


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_ncsn", about=__doc__)
    import time

    import jax
    from tqdm import tqdm

    from gensep.checkpoint import Checkpoints
    from gensep.data import prefetch
    from gensep.examples import open_examples
    from gensep.plots import plot_training
    from gensep.score_training import Task
    from gensep.training import Log, make_optimiser, make_state, make_update

    began = time.monotonic()
    folder = Path(c.run)
    task = Task(c, open_examples(c))
    _claim(folder, c)
    optimiser = make_optimiser(c.rate, c.steps, c.warmup, c.clip)
    checkpoints, best = Checkpoints(folder / "checkpoints"), Checkpoints(folder / "best")
    state = make_state(task.make_model(), optimiser)
    state = checkpoints.restore(state) or state
    start = int(state.step)
    log = Log(folder, start)
    update = make_update(task.loss, optimiser, c.ema)
    batches = prefetch(task.batch, start, c.steps)
    bar = tqdm(total=c.steps, initial=start, unit="step", desc=folder.name, dynamic_ncols=True)
    key = jax.random.key(c.seed + 1)
    for step, batch in enumerate(batches, start=start + 1):
        # the key of a step depends on its number only, so that a resumed run draws the same
        state, loss = update(jax.random.fold_in(key, step - 1), state, batch)
        bar.update()
        if step % 100 == 0:
            log.write(step, loss=float(loss))
            bar.set_postfix(loss=f"{float(loss):.4f}")
        if step % c.validate_every == 0 or step == c.steps:
            before, state = float(state.best), task.validate(state, folder, log, step)
            if float(state.best) < before:
                best.save(step, state)
        late = c.max_minutes and time.monotonic() - began > 60 * c.max_minutes
        if step % c.save_every == 0 or step == c.steps or late:
            checkpoints.save(step, state)
        if late and step < c.steps:
            bar.write(f"stopped at step {step} of {c.steps}; the same command goes on from here")
            break
    bar.close()
    checkpoints.close()
    best.close()
    log.close()
    plot_training(folder)
    if int(state.step) == c.steps:
        task.finish(folder)


def _claim(folder: Path, c: Config) -> None:
    """Write the run's config, or check that a resumed run has the same."""
    from gensep.runs import describe, write_atomically

    path = folder / "config.toml"
    if path.exists():
        old = config.parse(Config, ["--config", str(path)], prog="", about="")
        changed = [f.name for f in dataclasses.fields(Config)
                   if f.name not in SLICE_KEYS and getattr(old, f.name) != getattr(c, f.name)]
        if changed:
            raise UserError(f"{folder} was started with another {', '.join(changed)}; give the "
                            "same values to go on, or another --run to start afresh")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "run.json", describe())
    write_atomically(path, config.to_toml(c))


if __name__ == "__main__":
    run(main)
