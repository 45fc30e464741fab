"""Networks of mixtures: the one table that knows how each is built."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from gensep.cli.options import Scalar
from gensep.cli.records import Json
from gensep.separators.family import Family, Separator, Settings

if TYPE_CHECKING:  # commands read the table for their options, without waiting for JAX
    from flax import nnx


def _mel_mask(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.representation.mel import Representation
    from gensep.separators.mel_mask import MelMask

    form, sources = Representation(**settings.get("representation", {})), len(settings["sources"])
    return MelMask(form, sources, settings["width"], settings["blocks"], rngs=rngs)


def _unet(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.separators.unet import UNet

    sizes = len(settings["sources"]), settings["width"], settings["blocks"]
    return UNet(*sizes, masks=settings["masks"], rngs=rngs)


def _deepconvsep(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.separators.deepconvsep import build

    return build(settings, rngs, scored=SEPARATORS[settings["network"]].scored)


def _stereo_convsep(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.separators.stereo_convsep import build

    return build(settings, rngs)


# transforms of the ancestors' convolutional networks
_CONVSEP: dict[str, str | int] = {
    "n_fft": 1024,
    "hop_length": 512,
    "window": "blackman_harris",
    "unitary": True,
}
_BACH10 = {**_CONVSEP, "n_fft": 4096}
_ILD = {**_CONVSEP, "window": "hann", "channels": 2}
_STEREO = {**_ILD, "hop_length": 256, "window": "symmetric_hann"}
_SONG = ("vocals", "bass", "drums", "other")
_WINDS = ("bassoon", "clarinet", "saxophone", "violin")


def _umx(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.separators.open_unmix import OpenUnmix

    return OpenUnmix(**_open_unmix_sizes(settings), rngs=rngs)


def _umx_2019(settings: Settings, rngs: "nnx.Rngs") -> Separator:
    from gensep.separators.open_unmix import OpenUnmix2019

    sizes = _open_unmix_sizes(settings)
    sizes["seen"] -= settings["compat"]  # the original left out one bin too many
    return OpenUnmix2019(**sizes, rngs=rngs)


def _open_unmix_sizes(settings: Settings) -> Json:
    """Return the arguments that both forms of Open-Unmix take."""
    from gensep.representation.magnitude import Spectra
    from gensep.separators.open_unmix import seen_bins

    form = Spectra(**settings["spectra"])
    sizes = {name: settings[name] for name in ("width", "layers", "unidirectional", "bandwidth")}
    seen = seen_bins(sizes.pop("bandwidth"), form.sample_rate, form.n_fft)
    sizes |= {"sources": len(settings["sources"]), "channels": form.channels}
    return sizes | {"bins": form.bins, "seen": seen}


# name -> its row; a new family is one file in this room and one row here
SEPARATORS: dict[str, Family] = {
    "mel_mask": Family(
        _mel_mask,
        {"sample_rate": 16000, "n_fft": 2048, "hop_length": 512},
        ("piano", "violin"),
        "l1",
        context=64,
        defaults={"width": 288, "blocks": 6},
        sums=True,
    ),
    "unet": Family(
        _unet,
        {"sample_rate": 8192, "n_fft": 512, "hop_length": 256},
        ("vocals", "accompaniment"),
        "log_mse",
        context=46,
        defaults={"width": 16, "blocks": 4, "masks": False},
    ),
    "deepconvsep": Family(
        _deepconvsep,
        _CONVSEP,
        _SONG,
        "dsd100",
        frames=30,
        overlap=25,
        defaults={"filters": 50, "hidden": 128, "scale": 0.3, "compat": False},
        sums=True,
    ),
    "deepconvsep_ikala": Family(
        _deepconvsep,
        _CONVSEP,
        ("voice", "accompaniment"),
        "ikala",
        frames=30,
        overlap=20,
        defaults={"filters": 30, "hidden": 256, "scale": 0.3, "compat": False},
        sums=True,
    ),
    "deepconvsep_bach10": Family(
        _deepconvsep,
        _BACH10,
        _WINDS,
        "squared",
        frames=30,
        overlap=25,
        defaults={"filters": 30, "hidden": 256, "scale": 0.3, "compat": False},
        sums=True,
    ),
    "deepconvsep_scored": Family(
        _deepconvsep,
        _BACH10,
        _WINDS,
        "squared",
        frames=30,
        overlap=25,
        defaults={"filters": 30, "hidden": 256, "scale": 0.3, "compat": False},
        sums=True,
        scored=True,
    ),
    "deepconvsep_ild": Family(
        _deepconvsep,
        _ILD,
        _SONG,
        "ild_stage1",
        frames=30,
        overlap=25,
        defaults={"filters": 50, "hidden": 256, "scale": 0.3, "compat": False},
        sums=True,
    ),
    "deepconvsep_1x1": Family(
        _deepconvsep,
        _BACH10,
        _WINDS,
        "squared",
        frames=30,
        overlap=25,
        defaults={"filters": 200, "scale": 0.3, "compat": False},
        sums=True,
        scored=True,
    ),
    "stereo_convsep": Family(
        _stereo_convsep,
        _STEREO,
        ("vocals", "drums", "bass", "other"),
        "stereo_convsep",
        frames=30,
        overlap=15,
        defaults={"filters": 50, "hidden": 128, "compat": False},
        sums=True,
    ),
    "vocal_denoiser": Family(
        _stereo_convsep,
        _STEREO,
        ("vocals",),
        "l1_sum",
        context=64,
        defaults={"compat": False},
    ),
    # umxl has width 1024; umxse width 256, one channel at 16 kHz, n_fft 1024, hop 512
    "umx": Family(
        _umx,
        {
            "sample_rate": 44100,
            "channels": 2,
            "n_fft": 4096,
            "hop_length": 1024,
            "padding": "reflect",
        },
        ("vocals", "drums", "bass", "other"),
        "mse",
        context=128,
        defaults={"width": 512, "layers": 3, "unidirectional": False, "bandwidth": 16000},
    ),
    "umx_2019": Family(
        _umx_2019,
        {
            "sample_rate": 44100,
            "channels": 1,
            "n_fft": 4096,
            "hop_length": 1024,
            "padding": "reflect",
        },
        ("vocals", "drums", "bass", "other"),
        "mse",
        context=128,
        defaults={
            "width": 512,
            "layers": 3,
            "unidirectional": False,
            "bandwidth": 15000,
            "compat": False,
        },
    ),
}


def make_separator(settings: Settings, seed: int = 0) -> Separator:
    """Build an untrained network.

    Raises:
        KeyError: for a network that is not in the table or a setting that is missing.
    """
    import jax
    from flax import nnx

    build = SEPARATORS[settings["network"]].build
    # one program: one by one, the many draws of initial weights would each be compiled
    return jax.jit(lambda: build(settings, nnx.Rngs(seed)))()


def settings_of(
    network: str,
    sources: Sequence[str] = (),
    spectra: Mapping[str, Scalar] = MappingProxyType({}),
    **options: Scalar | None,
) -> Settings:
    """Return the settings of a network, for `make_separator`.

    Args:
        network: a key of SEPARATORS.
        sources: by default those of the row.
        spectra: fields of the transform that differ from the row's.
        options: settings that differ from the row's; those that are None do not.

    Raises:
        ValueError: for an option that the network does not read, or a wrong transform.
    """
    from gensep.representation.magnitude import Spectra

    family = SEPARATORS[network]
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := [name for name in given if name not in family.defaults]:
        known = ", ".join(family.defaults) or "none"
        raise ValueError(f"{network} has no option {unknown[0]}; it has {known}")
    transform = asdict(Spectra(**{**family.spectra, **spectra}))  # type: ignore[arg-type]
    settings: Json = {"network": network, "sources": list(sources or family.sources)}
    return settings | {"spectra": transform} | {**family.defaults, **given}
