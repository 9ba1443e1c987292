"""Weights files: weights, optimizer, progress and history in one; the previous one is kept."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from joanna import files
from joanna.artifacts import check_provenance, provenance
from joanna.errors import UserError
from joanna.run import TRAININGS, WEIGHTS_ENDING, Run, Training
from joanna.settings import REPLACED

if TYPE_CHECKING:
    import keras


@dataclass
class Progress:
    """Progress of a training."""

    epochs: int = 0  # completed
    steps: int = 0  # completed of the next epoch
    halvings: int = 0  # how often the learning rate was halved
    goal: int = 0  # epochs in all; 0: not yet decided

    @property
    def last(self) -> int:
        """The epoch to end with: the goal, or one more than are trained."""
        return self.goal or self.epochs + 1


@dataclass
class TrainingState:
    """The part of a weights file that is not weights, by the keys of the trainings."""

    progress: dict[str, Progress] = field(default_factory=dict)
    moments: dict[str, list[np.ndarray]] = field(default_factory=dict)  # of the current training only
    cached: dict[str, np.ndarray] = field(default_factory=dict)  # kept from epoch to epoch, by name
    history: dict[str, list] = field(default_factory=dict)  # rows of seconds, epochs, loss

    def of(self, key: str) -> Progress:
        """Progress of a training; new if it has none."""
        return self.progress.setdefault(key, Progress())

    def is_trained(self, training: Training, settings: dict) -> bool:
        """Whether all epochs of a training, or with minutes those that fitted into them, are trained."""
        progress = self.of(training.key)
        if settings["minutes"]:
            return 0 < progress.goal <= progress.epochs
        return progress.epochs >= training.epochs(settings)

    def forget(self, key: str) -> None:
        """Drop what is stored of a training."""
        for part in (self.progress, self.moments, self.history):
            part.pop(key, None)
        self.cached.clear()


class LoadedWeights(NamedTuple):
    """What `load_weights` returns besides the weights."""

    state: TrainingState  # progress and history only, unless it is to be trained further
    trained_on: str  # digest of the frames or latents
    provenance: dict  # the settings of the training


class Checkpoint:
    """The weights file of a component in a stage, and the files it replaces."""

    def __init__(self, run: Run, component: str, stage: str, trained_on: str):
        """The weights that `stage` trains on input with the digest `trained_on`."""
        self.run, self.component, self.stage, self.trained_on = run, component, stage, trained_on
        self.path = run.weights_file(component, stage)
        stem = str(self.path).removesuffix(WEIGHTS_ENDING)
        others = (Path(f"{stem}.{word}{WEIGHTS_ENDING}") for word in REPLACED)
        self._old, self._previous, self._displaced = others
        self._provenance = provenance(run, stage, training=True)
        own = component, stage
        self._trainings = [each for each in TRAININGS if (each.component, each.stage) == own]
        self.is_new = True  # whether nothing of the current training is saved yet
        self.state = TrainingState()

    def finished(self) -> bool:
        """Whether the file is whole, fits the settings and is fully trained. No weights are read."""
        stored = self._stored_state()
        return all(stored.is_trained(training, self.run.settings) for training in self._trainings)

    def epochs_left(self) -> int:
        """Epochs that the file lacks, of all its trainings; without load-weights none are trained."""
        settings = self.run.settings
        stored = self._stored_state() if settings["load-weights"] else TrainingState()
        left = (training.epochs(settings) - stored.of(training.key).epochs for training in self._trainings)
        return sum(max(0, epochs) for epochs in left)

    def _stored_state(self):
        """What the file holds but for its arrays; nothing if it is not whole or does not fit."""
        try:
            with files.open_h5(self.path) as file:
                _check(file.attrs, self.path, self.run, self.stage, self.trained_on)
                return TrainingState(_read_progress(file.attrs))
        except (UserError, *files.MALFORMED):
            return TrainingState()

    def resume(self, network: "keras.Model") -> bool:
        """Load the newest whole file that fits, if load-weights is on; print which, or why none.

        The network must not be compiled, so that the file equals one of stock Keras.
        """
        self.network = network
        if not self.run.settings["load-weights"]:
            return False
        for path in filter(Path.exists, (self.path, self._previous, self._old)):
            try:
                self._load(path)
            except UserError as error:
                print(str(error).split("; ")[0], flush=True)
                continue
            print(f"resuming from {path}")
            self._promote(path)
            self.is_new = False
            return True
        if self.path.exists():
            print(
                "no weights fit the settings: starting a new training; the previous weights are kept until "
                "it has finished (to keep both, stop now and give another name=)",
                flush=True,
            )
        return False

    def _load(self, path):
        self.state = load_weights(self.network, path, self.run, self.stage, self.trained_on).state

    def restore(self, initialize: Callable[[], None]) -> None:
        """Load the last save, or `initialize` the network; a training forgotten since stays forgotten."""
        if self.is_new:
            initialize()
            self.state = TrainingState()
            return
        known = set(self.state.progress)
        self._load(self.path)
        for key in set(self.state.progress) - known:
            self.state.forget(key)

    def save(self, key: str, moments: list[np.ndarray]) -> None:
        """Write weights, state and the optimizer variables of the training `key`; keep the file before.

        Raises:
            FloatingPointError: a value is not finite; nothing is written.
            UserError: the file cannot be written.
        """
        state = self.state
        weights = [np.asarray(weight) for weight in self.network.weights]
        arrays = [*weights, *moments, *state.cached.values()]
        if not all(np.isfinite(array.sum()) for array in arrays):
            raise FloatingPointError

        def fill(path):
            self.network.save_weights(path, overwrite=True)
            with h5py.File(path, "a") as file:
                file.attrs["recipe"] = json.dumps(self._provenance)
                file.attrs["made_from"] = self.trained_on
                file.attrs["progress"] = json.dumps(state.progress, default=vars)
                group = file.create_group(f"training/moments/{key}")
                for index, array in enumerate(moments):
                    group[str(index)] = array
                for name, array in state.cached.items():
                    file[f"training/held/{name}"] = array
                file.require_group("training/held")
                for name, rows in state.history.items():
                    file[f"training/history/{name}"] = np.array(rows, float).reshape(-1, 3)

        size = sum(array.nbytes for array in arrays) + files.HDF5_OVERHEAD
        size += 24 * sum(len(rows) for rows in state.history.values())
        files.write(self.path, fill, size, self._keep)
        self.is_new = False

    def _keep(self):
        """Move the current file to previous, or to old if a new training replaces it."""
        if self.path.exists():
            replaced = self.is_new and not self._old.exists()
            if replaced:
                self._previous.unlink(missing_ok=True)  # belongs to the replaced training, too
            os.replace(self.path, self._old if replaced else self._previous)

    def _promote(self, path):
        """Make `path` the current file; whole weights in its place become the old ones."""
        if path == self.path:
            return
        with contextlib.suppress(files.DamagedError):
            files.digest(self.path)
            os.replace(self.path, self._displaced)
        os.replace(path, self.path)
        if self._displaced.exists():
            os.replace(self._displaced, self._old)
            self._previous.unlink(missing_ok=True)  # belongs to the old weights now
        files.sync_folder(self.path.parent)

    def finalize(self) -> None:
        """Delete the weights that a finished training replaces, and free its memory."""
        begun = [training for training in self._trainings if training.key in self.state.progress]
        if all(self.state.is_trained(training, self.run.settings) for training in begun):
            for path in (self._old, self._displaced):
                path.unlink(missing_ok=True)
        self.network = None
        self.state.moments.clear()
        self.state.cached.clear()


def load_weights(
    network: "keras.Model", path: Path, run: Run, stage: str, trained_on: str | None = None
) -> LoadedWeights:
    """Load weights that `stage` wrote into `network`: all of them or none.

    `trained_on` is the digest of the input if they are to be trained further; None: only to predict.

    Raises:
        UserError: missing, damaged, or made with settings that give another network or training.
    """
    before = network.get_weights()
    try:
        with files.open_h5(path) as file:
            _check(file.attrs, path, run, stage, trained_on)
            state = TrainingState(_read_progress(file.attrs), history=_read_history(file))
            loaded = LoadedWeights(state, str(file.attrs["made_from"]), json.loads(file.attrs["recipe"]))
            if trained_on is not None:
                state.moments = {
                    key: [group[str(index)][()] for index in range(len(group))]
                    for key, group in file["training/moments"].items()
                }
                state.cached = {name: array[()] for name, array in file["training/held"].items()}
        network.load_weights(path)
    except files.DamagedError as error:
        raise UserError(str(error), rerun=stage) from None
    except files.MALFORMED as error:
        network.set_weights(before)
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not fit the network ({reason})", rerun=stage) from None
    return loaded


def _check(attributes, path, run, stage, trained_on):
    training = trained_on is not None
    check_provenance(attributes, path, run, stage, training)
    if training and attributes.get("made_from") != trained_on:
        raise UserError(f"{path} was trained on other input", rerun=stage)


def read_history(path: Path, digest: str = "") -> dict[str, list]:
    """Training's key -> rows of seconds, epochs, loss in a weights file, of that `digest` if given.

    Empty if the file is missing, damaged or another one.
    """
    try:
        with files.open_h5(path, digest) as file:
            return _read_history(file)
    except (files.DamagedError, *files.MALFORMED):
        return {}


def _read_history(file):
    stored = file.get("training/history", {})
    return {key: np.reshape(rows[()], (-1, 3)).tolist() for key, rows in stored.items()}


def _read_progress(attributes):
    stored = json.loads(attributes["progress"])
    return {key: Progress(*(int(state[name]) for name in vars(Progress()))) for key, state in stored.items()}
