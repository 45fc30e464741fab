"""Published protocols of evaluation, and their description in words; a new one is a row."""

from dataclasses import fields

from gensep.evaluation.measures import METRICS, Protocol

# Each row restates how the scores of a campaign or paper were computed and averaged.
PROTOCOLS = {
    # SiSEC 2018 (Stoeter et al. 2018), the defaults of museval; SI-SDR is an addition.
    "sisec18": Protocol(protocol="sisec18"),
    # The script that SiSEC 2016 distributed with DSD100 (Liutkus et al. 2017), averaged like the
    # figures of DeepConvSep (Chandna et al. 2017): all frames by their ratios of energies.
    "dsd100": Protocol(
        protocol="dsd100",
        metrics=("bsseval",),
        win=30.0,
        hop=15.0,
        mode="v3",
        over_frames="power",
        over_songs="power",
    ),
    # Voice and accompaniment of iKala (Chan et al. 2015), whole clips against the mixture, as MIREX
    # does since 2014 and DeepConvSep did.
    "ikala": Protocol(
        protocol="ikala",
        metrics=("nsdr",),
        win=0.0,
        mode="v3",
        target="sources",
        over_frames="mean",
        over_songs="mean",
    ),
    # Bach10 in DeepConvSep (Miron et al. 2017): whole pieces, one channel.
    "bach10": Protocol(
        protocol="bach10",
        metrics=("bsseval",),
        win=0.0,
        mode="v3",
        target="sources",
        over_frames="mean",
        over_songs="mean",
    ),
    # PytorchConvSep: `bss_eval_images` of mir_eval on excerpts, every channel as a source.
    "mir_eval_excerpts": Protocol(
        protocol="mir_eval_excerpts",
        metrics=("bsseval",),
        win=0.0,
        mode="v3",
        channels="apart",
        over_frames="mean",
        over_songs="mean",
        excerpt=6.0,
        excerpts=50,
    ),
}
# Columns of a table of scores, the statistic that the protocol names first.
COLUMNS = {
    "median": ("median", "mean", "sd"),
    "mean": ("mean", "sd", "median"),
    "power": ("power", "mean", "sd"),
}


def describe(protocol: Protocol) -> str:
    """Return one line on how songs are scored and which options differ from the named protocol."""
    p, parts = protocol, [f"metrics {' '.join(protocol.metrics)}"]
    if any(METRICS[name].over_frames == "protocol" for name in p.metrics):
        parts.append(f"BSSEval {p.mode} of {p.target}")
        parts.append(f"frames of {p.win:g} s every {p.hop:g} s" if p.win else "one frame in all")
        parts += ["every channel as a source"] * (p.channels == "apart")
    if p.excerpt:
        many = f"{p.excerpts} excerpts" if p.excerpts else "an excerpt of each song"
        parts.append(f"{many} of {p.excerpt:g} s at random, seed {p.seed}")
    published = PROTOCOLS.get(p.protocol, Protocol())
    names = [f.name for f in fields(p) if getattr(p, f.name) != getattr(published, f.name)]
    parts += [f"changed: {', '.join(names)}"] * bool(names)
    return f"protocol {p.protocol}: {'; '.join(parts)}"


def aggregation(protocol: Protocol) -> str:
    """Return what the columns of a table of scores mean."""
    p, many = protocol, unit(protocol)
    parts = [
        f"value of {'an excerpt' if p.excerpt else 'a song'}: {p.over_frames} over frames "
        "(msdm_gain: mean over windows)",
        f"{', '.join(COLUMNS[p.over_songs])}: over {many}, sd is the standard deviation",
        f"pooled: {p.over_frames} of the frames of all {many}",
    ]
    if "power" in (p.over_frames, p.over_songs):
        parts.append("power: 10 log10 of the mean of 10^(dB/10)")
    return "; ".join([*parts, f"[95 % bootstrap interval over {many}]"])


def unit(protocol: Protocol) -> str:
    """Return what is scored: songs or excerpts."""
    return "excerpts" if protocol.excerpt else "songs"
