"""What the stages hand over: normalized frames and latents, with the provenance of their files."""

import contextlib
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from joanna import files
from joanna.errors import UserError
from joanna.run import Run
from joanna.settings import SETTINGS, bottleneck, read_yaml
from joanna.source import seed_path, source_files, source_path
from joanna.spectra import COMPONENTS, denormalize, normalize, sounding

STAGES = ("preprocess", "autoencoder", "lstm", "generate")


def provenance(run: Run, stage: str, training: bool = False) -> dict:
    """The settings and the digest of the source that the files of a stage depend on.

    With `training`, settings that only the training depends on are included.
    """
    stages = STAGES[: STAGES.index(stage) + 1]
    keys = [key for key, setting in SETTINGS.items() if setting.stage in stages]
    made_from = {key: run.settings[key] for key in keys if training or not SETTINGS[key].training_only}
    return {**made_from, "source": _source_digest(run)[0]}


def _source_digest(run):
    """Digest of the source, and whether the source was read.

    A source that was moved or deleted has the digest that frames.h5 records of it.
    """
    try:
        paths = source_files(run.root, run.settings)
        return _content_digest(*map(_version, paths)), True
    except (UserError, OSError):
        with contextlib.suppress(UserError, *files.MALFORMED):
            kept = {"source": str(read_yaml(str(run.settings_file))["source"])}
            # frames.h5 does not record the path: another one may be that of another song
            if source_path(run.root, kept) == source_path(run.root, run.settings):
                return _recorded_digest(_version(run.frames_file)), False
        raise


def _version(path):
    """A file's path, modification time and size; an unchanged file is read once."""
    return path, path.stat().st_mtime_ns, path.stat().st_size


@functools.cache
def _content_digest(*versions):
    return files.content_digest(*(path for path, *_ in versions))[:16]


@functools.cache
def _recorded_digest(version):
    """Digest of the source of a frames.h5."""
    with files.open_h5(version[0]) as file:
        return str(json.loads(file.attrs["recipe"])["source"])


def check_provenance(attributes: dict, path: Path, run: Run, stage: str, training: bool = False) -> None:
    """Raise UserError if the HDF5 attributes of a file do not fit the settings; see `provenance`."""
    try:
        stored = {"stereo": False, **json.loads(attributes["recipe"])}  # not in those of earlier versions
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{path} does not record its settings", rerun=stage) from None
    for key, value in provenance(run, stage, training).items():
        kept = stored.get(key)
        if kept == value:
            continue
        reason = f"was made with {key} {kept}, the settings say {value}"
        reason += f" (to keep it, set {key}={kept} or another name=)"
        if key == "source":
            reason = f"was made from another recording than {run.settings['source']}"
        raise UserError(f"{path} {reason}", rerun=stage)


def save_arrays(path: Path, run: Run, stage: str, arrays: dict[str, np.ndarray], attributes: dict) -> None:
    """Write arrays, attributes and the stage's provenance to an HDF5 file; see `files.write`."""

    def fill(path):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
            file.attrs["recipe"] = json.dumps(provenance(run, stage))
            file.attrs.update(attributes)

    files.write(path, fill, sum(array.nbytes for array in arrays.values()) + files.HDF5_OVERHEAD)


def load_arrays(path: Path, run: Run, stage: str, shapes: dict[str, tuple]) -> tuple[dict, dict]:
    """Read float32 arrays and the attributes of a file that `stage` wrote.

    `shapes` are those of the arrays, by name; None: any size, equal across arrays; -1: any size.

    Raises:
        UserError: the file is missing, damaged, made with other settings or lacks an array.
    """
    try:
        with files.open_h5(path) as file:
            attributes = dict(file.attrs)
            check_provenance(attributes, path, run, stage)
            attributes["identity"] = str(attributes["identity"])
            arrays = {name: file[name][()] for name in shapes}
    except files.DamagedError as error:
        raise UserError(str(error), rerun=stage) from None
    except files.MALFORMED as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]})", rerun=stage) from None
    shared: set[int] = set()
    for name, shape in shapes.items():
        array, pairs = arrays[name], list(zip(arrays[name].shape, shape, strict=False))
        shared |= {size for size, expected in pairs if expected is None}
        fits = array.dtype == np.float32 and array.ndim == len(shape) and len(shared) <= 1
        fits = fits and all(expected in (None, -1, size) for size, expected in pairs)
        if not fits or not array.size or not np.isfinite(array).all():
            raise UserError(f"{path} is damaged: {name} does not fit the settings", rerun=stage)
    return arrays, attributes


