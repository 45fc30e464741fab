"""Options that training commands share, in groups; a command inherits the groups that it needs."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from gensep.cli.options import IMAGE_SETS, Count, DataName, Fraction, Range, choices
from gensep.cli.source import words_of


@dataclass(frozen=True, kw_only=True)
class Data:
    """Data."""

    data: DataName
    """Data set of one source, written by gensep.wav_to_spec, or the name of a set of images."""
    data_dir: str | None = None
    """Folder with the files of a set of images."""
    download: bool = False
    """Let tensorflow-datasets download a set of images into data_dir if it is missing there."""
    frames: Count = 64
    """Frames of a training window of spectrograms."""


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Optimiser."""

    steps: Count = 20000
    """Number of updates."""
    batch: Count = 32
    """Examples per update."""
    rate: float = 1e-3
    """Peak learning rate of Adam."""
    warmup: int = 200
    """Updates over which the learning rate rises linearly to its peak."""
    clip: float = 1.0
    """Largest norm of the gradient; a longer gradient is scaled down to it."""
    ema: float = 0.999
    """Decay of the exponential moving average of the weights."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise levels."""

    sigma_min: float = 0.02
    """Smallest noise level, in model units."""
    sigma_max: float = 2.5
    """Largest noise level, in model units."""

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"expected 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )


@dataclass(frozen=True, kw_only=True)
class Schedule(Noise):
    """Noise levels."""

    log_sigma_mean: float = -1.2
    """Mean of ln sigma in the lognormal schedule."""
    log_sigma_sd: float = 1.2
    """Standard deviation of ln sigma in the lognormal schedule."""
    levels: Count = 8
    """Number of noise levels at which validation measures the loss."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Random variation of spectrograms."""

    gain_low: float = -18.0
    """Lowest random gain in dB."""
    gain_high: float = 8.0
    """Highest random gain in dB."""
    equaliser: float = 4.0
    """Standard deviation of a random equaliser in dB."""
    tilt: float = 9.0
    """Largest random spectral tilt in dB, from the lowest to the highest band."""
    room: float = 0.4
    """Share of windows with added reverberation."""
    noise: float = 0.4
    """Share of windows with added background noise."""
    stretch: float = 0.15
    """Largest relative change of tempo."""

    def __post_init__(self) -> None:
        if self.gain_low > self.gain_high:
            raise ValueError(
                f"expected gain_low <= gain_high, not {self.gain_low} and {self.gain_high}"
            )


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run."""

    run: str
    """Run folder for config, checkpoints, metrics and prior.npz; training resumes if it exists."""
    seed: int = 0
    """Seed of weights, order of the data, noise and random variation."""
    validate_every: Count = 1000
    """Updates between validations."""
    save_every: Count = 500
    """Updates between checkpoints."""
    patience: Annotated[int, Range(0)] = 0
    """Stop after so many validations in a row without a better one; 0 for no such limit."""
    max_minutes: float = 0.0
    """Stop after so many minutes, to be resumed by the same command; 0 means no limit."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Validation."""

    valid_windows: Count = 256
    """Number of examples in the fixed validation batch."""


@dataclass(frozen=True, kw_only=True)
class Training(Run, Optimiser):
    """Options of every command that trains."""


@dataclass(frozen=True, kw_only=True)
class Learning(Training):
    """Optimiser."""

    optimiser: Annotated[str, choices("gensep.training.optimisers:OPTIMISERS")] = "adam"
    """Rule of the updates."""
    decay: Annotated[str, choices("gensep.training.optimisers:DECAYS")] = "cosine"
    """How the learning rate falls: along a cosine to a hundredth, not at all, or by a factor
    whenever validations stop to improve."""
    plateau: Count = 80
    """Validations without improvement after which decay plateau lowers the rate."""
    plateau_factor: Fraction = 0.3
    """Factor by which decay plateau lowers the rate."""
    cooldown: Annotated[int, Range(0)] = 10
    """Validations after a fall of the rate that decay plateau does not count."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """Share of the weights that is added to the gradient (L2 penalty)."""


@dataclass(frozen=True, kw_only=True)
class Adversarial(Learning):
    """Critics."""

    alpha: Annotated[float, Range(0)] = 0.001
    """Weight of the critics in the loss of the separator."""
    beta: Annotated[float, Range(0)] = 0.001
    """Weight of the demand that estimates add up to the mixture."""
    critic_steps: Count = 5
    """Updates of the critics per update of the separator."""
    penalty: Annotated[float, Range(0)] = 10.0
    """Weight of the penalty on the critics' gradients."""
    one_sided: bool = True
    """Penalise gradients longer than 1 only, rather than all that are not of length 1."""
    critic_rate: float = 5e-5
    """Learning rate of the critics."""
    critic_betas: tuple[Fraction, ...] = (0.0, 0.9)
    """Decays of the two moments of the critics' Adam; .9 and .999 as published."""
    critic_width: Count = 32
    """Channels of the first layer of a critic."""
    critic_frames: Count = 64
    """Frames that a critic sees."""

    def __post_init__(self) -> None:
        if len(self.critic_betas) != 2:
            raise ValueError(f"expected two critic_betas, not {len(self.critic_betas)}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Training, HeldOut, Variation, Schedule, Data):
    """Options of every command that trains a prior on a data set."""

    def __post_init__(self) -> None:
        Noise.__post_init__(self)
        Variation.__post_init__(self)
        if self.data in words_of(IMAGE_SETS):
            audio = list(dataclasses.fields(Variation))
            audio += [f for f in dataclasses.fields(Data) if f.name == "frames"]
            if given := [f.name for f in audio if getattr(self, f.name) != f.default]:
                raise ValueError(
                    f"{given[0]} is for spectrograms, but {self.data} is a set of images; "
                    f"leave out {', '.join(given)}"
                )


@dataclass(frozen=True, kw_only=True)
class FlowConfig(TrainingConfig):
    """Flow."""

    layout: Literal["bands", "image"] = "bands"
    """How a window enters the flow: mel bands as channels, or as an image of one channel."""
    squeeze: Count = 2
    """Factor, in time and frequency, by which each scale trades resolution for channels."""
    schedule: Literal["uniform", "lognormal", "none"] = "uniform"
    """Distribution of ln sigma in training; none trains on clean data, without noise levels."""
    plain: Fraction = 0.0
    """Share of training examples without noise, if the schedule has noise levels."""
    denoising: Annotated[float, Range(0)] = 1.0
    """Weight of the denoising loss, added to the negative log likelihood. It makes updates three
    times as slow and scores far better; unused for schedule none."""
    embedding: Count = 64
    """Size of the embedding of the noise level."""
    logit: float = 0.0
    """Margin of the logit transform of images, below 0.5; 0 for no transform."""
    dequantise: Literal["uniform", "variational"] = "uniform"
    """Noise added to integer pixel values: uniform, or sampled by a learnt flow."""
    warmup: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.logit < 0.5:
            raise ValueError(f"expected 0 <= logit < 0.5, not {self.logit}")
        if self.schedule != "none" and (self.logit or self.dequantise != "uniform"):
            raise ValueError(
                "logit and variational dequantisation are for plain data: give "
                "--schedule none, or leave them out"
            )
