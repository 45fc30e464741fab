"""Options that training commands share."""

from dataclasses import dataclass

from gensep.cli.config import option


@dataclass(frozen=True)
class TrainingConfig:
    """Data, the loop, noise levels, random variation."""

    data: str = option(
        ...,
        "data set of one source, as gensep.wav_to_spec writes it, or images: "
        "mnist, fashion_mnist, cifar10, digits",
    )
    run: str = option(..., "run folder: config, checkpoints, metrics, prior.npz; resumed if there")
    data_dir: str | None = option(None, "folder with the files of a set of images")
    download: bool = option(False, "let tensorflow-datasets fetch images")  # noqa: FBT003
    steps: int = option(20000, "updates in all")
    batch: int = option(32, "examples an update")
    frames: int = option(64, "frames a window")
    rate: float = option(1e-3, "peak learning rate of Adam")
    warmup: int = option(200, "updates of linear warm-up")
    clip: float = option(1.0, "largest gradient norm")
    ema: float = option(0.999, "decay of the weight average")
    log_sigma_mean: float = option(-1.2, "mean of ln sigma, of the lognormal schedule")
    log_sigma_sd: float = option(1.2, "sd of ln sigma, of the lognormal schedule")
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
        self.positive(
            "steps", "batch", "frames", "validate_every", "valid_windows", "levels", "save_every"
        )
        if not 0 < self.sigma_min < self.sigma_max or self.gain_low > self.gain_high:
            raise ValueError(
                "expected 0 < sigma_min < sigma_max and gain_low <= gain_high, not "
                f"{self.sigma_min}, {self.sigma_max}, {self.gain_low}, "
                f"{self.gain_high}"
            )

    def positive(self, *names: str) -> None:
        """Refuse counts below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class FlowConfig(TrainingConfig):
    """Options of `gensep.train_glow`, `gensep.train_realnvp` and `gensep.train_flowpp`."""

    layout: str = option("bands", "of windows: bands (as channels) or image")
    squeeze: int = option(2, "places, down and across, that every level makes one of")
    schedule: str = option(
        "uniform",
        "noise levels in training: uniform in ln sigma, lognormal, "
        "or none (plain data, a flow that knows no noise)",
    )
    plain: float = option(0.0, "share of examples without noise, where there are levels")
    denoising: float = option(
        1.0,
        "weight of the denoising loss beside the likelihood: updates "
        "cost three times as much, scores become far better; plain data has "
        "none",
    )
    embedding: int = option(64, "numbers that tell the flow its noise level")
    logit: float = option(0.0, "margin of the logit map of images; 0 for none")
    dequantise: str = option("uniform", "noise between integers: uniform or variational")
    warmup: int = option(500, "updates of linear warm-up")

    def __post_init__(self):
        super().__post_init__()
        self.positive("embedding", "squeeze")
        for name, known in (
            ("layout", ("bands", "image")),
            ("schedule", ("uniform", "lognormal", "none")),
            ("dequantise", ("uniform", "variational")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'"
                )
        if not 0 <= self.plain <= 1 or not 0 <= self.logit < 0.5:
            raise ValueError(
                f"expected 0 <= plain <= 1 and 0 <= logit < 0.5, not {self.plain} and {self.logit}"
            )
        if self.denoising < 0:
            raise ValueError(f"denoising must be 0 or more, not {self.denoising}")
        if self.schedule != "none" and (self.logit or self.dequantise != "uniform"):
            raise ValueError(
                "logit and variational dequantisation are for plain data: give "
                "--schedule none, or leave them out"
            )
