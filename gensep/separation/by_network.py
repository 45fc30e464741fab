"""Separation by a network of mixtures, in one pass and without sampling."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gensep.audio.files import Shape
from gensep.cli.options import StemChoice
from gensep.cli.records import Json
from gensep.inversion.masking import apply_masks
from gensep.representation.analysis import Analysis, analyse
from gensep.representation.blocks import FrameBuffer
from gensep.representation.mel import Representation
from gensep.runtime.errors import UserError
from gensep.separation.collected import Masks
from gensep.separation.method import Progress, Separated, Sound, wave_of
from gensep.separation.stems import choose_stems
from gensep.separators.apply import Filtering, ScoreMasks, separate_blocks
from gensep.separators.files import LoadedSeparator, load_separator
from gensep.separators.mel_mask import MelMask
from gensep.separators.score_masks import NoteGrid, harmonic_masks, note_rows
from gensep.separators.windows import over_spans

MEL_FRAMES = 1024  # that a mel mask sees at once


@dataclass(frozen=True)
class ByNetwork:
    """Separation by a network, a `gensep.separation.method.Method`; make it with `by_network`."""

    separator: LoadedSeparator
    how: Filtering = Filtering()
    scores: str | None = None  # folder of scores, for networks that are informed by them

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources."""
        return self.separator.sources

    @property
    def form(self) -> Representation:
        """Representation of a mel mask; for other networks that of the shipped priors."""
        network = self.separator.network
        return network.form if isinstance(network, MelMask) else Representation()

    @property
    def masked(self) -> bool:
        """Whether the network gives masks of mel bands."""
        return isinstance(self.separator.network, MelMask)

    @property
    def settings(self) -> Json:
        """The network and how its estimates become stems."""
        about = {"separator": self.separator.name, "network": self.separator.settings["network"]}
        return about if self.masked else about | self.how._asdict()

    def separate(self, mixture: Sound, progress: Progress = lambda done, total: None) -> Separated:
        """Separate a mixture; its blocks are made as they are read."""
        network, shape, began = self.separator.network, mixture.shape(), time.perf_counter()
        facts: Json = {}
        seconds = shape.samples / shape.rate
        if not isinstance(network, MelMask):
            score = self._score(shape, mixture.start) if self.scores else None
            work = self.separator, mixture.blocks, shape, self.how, score, progress
            return Separated(_timed(separate_blocks(*work), facts, seconds, began), facts)
        analysis = analyse(mixture.mid(self.form.sample_rate), self.form)
        masks = mel_masks(network, analysis, progress)
        blocks = apply_masks(mixture.blocks(), shape.rate, masks, self.form)
        kept = Masks(masks, np.zeros(0), 0.0, time.perf_counter() - began)
        return Separated(_timed(blocks, facts, seconds, began), facts, kept, analysis.power)

    def _score(self, shape: Shape, start: float) -> ScoreMasks:
        """Return the masks of the scores of the sources, from `start` seconds on."""
        from gensep.rendering.score_text import ALIGNED, SCORE_TEXT, read_score_folder

        spectra, folder = self.separator.spectra, Path(self.scores or "")
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder} of scores; check the name")
        suffix = ALIGNED if any(folder.glob(f"*{ALIGNED}{SCORE_TEXT}")) else ""
        compat = bool(self.separator.settings.get("compat", False))
        tracks = read_score_folder(folder, suffix, self.names, compat=compat).tracks
        sizes = spectra.sample_rate, spectra.hop_length, spectra.n_fft
        grid = NoteGrid(*sizes, compat=compat)
        frames = spectra.frames(round(shape.samples * spectra.sample_rate / shape.rate))
        rows = [note_rows(tracks[name], grid, frames, start) for name in self.names]

        def masks(first: int, count: int) -> np.ndarray:
            here = [r[(r[:, 1] > first) & (r[:, 0] < first + count)] for r in rows]
            return harmonic_masks(here, grid, count, first)

        return masks


