"""A run: its folders and files, its lock, its random numbers and its six trainings."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

import config
from joanna import files
from joanna.errors import UserError
from joanna.settings import total_epochs
from joanna.spectra import COMPONENTS

PROJECT = Path(config.__file__).resolve().parent
WEIGHTS_ENDING = ".weights.h5"
RUN_AGAIN = "Run the same command again to train it further"  # of a training that ended early


@dataclass
class Training:
    """One of the trainings of a run."""

    component: str  # phase or magnitude
    kind: str  # autoencoder, spliced (the autoencoder with two LSTM layers) or generator

    def __post_init__(self):
        self.stage = "autoencoder" if self.kind == "autoencoder" else "lstm"
        self.key = "new" if self.kind == "generator" else self.kind  # in files and random numbers

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.component} {self.kind}"

    @property
    def title(self) -> str:
        """Its name in those of files."""
        return f"{self.component}-{self.kind}"

    def epochs(self, settings: dict) -> int:
        """Epochs of all iterations."""
        return total_epochs(settings, self.stage)


TRAININGS = [Training(component, "autoencoder") for component in COMPONENTS]
TRAININGS += [Training(component, kind) for component in COMPONENTS for kind in ("spliced", "generator")]


class Run:
    """The settings of a run and the paths of its files."""

    def __init__(self, settings: dict, root: Path = PROJECT):
        """`root` holds output/ and weights/, and relative sources start there."""
        self.settings, self.root = settings, root
        self.output = root / "output" / settings["name"]
        self.weights = root / "weights" / settings["name"]
        self.frames_file = self.output / "frames.h5"
        self.latents_file = self.output / (settings["coded-file"] + ".h5")
        self.settings_file = self.output / "settings.yaml"
        self.report_file = self.output / "report.html"
        self.manifest_file = self.output / ".generated.json"
        self.previews, self.tensorboard = self.output / "previews", self.output / "tensorboard"

    def weights_file(self, component: str, stage: str) -> Path:
        """Weights of a component that `stage` (autoencoder or lstm) trains."""
        lstm_file = f"{component}-{self.settings['lstm-file']}"
        name = self.settings[f"{component}-encoder"] if stage == "autoencoder" else lstm_file
        return self.weights / (name + WEIGHTS_ENDING)

    def result_file(self, component: str) -> Path:
        """Generated frames of a component."""
        return self.output / (self.settings[f"{component}-result"] + ".h5")

    def clip_file(self, name: str) -> Path:
        """The wav of a clip."""
        return self.output / f"{name}.wav"

    def rng(self, *key: object) -> np.random.Generator:
        """Random numbers that depend on random-seed and the key, which is never a text that is shown."""
        words = "/".join(map(str, key)).encode()
        return np.random.default_rng([self.settings["random-seed"], *words])

    def save_settings(self, settings: dict | None = None) -> None:
        """Write settings.yaml from `settings`, by default the run's own; it resumes from the weights."""
        content = {**(settings or self.settings), "load-weights": True}
        files.write_text(self.settings_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclusive lock; the operating system releases it if the process dies.

        Where the file system has no locks, a message is printed instead.

        Raises:
            UserError: another process holds the lock, or the folders cannot be written to.
        """
        folders = self.output, self.weights
        new = [folder for folder in folders if not folder.exists()]
        for folder in folders:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(exist_ok=True)
            except FileExistsError as error:
                raise UserError(
                    f"{error.filename} is not a folder: it is a file, or a link to nothing; make the folder "
                    "that it leads to, or remove it"
                ) from None
            if not os.access(folder, os.W_OK | os.X_OK):  # now, not after hours of training
                advice = "change its permissions or choose another name"
                raise UserError(f"{folder} cannot be written to; {advice}")
        path = self.output / ".lock"
        with path.open("a+") as file:
            try:
                with contextlib.suppress(ImportError):  # not on Windows
                    import fcntl

                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"process {file.read().strip() or '?'} is working on '{self.settings['name']}'; "
                    "wait for it, stop it, or choose another name"
                ) from None
            except OSError as error:  # some NFS, Lustre and FUSE
                print(
                    f"{self.output} cannot be locked ({error.strerror}): do not run "
                    f"'{self.settings['name']}' twice at the same time",
                    flush=True,
                )
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            try:
                yield
            finally:
                for folder in new:  # a mistyped source leaves no folders
                    if all(inside == path for inside in folder.iterdir()):
                        shutil.rmtree(folder, ignore_errors=True)
