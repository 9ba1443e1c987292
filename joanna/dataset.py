"""The files between the stages, scaling, and windows of frames."""

import functools
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np

from joanna import store
from joanna.errors import UserError
from joanna.settings import ROOT, bottleneck, command, hop

# endings of the files of a folder that are taken for recordings
_RECORDINGS = {
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".caf",
    ".w64",
}
COMPONENTS = ("phase", "magnitude")

# The settings that what a stage writes depends on, with those of the stages before it.
_KEYS = {
    "preprocess": [
        "sample-rate",
        "frame-length",
        "overlap",
        "magnitude-power",
        "section-count",
        "block-count",
        "start",
        "seconds",
    ],
    "autoencoder": ["layer-count", "dim-decrease"],
    "lstm": ["lstm-layers"],
}
# Those that change what is learned, but not how it can be used.
_TRAINING_KEYS = {
    "autoencoder": ["dropout", "batch-size", "learning-rate", "random-seed", "minutes"],
    "lstm": ["window-length", "window-batch", "generator-rate", "own-share"],
}


def source_path(settings: dict, key: str = "source") -> Path:
    """The source's path; a relative one counts from the project's folder."""
    try:
        return ROOT / Path(settings[key]).expanduser()
    except RuntimeError:  # ~ of a user there is none of
        raise UserError(f"{key} is {settings[key]}: there is no such home folder") from None


def source_files(settings: dict) -> list[Path]:
    """The source, or the recordings in it by name if it is a folder.

    Raises:
        UserError: there is none.
    """
    path = source_path(settings)
    if path.is_file():
        return [path]
    files = path.glob("[!.]*") if path.is_dir() else []  # macOS leaves ._ files beside others
    files = sorted(file for file in files if file.suffix.lower() in _RECORDINGS)
    if not files:
        what = "no recordings in it" if path.is_dir() else "no such file"
        raise UserError(f"source {path}: {what}; put a recording there or set 'source'")
    return files


def load_source(settings: dict) -> tuple[np.ndarray, list[str]]:
    """What is to be learned from: the source from `start` on, or even shares of a folder's recordings.

    Returns:
        audio ``(S,)`` float32 at sample-rate, `seconds` of it at most, and of a folder what the sections
        take at most; and sentences on what was changed.

    Raises:
        UserError: as of `audio.load_audio`, or all of it ends before `start`.
    """
    from joanna import audio  # scipy takes a second to import

    files, rate, parts, said = source_files(settings), settings["sample-rate"], [], []
    left_out = []
    start, wanted = (round(settings[key] * rate) for key in ("start", "seconds"))
    for path in files:
        samples, notes = audio.load_audio(path, rate)
        if start >= len(samples):
            left_out.append(f"{path.name} lasts {len(samples) / rate:.1f} s")
            continue
        said += [f"{'source' if len(files) == 1 else path.name}: {note}" for note in notes]
        parts.append(samples[start:])
    if not parts:
        raise UserError(f"start is {settings['start']:g}; {', '.join(left_out[:3])}: lower it")
    said += [f"{what}, ends before start {settings['start']:g}: left out" for what in left_out]
    total = sum(map(len, parts))
    if wanted:
        total = min(total, wanted)
    if len(parts) > 1:
        if settings["section-count"] != "auto":
            total = min(total, settings["section-count"] * settings["block-count"] * hop(settings))
        shares = _even_shares([len(part) for part in parts], total)
        parts = [part[:share] for part, share in zip(parts, shares, strict=True)]
        said.append(f"{len(parts)} recordings, at most {max(shares) / rate:.1f} s of each")
    return np.concatenate(parts)[:total], said