def by_network(
    model: str | LoadedSeparator,
    niter: int = 0,
    scores: str | None = None,
    *,
    softmask: bool = False,
    residual: bool = False,
) -> ByNetwork:
    """Load a separator and check that the options fit it.

    Args:
        model: shipped name, run folder, file or a loaded separator.
        niter: iterations of EM, of multichannel Wiener filters (see `gensep.inversion.em`).
        scores: folder of score text files `SOURCE*.txt`, for networks that are informed by scores.
        softmask: the stems are the mixture times ratios of the estimates.
        residual: what the estimates leave of the mixture takes part in EM.

    Raises:
        UserError: if there is no such separator, or an option does not fit it.
    """
    separator = model if isinstance(model, LoadedSeparator) else load_separator(model)
    name, masked = separator.name, isinstance(separator.network, MelMask)
    if niter < 0:
        raise UserError(f"niter must be at least 0, not {niter}")
    if masked and (niter or softmask):
        raise UserError(
            f"{name} gives masks of mel bands: niter and softmask are for networks of spectra; use "
            "save_masks and 'python -m gensep.invert --method em_wiener'"
        )
    if niter and len(separator.sources) < 2 and not residual:
        raise UserError(
            f"{name} gives one source, {separator.sources[0]}, and niter needs another one beside "
            "it; ask for the residual as well"
        )
    if separator.family.scored and scores is None:
        raise UserError(f"{name} needs the scores of its sources; name their folder as scores")
    if scores is not None and not separator.family.scored:
        raise UserError(f"{name} reads no scores; leave them away")
    return ByNetwork(separator, Filtering(niter, softmask, residual), scores)


def mel_masks(network: MelMask, mixture: Analysis, progress: Progress) -> np.ndarray:
    """Return the masks `[source, frame, mel]` of an analysed mixture, at the level of the priors.

    They are those of the whole file at once, but made part by part. All sources have equal shares
    of silence.
    """
    frames = len(mixture.power)
    if not np.isfinite(mixture.level):
        return np.full((network.sources, *mixture.power.shape), 1 / network.sources, np.float32)
    power = mixture.at_level(network.form.level_db)

    def masks(power: np.ndarray) -> np.ndarray:
        return np.asarray(_masks(network, jnp.asarray(power[:, 0])))

    parts, done = [], 0
    for part in over_spans(masks, FrameBuffer([power[None]]), frames, MEL_FRAMES, network.reach, 0):
        parts.append(part)
        done += part.shape[-2]
        progress(done, frames)
    return np.concatenate(parts, axis=-2)


@jax.jit
def _masks(network: MelMask, power: jax.Array) -> jax.Array:
    return network.masks(power)


def _timed(
    blocks: Iterator[np.ndarray], facts: Json, seconds: float, began: float
) -> Iterator[np.ndarray]:
    """Pass blocks on; at the end say how long they took, of a mixture of so many seconds."""
    taken = time.perf_counter() - began
    while True:
        before = time.perf_counter()
        block = next(blocks, None)
        taken += time.perf_counter() - before
        if block is None:
            break
        yield block
    facts["separation_seconds"] = round(taken, 2)
    facts["separation_seconds_per_second"] = round(taken / seconds, 4)


def separate_by(
    audio: np.ndarray, rate: int, model: str | LoadedSeparator, **options: object
) -> dict[str, np.ndarray]:
    """Separate a mixture in memory by a network; see `gensep.separate`.

    Args:
        audio: float `[samples]` or `[channels, samples]`.
        rate: of `audio`, Hz.
        model: shipped name, run folder, file or a loaded separator.
        options: niter, softmask and scores, see `by_network`; targets, two_stems, residual and
            aggregate, see `gensep.cli.options.StemChoice`.

    Returns:
        Name of the stem -> float32, shaped like `audio`.

    Raises:
        UserError: for audio that is empty or not finite, an unknown model, or wrong options.
    """
    of_choice = {f.name for f in fields(StemChoice)}
    known = {"niter", "softmask", "scores", *of_choice}
    if unknown := [name for name in options if name not in known]:
        raise UserError(f"unknown option {unknown[0]}; known: {', '.join(sorted(known))}")
    mixture = wave_of(audio, rate)
    choice = StemChoice(**{k: v for k, v in options.items() if k in of_choice})  # type: ignore[arg-type]
    rest = {k: v for k, v in options.items() if k not in of_choice}
    method = by_network(model, residual=choice.residual, **rest)  # type: ignore[arg-type]
    stems = choose_stems(method.names, choice)
    sources = np.concatenate(list(method.separate(mixture).blocks), -1)
    waves = stems.mix(sources, mixture.channels)
    return dict(zip(stems.names, waves.reshape(len(waves), *np.shape(audio)), strict=True))
