"""The metrics that separated songs are scored by; a new one is a function and a row of METRICS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gensep.evaluation import metrics
from gensep.runtime.errors import UserError
from gensep.runtime.spool import Spool

ESTIMATE, MIXTURE, ORACLE = "estimate", "mixture", "oracle"
BSS = ("SDR", "ISR", "SIR", "SAR")


@dataclass(frozen=True)
class Protocol:
    """Options that decide the scores of a song.

    Raises:
        UserError: for a metric that METRICS lacks, or a window or hop that is not positive.
    """

    metrics: tuple[str, ...] = ("bsseval", "si_sdr")
    win: float = 1.0  # seconds of a frame
    hop: float = 1.0  # seconds from frame to frame
    mode: str = "v4"  # of BSSEval
    mixture: bool = True  # score the unprocessed mixture too
    oracle: bool = False  # score the mel-mask oracle too
    silent: str = "skip"  # or "refuse": stems that are silent throughout
    compat_nan: bool = False  # write NaN in place of null, as museval does

    def __post_init__(self) -> None:
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise UserError(f"metrics must be among {', '.join(METRICS)}, not {unknown[0]}")
        if not self.metrics:
            raise UserError(f"metrics must name at least one of {', '.join(METRICS)}")
        if not (self.win > 0 and self.hop > 0):
            raise UserError(f"win and hop must be positive, not {self.win} and {self.hop}")


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


# method -> name of the value -> `[source]`, or `[source, frame]` of a metric over frames
Measured = dict[str, dict[str, np.ndarray]]


class Metric(NamedTuple):
    """A row of METRICS."""

    measure: Callable[[SongWaves, Protocol], Measured]
    values: tuple[str, ...]  # names in the result files
    help: str
    over_frames: Callable[..., np.floating] | None = None  # for a song, and for pooled frames
    needs_sound: bool = False  # undefined for sources that are silent throughout


def _bsseval(song: SongWaves, protocol: Protocol) -> Measured:
    from gensep.evaluation.bsseval import bss_eval

    p, waves = protocol, (song.references, list(song.methods.values()), song.rate)
    found = bss_eval(*waves, win=p.win, hop=p.hop, mode=p.mode, threads=song.threads)
    named = (dict(zip(BSS, scores, strict=True)) for scores in found)
    return dict(zip(song.methods, named, strict=True))


def _sdr(song: SongWaves, protocol: Protocol) -> Measured:
    true, rate, how = song.references, song.rate, {"win": protocol.win, "hop": protocol.hop}
    measure = metrics.framewise_sdr
    return {m: {"SDR": measure(waves, true, rate, **how)} for m, waves in song.methods.items()}


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


# Measured in this order; a row whose values an earlier row has is left out.
METRICS = {
    "bsseval": Metric(_bsseval, BSS, "BSSEval v4: SDR, ISR, SIR, SAR", np.median, needs_sound=True),
    "sdr": Metric(_sdr, ("SDR",), "SDR of BSSEval alone, fast", np.median, needs_sound=True),
    "si_sdr": Metric(_si_sdr, ("si_sdr", "si_sdr_gain"), "scale-invariant SDR, gain over mixture"),
    "msdm": Metric(_msdm, ("msdm_gain",), "SI-SDR gain in windows of 4 s", np.mean),
    "mel": Metric(_mel, ("mel_rmse",), "RMS error of mel decibels"),
}


def over_frames(value: str) -> Callable[..., np.floating]:
    """Return the statistic over the frames of a value, by its name in the result files."""
    rows = (metric for metric in METRICS.values() if value in metric.values)
    return next((r.over_frames for r in rows if r.over_frames is not None), np.median)


def chosen(protocol: Protocol) -> list[Metric]:
    """Return the metrics of a protocol, without those that another one measures too."""
    found: list[Metric] = []
    for name, metric in METRICS.items():
        known = {value for other in found for value in other.values}
        if name in protocol.metrics and not set(metric.values) <= known:
            found.append(metric)
    return found
