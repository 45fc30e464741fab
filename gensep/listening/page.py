"""The listening page: what it shows as JSON, its audio and images, and the HTML around them.

A browser may not `fetch` beside a page that was opened from disk. So a page is one file with
everything inside, or a folder whose audio lies in scripts that are loaded when a song is played.
"""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from gensep.listening.tracks import Run, Song
from gensep.runtime.errors import UserError

ASSETS = Path(__file__).parents[1] / "assets" / "report"
SCALE_DB = 70.0  # depth of the spectrograms' common scale
DEVIATION_DB = 15.0  # top of the scale of the posterior standard deviation
COLUMNS = 1500  # of an image, at most


def write_song(folder: Path, index: int, song: Song) -> dict[str, Any]:
    """Write `images/*.png` and `audio/INDEX.json` of a song; give what the page says of it.

    The audio is a list of base64 FLAC files of 16 bits, one a track. One gain for all tracks keeps
    the loudest sample within full scale, so that comparisons stay fair.
    """
    for name in ("audio", "images"):
        (folder / name).mkdir(exist_ok=True)
    peak = max(float(np.abs(track.wave).max()) for track in song.tracks)
    gain = min(1.0, 32767 / 32768 / max(peak, 1e-9))
    files = [
        base64.b64encode(flac(t.wave * np.float32(gain), song.rate)).decode() for t in song.tracks
    ]
    (folder / f"audio/{index}.json").write_text(json.dumps(files))
    images = _images(folder, index, song)
    tracks = [
        {"role": t.role, "source": t.source, "method": t.method, **images[i]}
        for i, t in enumerate(song.tracks)
    ]
    length = song.tracks[0].wave.shape[1]
    return {
        "name": song.name,
        "rate": song.rate,
        "seconds": length / song.rate,
        "start": song.start,
        "whole": song.whole,
        "channels": len(song.tracks[0].wave),
        "gain_db": round(20 * np.log10(gain), 2),
        "ticks": _ticks(song),
        "tracks": tracks,
        "scores": song.scores,
        "audio": f"audio/{index}.js",
        "runs": [about_run(run) for run in song.runs],
    }


def flac(wave: np.ndarray, rate: int) -> bytes:
    """Encode float `[channels, samples]` within full scale, of more than two channels the mean.

    Integers n of 16 bits stand for n / 32768, so what came from a file of 16 bits stays as it is.
    """
    wave = wave.mean(0, keepdims=True) if len(wave) > 2 else wave
    samples = np.clip(np.rint(wave.T.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    except soundfile.SoundFileError:
        raise UserError(f"no flac can have a rate of {rate} Hz; resample the mixture") from None
    return file.getvalue()


def about_run(run: Run) -> dict[str, Any]:
    """Give what the page says of a separation: its facts as pairs, command and versions."""
    record, settings = run.record, run.record.get("settings", {})
    speed, residual = record.get("sampling_seconds_per_second"), record.get("residual_db")
    facts = {
        "preset": run.option("preset"),
        "sampler": settings.get("sampler"),
        "noise levels": settings.get("steps"),
        "posterior samples": settings.get("samples"),
        "seed": settings.get("seed"),
        "priors": ", ".join(Path(p).name for p in run.option("priors", ())) or None,
        "sampling time": f"{speed:.2f} s per second of audio" if speed else None,
        "residual": f"{residual:.2f} dB" if residual is not None else None,
    }
    return {
        "method": run.method,
        "command": record.get("command"),
        "facts": [[k, str(v)] for k, v in facts.items() if v is not None],
        "versions": record.get("versions", {}),
        "commit": record.get("commit", ""),
    }


def overview(songs: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the table over songs: mean gain over the sources by method, and the oracle's."""
    from gensep.evaluation.statistics import mean_known as mean

    methods = list(dict.fromkeys(method for song in songs for method in song["scores"]))
    rows = []
    for song in songs:
        scores = [song["scores"].get(method, {}).values() for method in methods]
        first: dict[str, Any] = next(iter(song["scores"].values()), {})
        ideal = [row.get("oracle_si_sdr_gain") for row in first.values()]
        rows.append(
            {
                "name": song["name"],
                "oracle": mean(ideal),
                "gains": [mean(row.get("si_sdr_gain") for row in of) for of in scores],
            }
        )
    columns = zip(*(row["gains"] for row in rows), strict=True)
    return {
        "methods": methods,
        "rows": rows,
        "mean": [mean(column) for column in columns],
        "oracle": mean(row["oracle"] for row in rows),
    }


def size(folder: Path) -> int:
    """Give the bytes that a page with everything inside takes."""
    return sum(
        p.stat().st_size * (4 if p.suffix == ".png" else 3) // 3
        for p in folder.rglob("*")
        if p.is_file()
    )


def one_file(folder: Path, data: dict[str, Any]) -> str:
    """Give the page with the images and the audio of `folder` inside."""
    blocks = []
    for i, song in enumerate(data["songs"]):
        song["audio"] = None
        blocks.append(
            f'<script type="application/json" id="audio-{i}">'
            f"{(folder / f'audio/{i}.json').read_text()}</script>"
        )
        for track in song["tracks"]:
            for name in ("image", "deviation"):
                if track[name]:
                    code = base64.b64encode((folder / track[name]).read_bytes()).decode()
                    track[name] = f"data:image/png;base64,{code}"
    return render(data, "\n".join(blocks))


def make_folder(folder: Path, data: dict[str, Any]) -> None:
    """Turn `folder` into a page with its audio in scripts beside it."""
    for i in range(len(data["songs"])):
        source = folder / f"audio/{i}.json"
        source.with_suffix(".js").write_text(f"register({i}, {source.read_text()});\n")
        source.unlink()
    (folder / "index.html").write_text(render(data, ""), "utf-8")


def render(data: dict[str, Any], blocks: str) -> str:
    """Put data and scripts into the template."""
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no tag ends the block
    names = ("page.html", "page.css", "player.js", "draw.js", "page.js")
    template, css, *js = [(ASSETS / name).read_text("utf-8") for name in names]
    parts = {"css": css, "js": "".join(js), "data": text, "audio": blocks}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _images(folder: Path, index: int, song: Song) -> list[dict[str, str | None]]:
    """Draw every track on one scale; give the paths of its images."""
    from gensep.audio.files import mid_stream
    from gensep.plots.spectrograms import image
    from gensep.representation.analysis import analyse

    to = song.representation.sample_rate
    levels = []
    for track in song.tracks:
        mid = mid_stream([track.wave], song.rate, to)
        power = _narrow(analyse(mid, song.representation).power)
        levels.append(10 * np.log10(np.maximum(power, 1e-10)))
    top = max(float(level.max()) for level in levels)
    paths = []
    for i, (track, level) in enumerate(zip(song.tracks, levels, strict=True)):
        path, deviation = f"images/{index}-{i}.png", None
        (folder / path).write_bytes(image(level, top - SCALE_DB, top))
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


def _ticks(song: Song) -> list[tuple[str, float]]:
    """Give labels of frequencies and their heights in the images, from 0 below to 1."""
    from gensep.plots.spectrograms import mel_places

    places = mel_places(song.representation, (300, 1000, 3000))
    return [
        (f"{h / 1000:g}k" if h >= 1000 else str(h), round(p / song.representation.n_mels, 4))
        for h, p in places.items()
    ]