@dataclass
class ComponentFrames:
    """Frames of one component, normalized to mean 0 and std 1 in each bin."""

    frames: np.ndarray  # (M, F) float32
    mean: np.ndarray  # (F,) float32
    std: np.ndarray  # (F,) float32

    def normalize(self, frames: np.ndarray) -> np.ndarray:
        """Frames ``(N, F)`` of other audio, normalized as the song's; float32."""
        return normalize(frames, self.mean, self.std)

    def restore(self, frames: np.ndarray) -> np.ndarray:
        """Normalized frames ``(N, F)`` at the song's mean and std."""
        return denormalize(frames, self.mean, self.std)


@dataclass
class Frames:
    """The song as preprocess.py hands it over."""

    components: dict[str, ComponentFrames]
    audio: np.ndarray  # (S,) or (S, 2) float32 at sample-rate
    blocks: int  # per section
    overlap: int  # frame length / hop
    digest: str = ""  # of the frames

    def __len__(self) -> int:
        return len(next(iter(self.components.values())).frames)

    @functools.cached_property
    def sounding(self) -> np.ndarray:
        """Which frames have sound ``(M,)``; see `spectra.sounding`."""
        return sounding(self.audio, len(next(iter(self.components.values())).mean), self.overlap)

    def save(self, run: Run) -> None:
        """Write frames.h5; see `save_arrays`."""
        arrays = {"audio": self.audio}
        for name, component in self.components.items():
            arrays[f"{name}/frames"] = component.frames
            arrays[f"{name}/mean"], arrays[f"{name}/deviation"] = component.mean, component.std
        self.digest = files.array_digest(*(part.frames for part in self.components.values()))
        attributes = {"identity": self.digest, "blocks": self.blocks}
        save_arrays(run.frames_file, run, "preprocess", arrays, attributes)

    @classmethod
    def load(cls, run: Run) -> "Frames":
        """Read frames.h5; see `load_arrays`."""
        width = run.settings["frame-length"]
        each = {"frames": (None, width), "mean": (width,), "deviation": (width,)}
        shapes = {f"{name}/{key}": shape for name in COMPONENTS for key, shape in each.items()}
        shapes["audio"] = (-1, 2) if run.settings["stereo"] else (-1,)
        arrays, attributes = load_arrays(run.frames_file, run, "preprocess", shapes)
        if not (str(attributes.get("blocks")).isdecimal() and int(attributes["blocks"]) > 0):
            reason = "is damaged: its section layout is missing"
            raise UserError(f"{run.frames_file} {reason}", rerun="preprocess")
        components = {
            name: ComponentFrames(*(arrays[f"{name}/{key}"] for key in each)) for name in COMPONENTS
        }
        if not _source_digest(run)[1]:
            print(f"source {run.settings['source']} cannot be read: using {run.frames_file}, made from it")
        blocks, overlap = int(attributes["blocks"]), run.settings["overlap"]
        return cls(components, arrays["audio"], blocks, overlap, attributes["identity"])


@dataclass
class Latents:
    """The coded file as autoencoder.py hands it over."""

    components: dict[str, np.ndarray]  # (M, Z) float32
    weights: dict[str, str]  # component -> digest of the weights file that encoded it
    digest: str = ""  # of the latents

    def save(self, run: Run) -> None:
        """Write the coded file; see `save_arrays`."""
        self.digest = files.array_digest(*self.components.values())
        attributes = {"identity": self.digest, "weights": [self.weights[name] for name in self.components]}
        save_arrays(run.latents_file, run, "autoencoder", self.components, attributes)

    @classmethod
    def load(cls, run: Run) -> "Latents":
        """Read the coded file; see `load_arrays`."""
        shapes = dict.fromkeys(COMPONENTS, (None, bottleneck(run.settings)))
        arrays, attributes = load_arrays(run.latents_file, run, "autoencoder", shapes)
        weights = dict(zip(COMPONENTS, map(str, attributes.get("weights", [])), strict=False))
        if len(weights) < len(COMPONENTS):
            raise UserError(f"{run.latents_file} does not record its weights", rerun="autoencoder")
        return cls(arrays, weights, attributes["identity"])


def check_lengths(run: Run, frames: int, blocks: int) -> None:
    """Check that a song of `frames`, with `blocks` per section, holds the windows cut from it later.

    Raises:
        UserError: a setting asks for more frames than the song has.
    """
    settings = run.settings
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
        seed_path(run.root, settings)
    elif longest > frames - start:
        raise UserError(
            f"sequence-lengths has {longest}; from seed-section {settings['seed-section']} on the "
            f"song has {max(0, frames - start)} frames: lower one of them"
        )
