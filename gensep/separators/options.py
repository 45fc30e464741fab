"""Options of separators: which network, of which transform."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from gensep.cli.options import Count, choices, suggestions
from gensep.cli.records import Json
from gensep.runtime.errors import UserError
from gensep.separators.networks import settings_of


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


OF_NETWORK = [
    f.name
    for f in dataclasses.fields(Network)
    if f.name not in ("network", "sources", "loss", "init")
]


@dataclass(frozen=True, kw_only=True)
class Separating(Transform, Network):
    """Options of every command that trains a separator."""

    def settings(self, sources: tuple[str, ...] = ()) -> Json:
        """Return the settings of the network, see `gensep.separators.networks.settings_of`.

        Its sources are those of the options, or else `sources`, or else those of the network.

        Raises:
            UserError: for an option that the network does not read, or a wrong transform.
        """
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(Transform)}
        changed = {name: value for name, value in given.items() if value is not None}
        options = {name: getattr(self, name) for name in OF_NETWORK}
        try:
            return settings_of(self.network, self.sources or sources, changed, **options)
        except ValueError as error:
            raise UserError(str(error)) from None
