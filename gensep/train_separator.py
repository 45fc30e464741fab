"""Train a supervised separator: a network that sees mixtures and learns to give their sources."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from gensep.cli import config
from gensep.cli.options import Count, choices, suggestions
from gensep.mixtures.options import Drawing
from gensep.runtime.errors import UserError, run
from gensep.separators.networks import SEPARATORS, settings_of
from gensep.training.options import Learning


@dataclass(frozen=True, kw_only=True)
class Network:
    """Network; what is not given is as published."""

    network: Annotated[str, choices("gensep.separators.networks:SEPARATORS")] = "mel_mask"
    """Network. mel_mask is the rival of the priors: their network body, their mel bands."""
    sources: tuple[str, ...] = ()
    """Sources that it gives, in this order; the others of the data are mixed in and not given."""
    width: Count | None = None
    """Channels of mel_mask and of the first level of unet, units of Open-Unmix."""
    blocks: Count | None = None
    """Residual blocks of mel_mask, levels of unet."""
    masks: bool | None = None
    """Let unet estimate masks that add up to 1 rather than magnitudes."""
    filters: Count | None = None
    """Filters of the convolutions of DeepConvSep."""
    hidden: Count | None = None
    """Units of the dense layer of DeepConvSep."""
    scale: float | None = None
    """Factor of the magnitudes that DeepConvSep sees."""
    layers: Count | None = None
    """LSTM layers of Open-Unmix."""
    unidirectional: bool | None = None
    """Let Open-Unmix see the past only."""
    bandwidth: Count | None = None
    """Highest frequency in Hz that Open-Unmix sees; it gives all."""
    compat: bool | None = None
    """Reproduce the published network including its errors."""
    loss: Annotated[str | None, choices("gensep.separators.losses:LOSSES")] = None
    """Loss; by default that of the network."""
    init: Annotated[str | None, suggestions("gensep/assets/separators/")] = None
    """Separator to start from: shipped name, run folder or file of the same network."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Short-time Fourier transform; what is not given is as published."""

    sample_rate: Count | None = None
    """Rate in Hz that the network works at."""
    channels: Count | None = None
    """Channels of the mixture that the network sees."""
    n_fft: Count | None = None
    """Samples of a frame."""
    hop_length: Count | None = None
    """Samples from frame to frame."""
    window: Annotated[str | None, choices("gensep.representation.stft:WINDOWS")] = None
    """Window of a frame."""


@dataclass(frozen=True, kw_only=True)
class Config(Learning, Transform, Drawing, Network):
    """Options of gensep.train_separator."""


OF_NETWORK = [
    f.name
    for f in dataclasses.fields(Network)
    if f.name not in ("network", "sources", "loss", "init")
]


def main(argv: list[str]) -> None:
    """Train, or resume training, up to `steps` updates."""
    c = config.parse(Config, argv)
    from gensep.mixtures.kinds import open_mixtures
    from gensep.representation.magnitude import Spectra
    from gensep.training.loop import train
    from gensep.training.separator_task import SeparatorTask

    given = {f.name: getattr(c, f.name) for f in dataclasses.fields(Transform)}
    changed = {name: value for name, value in given.items() if value is not None}
    options = {name: getattr(c, name) for name in OF_NETWORK}
    try:
        settings = settings_of(c.network, c.sources, changed, **options)
    except ValueError as error:
        raise UserError(str(error)) from None
    spectra = Spectra(**settings["spectra"])
    frames = SEPARATORS[c.network].frames
    wanted, scored = tuple(settings["sources"]), SEPARATORS[c.network].scored
    examples = open_mixtures(c, spectra, wanted, frames, scored=scored)
    train(c, SeparatorTask(c, examples, settings))


if __name__ == "__main__":
    run(main)
