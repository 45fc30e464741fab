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
        over_songs="mean",
    ),
    # Bach10 in DeepConvSep (Miron et al. 2017): whole pieces, one channel.
    "bach10": Protocol(
        protocol="bach10",
        metrics=("bsseval",),
        win=0.0,
        mode="v3",
        target="sources",
        over_songs="mean",
    ),
    # PytorchConvSep: `bss_eval_images` of mir_eval on excerpts, every channel as a source.
    "mir_eval_excerpts": Protocol(
        protocol="mir_eval_excerpts",
        metrics=("bsseval",),
        win=0.0,
        mode="v3",
        channels="apart",
        over_songs="mean",
        excerpt=6.0,
        excerpts=50,
    ),
}
POWER = "power mean (10 log10 of the mean of 10^(dB/10))"


def describe(protocol: Protocol) -> str:
    """Return one line on how songs are scored and which options differ from the named protocol."""
    p, parts = protocol, [f"metrics {' '.join(protocol.metrics)}"]
    if any(METRICS[name].over_frames == "protocol" for name in p.metrics):
        parts.append(f"BSSEval {p.mode} of {p.target}")
        parts.append(f"frames of {p.win:g} s every {p.hop:g} s" if p.win else "whole songs")
        parts += ["every channel as a source"] * (p.channels == "apart")
    if p.excerpt:
        many = f"{p.excerpts} excerpts" if p.excerpts else "an excerpt per song"
        parts.append(f"{many} of {p.excerpt:g} s at random, seed {p.seed}")
    published = PROTOCOLS[p.protocol]
    names = [f.name for f in fields(p) if getattr(p, f.name) != getattr(published, f.name)]
    parts += [f"changed: {', '.join(names)}"] * bool(names)
    return f"protocol {p.protocol}: {'; '.join(parts)}"


def aggregation(protocol: Protocol) -> str:
    """Return what the columns of a table of scores mean."""
    how = {"median": "median", "mean": "mean", "power": POWER}
    frames, songs = how[protocol.over_frames], protocol.over_songs
    unit = "excerpts" if protocol.excerpt else "songs"
    columns = [f"over {unit} of the {frames} over frames", f"standard deviation over {unit}"]
    return (
        f"{'power: ' + POWER if songs == 'power' else 'median: median'} {columns[0]}; "
        f"mean and sd: mean and {columns[1]} of the same; pooled: {frames} of the frames of all "
        f"{unit} (msdm_gain: means of windows in the place of frames); "
        f"[95 % bootstrap interval over {unit}]"
    )
