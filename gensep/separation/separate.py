"""Separation of audio: the Python call, and the streaming pass that the command shares with it."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gensep.audio.files import mid_stream
from gensep.inversion.masking import apply_masks
from gensep.priors.files import LoadedPrior, load_prior
from gensep.representation.analysis import Analysis, analyse
from gensep.representation.form import is_sound
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.sampling import Masks, sample_masks
from gensep.separation.settings import PRESETS, Settings

MAX_SOURCES = 8


class Team(NamedTuple):
    """The priors of one separation, one a source, and the representation they share."""

    names: tuple[str, ...]  # of the stems; equal priors are numbered
    priors: tuple[Any, ...]
    representation: Representation


def assemble(priors: Sequence[str | LoadedPrior]) -> Team:
    """Load priors by name, run folder or file, and check that they fit together.

    Raises:
        UserError: for none or too many, or for different representations.
    """
    if not 1 <= len(priors) <= MAX_SOURCES:
        raise UserError(
            f"expected 1 to {MAX_SOURCES} priors, one a source, got {len(priors)}; "
            "name them after --priors"
        )
    loaded = [p if isinstance(p, LoadedPrior) else load_prior(p) for p in priors]
    first = loaded[0]
    for one in loaded:
        if not one.form.audible:
            raise UserError(
                f"prior {one.name} is of {one.form.describe()}; audio needs priors "
                "trained on a data set of gensep.wav_to_spec"
            )
    for other in loaded[1:]:
        if other.form != first.form:
            raise UserError(
                f"priors {first.name} and {other.name} were trained on different "
                "representations; train them on data of one wav_to_spec"
            )
    assert is_sound(first.form)
    return Team(_distinct([p.name for p in loaded]), tuple(p.prior for p in loaded), first.form)


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    priors: Sequence[str | LoadedPrior] = ("piano", "violin"),
    preset: str = "default",
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Separate a mixture into one wave a prior.

    Args:
        audio: float `[samples]` or `[channels, samples]`.
        rate: of `audio`, Hz.
        priors: shipped names, run folders, files or loaded priors, one a source.
        preset: fast, default or best.
        settings: fields of `gensep.separation.sampling.Settings` over the preset's, e.g. `seed=1`.

    Returns:
        Name of the source -> float32, shaped like `audio`. The stems add up to the mixture.

    Raises:
        UserError: for audio that is empty or not finite, unknown priors, or bad settings.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim not in (1, 2) or not audio.size:
        raise UserError(
            "expected audio [samples] or [channels, samples] with at least one "
            f"sample, got shape {audio.shape}"
        )
    if not np.isfinite(audio).all():
        raise UserError("audio holds values that are not finite; repair it first")
    team = assemble(priors)
    chosen = make_settings(preset, settings, len(team.priors))
    channels = audio[None] if audio.ndim == 1 else audio
    result = find_masks([channels], rate, team, chosen)
    stems = np.concatenate(
        list(apply_masks([channels], rate, result.masks, team.representation)), -1
    )
    return dict(zip(team.names, stems.reshape(len(team.names), *audio.shape), strict=True))


def make_settings(preset: str, changes: dict[str, Any], sources: int = 2) -> Settings:
    """Give the settings of a preset with some fields changed.

    More than two sources get more noise levels in proportion, unless `changes` name `steps`: four
    that start from one mixture find their places later than two.
    """
    if preset not in PRESETS:
        raise UserError(f"preset must be one of {', '.join(PRESETS)}, not '{preset}'")
    known = {f.name for f in dataclasses.fields(Settings)}
    for name in changes:
        if name not in known:
            raise UserError(f"unknown setting {name}; known: {', '.join(sorted(known))}")
    chosen = Settings(**{**PRESETS[preset], **changes})
    if "steps" in changes or sources <= 2:
        return chosen
    return dataclasses.replace(chosen, steps=chosen.steps * sources // 2)


def find_masks(
    blocks: Iterable[np.ndarray],
    rate: int,
    team: Team,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Masks:
    """Sample the masks of a mixture given as blocks `[channels, n]` at `rate`."""
    representation = team.representation
    mid = mid_stream(blocks, rate, representation.sample_rate)
    return masks_of(analyse(mid, representation), team, settings, progress)


def masks_of(
    mixture: Analysis,
    team: Team,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    uncertainty: bool = False,
) -> Masks:
    """Sample the masks of an analysed mixture; of silence all sources have equal shares."""
    if len(team.priors) == 1 or not np.isfinite(mixture.level):
        equal = np.full((len(team.priors), *mixture.power.shape), 1 / len(team.priors), np.float32)
        return Masks(equal, np.zeros(0), 0.0, 0.0)
    power = mixture.at_level(team.representation.level_db)
    return sample_masks(
        power, team.priors, team.representation, settings, progress, uncertainty=uncertainty
    )


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Number the names that occur more than once."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(f"{name}{seen[name]}" if names.count(name) > 1 else name)
    return tuple(out)
