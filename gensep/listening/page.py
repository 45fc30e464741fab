"""The listening page: what it shows as JSON, its audio and images, and the HTML around them.

Browsers do not let a page that was opened from disk `fetch` files. So a page is one file with
everything inside, or a folder whose audio lies in scripts that are loaded when a song is played.
"""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from gensep.audio.files import mid_stream
from gensep.cli.records import Json
from gensep.evaluation.statistics import mean_known
from gensep.listening.tracks import PlayedSong, Run
from gensep.plots.spectrograms import image, mel_places
from gensep.representation.analysis import analyse
from gensep.runtime.errors import UserError

ASSETS = Path(__file__).parents[1] / "assets" / "report"
SCALE_DB = 70.0  # range of the scale that all spectrograms share
DEVIATION_DB = 15.0  # largest posterior standard deviation on its scale
COLUMNS = 1500  # an image has at most


def write_song(folder: Path, index: int, song: PlayedSong) -> Json:
    """Write `images/*.png` and `audio/INDEX.json` of a song; return what the page says about it.

    The audio is a list of base64 FLAC files of 16 bits, one per track. All tracks share one gain,
    which keeps the loudest sample within full scale, so that comparisons stay fair.
    """
    for name in ("audio", "images"):
        (folder / name).mkdir(exist_ok=True)
    peak = max(float(np.abs(track.wave).max()) for track in song.tracks)
    gain = min(1.0, 32767 / 32768 / max(peak, 1e-9))
    files = [_base64(flac(track.wave * np.float32(gain), song.rate)) for track in song.tracks]
    (folder / f"audio/{index}.json").write_text(json.dumps(files))
    tracks = []
    for track, drawn in zip(song.tracks, _images(folder, index, song), strict=True):
        about = {"role": track.role, "source": track.source, "method": track.method}
        tracks.append({**about, **drawn})
    channels, length = song.tracks[0].wave.shape
    return {
        "name": song.name,
        "rate": song.rate,
        "seconds": length / song.rate,
        "start": song.start,
        "whole": song.whole,
        "channels": channels,
        "gain_db": round(20 * np.log10(gain), 2),
        "ticks": _ticks(song),
        "tracks": tracks,
        "scores": song.scores,
        "audio": f"audio/{index}.js",
        "runs": [about_run(run) for run in song.runs],
    }


