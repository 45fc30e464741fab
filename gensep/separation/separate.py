"""Separation by priors: assembling them, sampling their masks; the call from Python."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import jax.numpy as jnp
import numpy as np

from basis import Prior
from gensep.audio.files import mid_stream
from gensep.cli.records import Json
from gensep.inversion.masking import apply_masks
from gensep.priors.files import LoadedPrior, load_guide, load_prior
from gensep.representation.analysis import Analysis, analyse
from gensep.representation.form import is_sound
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.by_network import separate_by
from gensep.separation.collected import Masks
from gensep.separation.method import Progress, Separated, Sound, wave_of
from gensep.separation.sampling import sample_masks
from gensep.separation.settings import Settings, preset_of
from gensep.separators.files import LoadedSeparator
from score import CriticPrior, GuidedPrior

MAX_SOURCES = 8


class SourcePriors(NamedTuple):
    """The priors of one separation, one per source, and the representation that they share."""

    names: tuple[str, ...]  # of the stems; equal priors are numbered
    priors: tuple[Prior, ...]
    representation: Representation


def assemble(
    priors: Sequence[str | LoadedPrior], guides: Sequence[str] = (), weight: float = 1.0
) -> SourcePriors:
    """Load priors by name, run folder or file, and check that they fit together.

    `guides` are texts SOURCE=RUN: the critic of a run of gensep.train_critic corrects the prior of
    this source, with the weight `weight`.

    Raises:
        UserError: for no or too many priors, different representations, or guides that do not fit.
    """
    if not 1 <= len(priors) <= MAX_SOURCES:
        raise UserError(
            f"expected 1 to {MAX_SOURCES} priors, one per source, got {len(priors)}; "
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
        if one.form != first.form:
            raise UserError(
                f"priors {first.name} and {one.name} were trained on different "
                "representations; train them on data of one wav_to_spec"
            )
    assert is_sound(first.form)
    names = _distinct([p.name for p in loaded])
    each = {name: one.prior for name, one in zip(names, loaded, strict=True)}
    for guide in guides:
        source, equals, run = guide.partition("=")
        if not equals or source not in names:
            raise UserError(
                f"expected SOURCE=RUN after --guide, with a source of {', '.join(names)}, "
                f"not {guide}"
            )
        each[source] = _guided(loaded[names.index(source)], load_guide(run), weight)
    return SourcePriors(names, tuple(each.values()), first.form)


def _guided(one: LoadedPrior, guide: LoadedPrior, weight: float) -> Prior:
    """Return a prior that is corrected by a critic of its own samples."""
    corrected = guide.header["settings"]["against"]
    if guide.form != one.form or corrected != one.name:
        raise UserError(
            f"the guide {guide.name} was trained against the prior {corrected}, not {one.name}; "
            f"train one by 'python -m gensep.train_critic --against {one.name}'"
        )
    return GuidedPrior(one.prior, cast(CriticPrior, guide.prior).critic, jnp.asarray(weight))


@dataclass(frozen=True)
class Posterior:
    """Separation by priors, a `gensep.separation.method.Method`."""

    sources: SourcePriors  # see `assemble`
    sampling: Settings  # see `make_settings`
    uncertainty: bool = False  # measure how far the posterior samples differ

    masked = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return self.sources.names

    @property
    def form(self) -> Representation:
        """Representation of the priors."""
        return self.sources.representation

    @property
    def settings(self) -> Json:
        """Settings of the sampler."""
        return dataclasses.asdict(self.sampling)

    def separate(self, mixture: Sound, progress: Progress = lambda done, total: None) -> Separated:
        """Sample the masks of a mixture; its blocks are filtered by them as they are read."""
        form, (rate, _, samples) = self.form, mixture.shape()
        analysis = analyse(mixture.mid(form.sample_rate), form)
        uncertain = self.uncertainty
        masks = find_masks(analysis, self.sources, self.sampling, progress, uncertainty=uncertain)
        facts = {
            "compile_seconds": round(masks.compile_seconds, 2),
            "sampling_seconds": round(masks.run_seconds, 2),
            "sampling_seconds_per_second": round(masks.run_seconds * rate / samples, 4),
            "network_evaluations": masks.evaluations._asdict(),
            "residual_db": round(masks.residual, 3),
            "residuals_db": [round(float(r), 3) for r in masks.residuals],
        }
        blocks = apply_masks(mixture.blocks(), rate, masks.masks, form)
        sampled = len(masks.residuals) > 0  # silence is not
        levels = self.sampling.levels() * form.span_db if sampled else None
        return Separated(blocks, facts, masks, analysis.power, levels)


def separate(
    audio: np.ndarray,
    rate: int,
    *,
    priors: Sequence[str | LoadedPrior] = ("piano", "violin"),
    preset: str = "default",
    model: str | LoadedSeparator | None = None,
    **settings: object,
) -> dict[str, np.ndarray]:
    """Separate a mixture into one wave per source, by priors or by a network of mixtures.

    Args:
        audio: float `[samples]` or `[channels, samples]`.
        rate: of `audio`, Hz.
        priors: shipped names, run folders, files or loaded priors, one per source.
        preset: fast, default or best.
        model: a separator, by its shipped name, run folder or file; it takes the place of priors.
        settings: fields of `gensep.separation.settings.Settings` that differ from the preset's,
            e.g. `seed=1`; with a model the options of
            `gensep.separation.by_network.separate_by`, e.g. `niter=1`.

    Returns:
        Name of the source -> float32, shaped like `audio`. The stems of priors add up to the
        mixture.

    Raises:
        UserError: for audio that is empty or not finite, unknown priors, or wrong settings.
    """
    if model is not None:
        return separate_by(audio, rate, model, **settings)
    mixture, sources = wave_of(audio, rate), assemble(priors)
    chosen = make_settings(preset, settings, len(sources.priors))
    blocks = Posterior(sources, chosen).separate(mixture).blocks
    stems = np.concatenate(list(blocks), -1).reshape(len(sources.names), *np.shape(audio))
    return dict(zip(sources.names, stems, strict=True))


def make_settings(preset: str, changes: Mapping[str, object], sources: int = 2) -> Settings:
    """Return the settings of a preset with some fields changed.

    Presets depend on the number of sources: the more sources start from one mixture, the more noise
    levels they need to separate, and the more explanations it has.

    Raises:
        UserError: for an unknown preset or setting, or a value out of range.
    """
    of_preset = preset_of(preset, sources)
    known = {f.name for f in dataclasses.fields(Settings)}
    for name in changes:
        if name not in known:
            raise UserError(f"unknown setting {name}; known: {', '.join(sorted(known))}")
    return Settings(**{**of_preset, **changes})  # type: ignore[arg-type]  # checked above


def find_masks(
    mixture: Analysis,
    sources: SourcePriors,
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    uncertainty: bool = False,
) -> Masks:
    """Sample the masks of an analysed mixture; all sources have equal shares of silence.

    `progress` is called with (chains done, chains in all). With `uncertainty` it also measures how
    far the posterior samples differ.
    """
    count, representation = len(sources.priors), sources.representation
    if count == 1 or not np.isfinite(mixture.level):
        equal = np.full((count, *mixture.power.shape), 1 / count, np.float32)
        return Masks(equal, np.zeros(0), 0.0, 0.0)
    power = mixture.at_level(representation.level_db)
    return sample_masks(
        power, sources.priors, representation, settings, progress, uncertainty=uncertainty
    )


def analyse_channels(channels: np.ndarray, rate: int, representation: Representation) -> Analysis:
    """Analyse the mean of channels `[channels, samples]`, resampled from `rate` Hz."""
    return analyse(mid_stream([channels], rate, representation.sample_rate), representation)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Number the names that occur more than once."""
    out = []
    for i, name in enumerate(names):
        number = names[: i + 1].count(name)
        out.append(f"{name}{number}" if names.count(name) > 1 else name)
    return tuple(out)