def _even_shares(lengths, total):
    """Shares of `total`, or of all, that recordings of such lengths take: even but for short ones."""
    shares = [0] * len(lengths)
    for done, index in enumerate(np.argsort(lengths, kind="stable")):
        shares[index] = min(lengths[index], -(-total // (len(lengths) - done)))
        total -= shares[index]
    return shares


def check_lengths(settings: dict, frames: int, blocks: int) -> None:
    """See that a song of so many frames, in sections of so many blocks, holds what is cut from it later.

    Raises:
        UserError: a setting asks for more frames than there are.
    """
    if frames < 3:
        raise UserError(
            f"section-count {settings['section-count']} x {blocks} blocks make {frames} frames, too few "
            "to learn from: raise section-count or block-count"
        )
    if settings["window-length"] >= frames:
        raise UserError(
            f"window-length is {settings['window-length']}; the song has {frames} frames, so expected "
            f"at most {frames - 1}: lower it, or learn from more of the song (start, seconds, "
            "section-count, block-count)"
        )
    longest, start = max(settings["sequence-lengths"]), settings["seed-section"] * blocks
    if settings["seed-source"]:
        path = source_path(settings, "seed-source")
        if not path.is_file():
            what = "a folder; expected one recording" if path.is_dir() else "no such file"
            raise UserError(
                f"seed-source {path}: {what}; put a recording there, or leave seed-source empty to "
                "start from seed-section"
            )
    elif longest > frames - start:
        raise UserError(
            f"sequence-lengths has {longest}; from seed-section {settings['seed-section']} on the "
            f"song has {max(0, frames - start)} frames: lower one of them"
        )


def recipe(settings: dict, stage: str, training: bool = False) -> dict:
    """What a file written by `stage` was made with: the settings and the source's fingerprint.

    Args:
        training: with the settings that only the training depends on.
    """
    keys = []
    for name, own in _KEYS.items():
        keys += own
        keys += _TRAINING_KEYS.get(name, []) if training else []
        if name == stage:
            break
    made_with = {key: settings[key] for key in keys}
    files = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in source_files(settings)]
    made_with["source"] = _fingerprint(*files)
    return made_with


@functools.cache
def _fingerprint(*files):
    """Of the contents of files (path, time, size)."""
    digest = hashlib.sha256()
    for path, *_ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def misfit(attributes, settings: dict, stage: str, training: bool = False) -> str | None:
    """Why a stored recipe does not fit the settings, and what to do, or None if it does."""
    again = f"run: {command(stage)}"
    try:
        stored = dict(json.loads(attributes["recipe"]))
    except (KeyError, ValueError, TypeError):
        return f"holds no recipe of its settings; {again}"
    for key, wanted in recipe(settings, stage, training).items():
        if stored.get(key) != wanted:
            if key == "source":
                return f"was made from another recording than {settings['source']}; {again}"
            return (
                f"was made with {key} {stored.get(key)}, the settings say {wanted}; "
                f"set {key}={stored.get(key)} or another name=, or {again}"
            )
    return None


def save_h5(path: Path, arrays: dict, settings: dict, stage: str, **attributes) -> None:
    """Write arrays and the stage's recipe to an HDF5 file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """

    def fill(path):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
            file.attrs["recipe"] = json.dumps(recipe(settings, stage))
            file.attrs.update(attributes)

    store.write(path, fill, sum(array.nbytes for array in arrays.values()) + store.HDF5_OVERHEAD)


def load_h5(path: Path, settings: dict, stage: str, shapes: dict[str, tuple]) -> tuple[dict, dict]:
    """Arrays and attributes of a file that `stage` wrote.

    Args:
        shapes: array's name -> its shape; None stands for one number, the same wherever it stands,
            -1 for any.

    Raises:
        UserError: the file is missing, damaged, made with other settings or lacks such an array.
    """
    again, rows = f"run: {command(stage)}", set()
    try:
        with store.open_h5(path) as file:
            attributes = dict(file.attrs)
            reason = misfit(attributes, settings, stage)
            if reason:
                raise UserError(f"{path} {reason}")
            attributes["identity"] = str(attributes["identity"])
            arrays = {name: file[name][()] for name in shapes}
    except store.DamagedError as error:
        raise UserError(f"{error}; {again}") from None
    except store.MALFORMED as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}); {again}") from None
    for name, shape in shapes.items():
        array = arrays[name]
        fits = array.dtype == np.float32 and array.ndim == len(shape)
        if fits:
            rows.update(
                found for found, wanted in zip(array.shape, shape, strict=True) if wanted is None
            )
            pairs = zip(array.shape, shape, strict=True)
            fits = all(wanted in (None, -1, found) for found, wanted in pairs)
        if not fits or len(rows) > 1 or not array.size or not np.isfinite(array).all():
            raise UserError(f"{path} is damaged: its {name} is not as the settings say; {again}")
    return arrays, attributes


