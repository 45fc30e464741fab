"""The metrics that separated songs are scored by; a new one is a function and a row of METRICS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from gensep.evaluation import metrics
from gensep.evaluation.statistics import STATISTICS, Statistic
from gensep.runtime.errors import UserError
from gensep.runtime.spool import Spool

ESTIMATE, MIXTURE, ORACLE = "estimate", "mixture", "oracle"
BSS = ("SDR", "ISR", "SIR", "SAR")
GAINS = {"NSDR": "SDR", "NSIR": "SIR", "NSAR": "SAR"}  # over the mixture
WORDS = {
    "mode": ("v4", "v3"),
    "target": ("images", "sources"),
    "channels": ("together", "apart"),
    "over_frames": STATISTICS,
    "over_songs": STATISTICS,
}


@dataclass(frozen=True)
class Protocol:
    """Options that decide the scores of songs; those that are published are in PROTOCOLS.

    Raises:
        UserError: for a metric or another word that is not known, a number out of range, or a
            metric that the other options do not apply to.
    """

    metrics: tuple[str, ...] = ("bsseval", "si_sdr")
    win: float = 1.0  # seconds of a frame; 0 is the whole song
    hop: float = 1.0  # seconds from frame to frame
    mode: str = "v4"  # of BSSEval: filters of the whole track, or of each frame (v3)
    target: str = "images"  # of BSSEval, or "sources"
    channels: str = "together"  # or "apart": for BSSEval each is a source of its own
    over_frames: str = "median"  # statistic over the frames of a song, of BSSEval and its gains
    over_songs: str = "median"  # statistic that tables show first
    excerpt: float = 0.0  # seconds of an excerpt at random; 0 scores whole songs
    excerpts: int = 0  # how many are drawn in all; 0 is one per song
    seed: int = 0  # of the excerpts
    protocol: str = "sisec18"  # name in PROTOCOLS, some of whose options may be changed
    mixture: bool = True  # score the unprocessed mixture too
    oracle: bool = False  # score the mel-mask oracle too
    silent: str = "skip"  # or "refuse": stems that are silent throughout
    compat_nan: bool = False  # write NaN in place of null, as museval does

    def __post_init__(self) -> None:
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise UserError(f"metrics must be among {', '.join(METRICS)}, not {unknown[0]}")
        if not self.metrics:
            raise UserError(f"metrics must name at least one of {', '.join(METRICS)}")
        for name, words in WORDS.items():
            if (word := getattr(self, name)) not in words:
                raise UserError(f"{name} must be one of {', '.join(words)}, not '{word}'")
        if not (self.win >= 0 and self.hop > 0):
            what = "win and hop must be positive, or win 0 for the whole song"
            raise UserError(f"{what}, not {self.win} and {self.hop}")
        if min(self.excerpt, self.excerpts, self.seed) < 0:
            got = f"{self.excerpt}, {self.excerpts} and {self.seed}"
            raise UserError(f"excerpt, excerpts and seed must be at least 0, not {got}")
        if self.excerpts and not self.excerpt:
            remedy = "give --excerpt SECONDS, or --excerpts 0 for whole songs"
            raise UserError(f"{self.excerpts} excerpts have no length; {remedy}")
        if "sdr" in self.metrics and (self.target, self.channels) != ("images", "together"):
            problem = f"metric sdr does not know {self.target} with channels {self.channels}"
            raise UserError(f"{problem}; take --metrics bsseval")

    @property
    def framing(self) -> tuple[float, float]:
        """Length of a frame and distance between frames in seconds; infinity is the whole song."""
        return self.win or np.inf, self.hop


class SongWaves(NamedTuple):
    """Waves of one song, as metrics compare them; spools are `[source, channel, samples]`."""

    names: Sequence[str]  # of the sources
    methods: dict[str, Spool]  # ESTIMATE and what it is compared with, by name
    references: Spool
    mixture: Spool  # one source
    rate: int
    threads: int | None = None

    def sounding(self) -> tuple["SongWaves", list[str]]:
        """Return the sources that are not silent throughout, and a note for each other one.

        A method with a silent source among those is left out, because BSSEval is undefined for it.
        """
        silent = metrics.silent_throughout
        mute = silent(self.references)
        quiet = silent(self.methods[ESTIMATE]) & ~mute
        notes = [
            f"{name}'s {what} is silent throughout: no BSSEval"
            for what, which in (("reference", mute), ("estimate", quiet))
            for name, is_so in zip(self.names, which, strict=True)
            if is_so
        ]
        kept = [int(i) for i in np.flatnonzero(~mute & ~quiet)]
        methods = {method: waves.select(kept) for method, waves in self.methods.items() if kept}
        methods = {m: waves for m, waves in methods.items() if not silent(waves).any()}
        names, references = [self.names[i] for i in kept], self.references.select(kept)
        return self._replace(names=names, methods=methods, references=references), notes

    def apart(self) -> "SongWaves":
        """Return every channel as a source of its own, with the name of its stem."""
        names = [name for name in self.names for _ in range(self.references.shape[1])]
        methods = {method: waves.by_channel() for method, waves in self.methods.items()}
        references = self.references.by_channel()
        return self._replace(names=names, methods=methods, references=references)


# method -> name of the value -> `[source]`, or `[source, frame]` of a metric over frames
Measured = dict[str, dict[str, np.ndarray]]


class Metric(NamedTuple):
    """A row of METRICS."""

    measure: Callable[[SongWaves, Protocol], Measured]
    values: tuple[str, ...]  # names in the result files
    help: str
    # For a song, and for pooled frames; "protocol" is the statistic that the protocol names.
    over_frames: Statistic | Literal["protocol"] | None = None
    needs_sound: bool = False  # undefined for sources that are silent throughout


def _bsseval(song: SongWaves, protocol: Protocol) -> Measured:
    """Measure BSSEval; channels that are silent throughout are left out where they stand apart."""
    from gensep.evaluation.bsseval import bss_eval

    p, part = protocol, song
    if p.channels == "apart":
        part, _ = song.apart().sounding()
        if not part.methods:
            return {}
    win, hop = p.framing
    found = bss_eval(
        part.references,
        list(part.methods.values()),
        part.rate,
        win=win,
        hop=hop,
        mode=p.mode,
        target=p.target,
        threads=part.threads,
    )
    kept = [name for name in BSS if name != "ISR" or p.target == "images"]
    named = ({name: getattr(scores, name.lower()) for name in kept} for scores in found)
    measured = dict(zip(part.methods, named, strict=True))
    return _of_stems(measured, part.names, song.names) if p.channels == "apart" else measured


def _of_stems(measured: Measured, channels: Sequence[str], stems: Sequence[str]) -> Measured:
    """Average values over the channels of each stem; `channels` names the stem of every row."""

    def of_stem(rows: np.ndarray, stem: str) -> np.ndarray:
        mine = [row for row, name in zip(rows, channels, strict=True) if name == stem]
        return np.mean(mine, axis=0) if mine else np.full(rows.shape[1], np.nan)

    return {
        method: {name: np.stack([of_stem(rows, s) for s in stems]) for name, rows in named.items()}
        for method, named in measured.items()
    }


def _nsdr(song: SongWaves, protocol: Protocol) -> Measured:
    """Measure BSSEval and, frame by frame, its gain over the mixture as estimate of every source.

    The mixture has no artefacts but the rounding of the files, so that NSAR is far below zero.
    """
    mixture = song.mixture.select([0] * len(song.names))
    part, _ = song._replace(methods={**song.methods, MIXTURE: mixture}).sounding()
    found = _bsseval(part, protocol)
    base = found.get(MIXTURE, {})  # without it, because it is silent, no gain is known
    for values in found.values():
        with np.errstate(invalid="ignore"):
            values |= {n: values[x] - base.get(x, np.nan) for n, x in GAINS.items()}
    return {method: values for method, values in found.items() if method in song.methods}


def _sdr(song: SongWaves, protocol: Protocol) -> Measured:
    against, (win, hop) = (song.references, song.rate), protocol.framing
    measure = partial(metrics.framewise_sdr, win=win, hop=hop)
    return {m: {"SDR": measure(waves, *against)} for m, waves in song.methods.items()}


def _si_sdr(song: SongWaves, protocol: Protocol) -> Measured:
    """Measure SI-SDR (means removed) and its gain over the mixture."""
    del protocol
    references = [song.references.select([i]) for i in range(len(song.names))]
    base = np.array([metrics.si_sdr(song.mixture, reference) for reference in references])
    found: Measured = {}
    for method, waves in song.methods.items():
        values = base
        if method != MIXTURE:
            estimates = (waves.select([i]) for i in range(len(references)))
            pairs = zip(estimates, references, strict=True)
            values = np.array([metrics.si_sdr(*pair) for pair in pairs])
        with np.errstate(invalid="ignore"):
            gain = np.where(np.isfinite(base), values - base, np.nan)
        found[method] = {"si_sdr": values, "si_sdr_gain": gain}
    return found


def _msdm(song: SongWaves, protocol: Protocol) -> Measured:
    del protocol
    measure, against = metrics.msdm_gain, (song.references, song.mixture, song.rate)
    return {m: {"msdm_gain": measure(waves, *against)} for m, waves in song.methods.items()}


def _mel(song: SongWaves, protocol: Protocol) -> Measured:
    """Measure the RMS error of mel decibels, with the mixture brought to the level of the priors.

    The bands are always those of the shipped priors, so that methods stay comparable.
    """
    del protocol
    from gensep.audio.files import mid_stream
    from gensep.representation.analysis import Analysis, analyse
    from gensep.representation.mel import Representation

    form = Representation()

    def analysis(waves: Spool, source: int) -> Analysis:
        return analyse(mid_stream(waves.blocks(source), song.rate, form.sample_rate), form)

    level = analysis(song.mixture, 0).level
    gain = 10 ** ((form.level_db - level) / 10) if np.isfinite(level) else 1.0
    errors: dict[str, list[float]] = {method: [] for method in song.methods}
    for i in range(len(song.names)):
        reference = analysis(song.references, i).power * gain
        for method, waves in song.methods.items():
            power = analysis(waves, i).power * gain
            errors[method].append(metrics.mel_rmse(power, reference, form.floor))
    return {method: {"mel_rmse": np.array(values)} for method, values in errors.items()}


# Those with the most values are measured first; a row whose values another row has is left out.
METRICS = {
    "bsseval": Metric(_bsseval, BSS, "BSSEval: SDR, ISR, SIR, SAR", "protocol", needs_sound=True),
    "sdr": Metric(_sdr, ("SDR",), "SDR of BSSEval alone, fast", "protocol", needs_sound=True),
    "si_sdr": Metric(_si_sdr, ("si_sdr", "si_sdr_gain"), "scale-invariant SDR, gain over mixture"),
    "msdm": Metric(_msdm, ("msdm_gain",), "SI-SDR gain in windows of 4 s", np.mean),
    "mel": Metric(_mel, ("mel_rmse",), "RMS error of mel decibels"),
    "nsdr": Metric(
        _nsdr,
        (*BSS, *GAINS),
        "bsseval and its gains over the mixture: NSDR, NSIR, NSAR",
        "protocol",
        needs_sound=True,
    ),
}


def over_frames(value: str, protocol: Protocol | None = None) -> Statistic:
    """Return the statistic over the frames of a value, by its name in the result files."""
    rows = (metric.over_frames for metric in METRICS.values() if value in metric.values)
    found = next((statistic for statistic in rows if statistic is not None), "protocol")
    if isinstance(found, str):
        return STATISTICS[(protocol or Protocol()).over_frames]
    return found


def chosen(protocol: Protocol) -> list[Metric]:
    """Return the metrics of a protocol, without those that another one measures too."""
    found: list[Metric] = []
    named = [metric for name, metric in METRICS.items() if name in protocol.metrics]
    for metric in sorted(named, key=lambda metric: -len(metric.values)):
        known = {value for other in found for value in other.values}
        if not set(metric.values) <= known:
            found.append(metric)
    return found