def flac(wave: np.ndarray, rate: int) -> bytes:
    """Encode float `[channels, samples]` within full scale as FLAC of 16 bits.

    More than two channels become their mean. An integer n stands for n / 32768, so samples that
    came from a file of 16 bits are kept exactly.

    Raises:
        UserError: if FLAC does not allow the rate.
    """
    wave = wave.mean(0, keepdims=True) if len(wave) > 2 else wave
    samples = np.clip(np.rint(wave.T.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    except soundfile.SoundFileError:
        raise UserError(f"no flac can have a rate of {rate} Hz; resample the mixture") from None
    return file.getvalue()


def about_run(run: Run) -> Json:
    """Return what the page says about a separation: facts in pairs, command and versions."""
    record, options = run.separation.record, run.separation.options
    settings = record.get("settings", {})
    speed, residual = record.get("sampling_seconds_per_second"), record.get("residual_db")
    whole = record.get("separation_seconds_per_second")
    network = [settings[name] for name in ("separator", "network") if name in settings]
    facts = {
        "network": ", a ".join(network) or None,
        "preset": options.get("preset"),
        "sampler": settings.get("sampler"),
        "noise levels": settings.get("steps"),
        "posterior samples": settings.get("samples"),
        "seed": settings.get("seed"),
        "priors": ", ".join(Path(p).name for p in options.get("priors", ())) or None,
        "sampling time": f"{speed:.2f} s per second of audio" if speed else None,
        "time": f"{whole:.2f} s per second of audio" if whole else None,
        "Wiener iterations": settings.get("niter") or None,
        "residual": f"{residual:.2f} dB" if residual is not None else None,
    }
    return {
        "method": run.method,
        "command": record.get("command"),
        "facts": [[k, str(v)] for k, v in facts.items() if v is not None],
        "uncertainty": about_uncertainty(record.get("uncertainty")),
        "versions": record.get("versions", {}),
        "commit": record.get("commit", ""),
    }


def about_uncertainty(facts: Json | None) -> Json | None:
    """Return the table of a separation's uncertainty and what explains it, None without one."""
    if facts is None:
        return None
    level, samples = f"{facts['level']:.0%}", facts["samples"]
    columns: dict[str, Callable[[Json], str]] = {
        "deviation, dB": lambda row: f"{row['mean_sd_db']:.1f}",
        "judged, dB": lambda row: f"{row['judged_mean_sd_db']:.1f}",
        "between explanations": lambda row: f"{row['between_explanations']:.0%}",
        f"energy, {level} of samples, dB": lambda row: "{:.1f} to {:.1f}".format(*row["energy_db"]),
        "judged energy, dB": lambda row: f"{row['judged_energy_db']:.1f}",
    }
    note = (
        f"Deviation: standard deviation of a bin's level over {samples} posterior samples, mean "
        "over the file. Energies are relative to the mixture's."
    )
    if "effective_samples" in facts:
        note += (
            " Judged: with the weights of the judge, under which the samples count like "
            f"{facts['effective_samples']:.1f} of equal weight. Between explanations: the part of "
            "the variance that disappears with these weights; an upper bound, since fewer samples "
            "also vary less."
        )
    else:  # samples of equal weight
        columns = {k: f for k, f in columns.items() if k.startswith(("deviation", "energy"))}
    rows = [[name, *(f(row) for f in columns.values())] for name, row in facts["sources"].items()]
    return {"heads": ["Uncertainty", *columns], "rows": rows, "note": note}


def overview(songs: list[Json]) -> Json:
    """Return the table of songs: gains in SI-SDR by method, and the oracle's, mean over sources."""
    methods = list(dict.fromkeys(method for song in songs for method in song["scores"]))
    rows = []
    for song in songs:
        scores = [song["scores"].get(method, {}).values() for method in methods]
        first: Json = next(iter(song["scores"].values()), {})
        ideal = mean_known(row.get("oracle_si_sdr_gain") for row in first.values())
        gains = [mean_known(row.get("si_sdr_gain") for row in of_method) for of_method in scores]
        rows.append({"name": song["name"], "oracle": ideal, "gains": gains})
    means = [mean_known(column) for column in zip(*(row["gains"] for row in rows), strict=True)]
    oracle = mean_known(row["oracle"] for row in rows)
    return {"methods": methods, "rows": rows, "mean": means, "oracle": oracle}


def size(folder: Path) -> int:
    """Return how many bytes a page with all files of `folder` inside takes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(p.stat().st_size * (4 if p.suffix == ".png" else 3) // 3 for p in files)


def one_file(folder: Path, data: Json) -> str:
    """Return the page with the images and the audio of `folder` inside."""
    blocks = []
    for i, song in enumerate(data["songs"]):
        song["audio"] = None
        audio = (folder / f"audio/{i}.json").read_text()
        blocks.append(f'<script type="application/json" id="audio-{i}">{audio}</script>')
        for track in song["tracks"]:
            for name in ("image", "deviation"):
                if track[name]:
                    code = _base64((folder / track[name]).read_bytes())
                    track[name] = f"data:image/png;base64,{code}"
    return render(data, "\n".join(blocks))


def make_folder(folder: Path, data: Json) -> None:
    """Turn `folder` into a page whose audio lies in scripts beside it."""
    for i in range(len(data["songs"])):
        source = folder / f"audio/{i}.json"
        source.with_suffix(".js").write_text(f"register({i}, {source.read_text()});\n")
        source.unlink()
    (folder / "index.html").write_text(render(data, ""), "utf-8")


def render(data: Json, blocks: str) -> str:
    """Return the HTML of a page from its data and the script elements of its audio."""
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # so no tag ends the script
    names = ("page.html", "page.css", "player.js", "draw.js", "page.js")
    template, css, *js = [(ASSETS / name).read_text("utf-8") for name in names]
    parts = {"css": css, "js": "".join(js), "data": text, "audio": blocks}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _images(folder: Path, index: int, song: PlayedSong) -> list[dict[str, str | None]]:
    """Draw every track on one scale; return the paths of its images."""
    to = song.representation.sample_rate
    decibels = []
    for track in song.tracks:
        mid = mid_stream([track.wave], song.rate, to)
        power = _narrow(analyse(mid, song.representation).power)
        decibels.append(10 * np.log10(np.maximum(power, 1e-10)))
    top = max(float(values.max()) for values in decibels)
    paths = []
    for i, (track, values) in enumerate(zip(song.tracks, decibels, strict=True)):
        path, deviation = f"images/{index}-{i}.png", None
        (folder / path).write_bytes(image(values, top - SCALE_DB, top))
        if track.deviation is not None:
            deviation = f"images/{index}-{i}-deviation.png"
            drawn = image(_narrow(track.deviation), 0, DEVIATION_DB, "viridis")
            (folder / deviation).write_bytes(drawn)
        paths.append({"image": path, "deviation": deviation})
    return paths


def _narrow(values: np.ndarray) -> np.ndarray:
    """Average neighbouring frames of `[frame, mel]` until an image is no wider than COLUMNS."""
    step = -(-len(values) // COLUMNS)
    whole = np.pad(values, ((0, -len(values) % step), (0, 0)), mode="edge")
    return whole.reshape(-1, step, values.shape[1]).mean(1)


def _ticks(song: PlayedSong) -> list[tuple[str, float]]:
    """Return labels of frequencies and their heights in the images, 0 at the bottom to 1."""
    places = mel_places(song.representation, (300, 1000, 3000))
    names = [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in places]
    heights = [round(place / song.representation.n_mels, 4) for place in places.values()]
    return list(zip(names, heights, strict=True))