def load_frames(path: Path, settings: dict) -> tuple[dict, dict]:
    """What preprocess.py wrote.

    Returns:
        component -> frames ``(M, F)``, mean and deviation ``(F,)``, scaled; audio -> ``(S,)``; float32.
        The file's attributes, with the blocks of a section and the frames' identity.

    Raises:
        UserError: as of `load_h5`.
    """
    width, shapes = settings["frame-length"], {"audio": (-1,)}
    for name in COMPONENTS:
        shapes |= {f"{name}/frames": (None, width)}
        shapes |= {f"{name}/{key}": (width,) for key in ("mean", "deviation")}
    arrays, attributes = load_h5(path, settings, "preprocess", shapes)
    if not (str(attributes.get("blocks")).isdecimal() and int(attributes["blocks"]) > 0):
        raise UserError(f"{path} is damaged: it says not how it was cut; run: {command('preprocess')}")
    songs = {
        name: {key: arrays[f"{name}/{key}"] for key in ("frames", "mean", "deviation")}
        for name in COMPONENTS
    }
    return {**songs, "audio": arrays["audio"]}, attributes


def load_latents(path: Path, settings: dict) -> tuple[dict, dict]:
    """What autoencoder.py wrote: component -> latents ``(M, Z)`` float32, and the file's attributes.

    Raises:
        UserError: as of `load_h5`.
    """
    shapes = dict.fromkeys(COMPONENTS, (None, bottleneck(settings)))
    return load_h5(path, settings, "autoencoder", shapes)


def identity(*arrays: np.ndarray) -> str:
    """A fingerprint of arrays' bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def scale(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale each bin of ``(M, F)`` to mean 0 and deviation 1.

    Returns:
        scaled ``(M, F)``, mean ``(F,)``, deviation ``(F,)``, float32. A bin that never changes
        keeps deviation 1 and comes out as 0.
    """
    mean = frames.mean(axis=0)
    deviation = frames.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    scaled = (frames - mean) / deviation
    return scaled.astype(np.float32), mean.astype(np.float32), deviation.astype(np.float32)


def split(spectra: np.ndarray, settings: dict) -> dict[str, np.ndarray]:
    """Spectra ``(M, F)`` -> phase in radians and compressed magnitude, ``(M, F)`` each."""
    return {"phase": np.angle(spectra), "magnitude": np.abs(spectra) ** settings["magnitude-power"]}


def unscale(frames: np.ndarray, song: dict) -> np.ndarray:
    """Scaled frames ``(M, F)`` back at the song's mean and deviation in each bin."""
    return frames * song["deviation"] + song["mean"]


def linear(magnitude: np.ndarray, settings: dict) -> np.ndarray:
    """Linear magnitudes of compressed ones."""
    return np.maximum(magnitude, 0) ** (1 / settings["magnitude-power"])


def join(magnitude: np.ndarray, phase: np.ndarray, settings: dict) -> np.ndarray:
    """Audio ``(S,)`` of compressed magnitudes and phases in radians, ``(M, F)`` each; undoes `split`."""
    from joanna import audio

    return audio.istft(linear(magnitude, settings) * np.exp(1j * phase), settings["overlap"])


def even_parts(items: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut ``(N,)`` into the fewest parts of at most `size`, as even as can be."""
    return np.array_split(items, -(-len(items) // size))


def random_windows(count: int, frames: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """First-frame indices ``(count,)`` of windows of `length` that start anywhere in `frames`."""
    return rng.integers(0, frames - length + 1, size=count)


def cut(array: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Windows ``(N, length, F)`` of ``(M, F)`` from first-frame indices ``(N,)``."""
    return array[starts[:, None] + np.arange(length)]
