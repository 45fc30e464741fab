"""Train a score prior (a denoiser of any noise level) of one source."""

from dataclasses import dataclass

from gensep import config
from gensep.config import option
from gensep.errors import run
from gensep.networks import NETWORKS


@dataclass(frozen=True)
class Config:
    """Options of `gensep.train_ncsn`."""

    data: str = option(..., "data set of one source, as gensep.wav_to_spec writes it, or images: "
                       "mnist, fashion_mnist, cifar10, digits")
    run: str = option(..., "run folder: config, checkpoints, metrics, prior.npz; resumed if there")
    data_dir: str | None = option(None, "folder with the files of a set of images")
    download: bool = option(False, "let tensorflow-datasets fetch images")  # noqa: FBT003
    init: str | None = option(None, "prior to start from, of the same network: shipped name, run "
                              "folder or file; for other data, or other noise levels")
    steps: int = option(20000, "updates in all")
    batch: int = option(32, "examples an update")
    frames: int = option(64, "frames a window")
    network: str = option("conv1d", "conv1d of spectrograms, unet of images, ncsnv1 or "
                          "ncsnv2 of either")
    width: int = option(208, "channels of the network")
    blocks: int = option(8, "residual blocks; dilations 1 2 4 8 repeat")
    compat: bool = option(False, "ncsnv1, ncsnv2: as AudioSourceSep built them, "  # noqa: FBT003
                          "faults and all")
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
        if self.network == "ncsnv1" and self.schedule != "geometric":
            raise ValueError("ncsnv1 knows fixed noise levels: give it schedule geometric, and "
                             "noise_levels (python -m gensep.noise_levels says how many)")
        if self.compat and not self.network.startswith("ncsn"):
            raise ValueError(f"compat is for ncsnv1 and ncsnv2, not {self.network}")
        if not 0 < self.sigma_min < self.sigma_max or self.gain_low > self.gain_high:
            raise ValueError("expected 0 < sigma_min < sigma_max and gain_low <= gain_high, not "
                             f"{self.sigma_min}, {self.sigma_max}, {self.gain_low}, "
                             f"{self.gain_high}")


def main(argv: list[str]) -> None:
    """Train, or go on training, to `steps`."""
    c = config.parse(Config, argv, prog="python -m gensep.train_ncsn", about=__doc__)
    from gensep.examples import open_examples
    from gensep.score_training import Task
    from gensep.training import train

    train(c, Task(c, open_examples(c)))


if __name__ == "__main__":
    run(main)
