"""A training's weights file: network, optimizer and progress in one, and the one before it."""

import contextlib
import json
import os
from pathlib import Path

import h5py
import numpy as np

from joanna import dataset, store
from joanna.errors import UserError
from joanna.settings import command

_ENDING = ".weights.h5"
_PROGRESS = ("epochs", "steps", "halvings", "goal")


class Checkpoint:
    """What a stage has trained of one component.

    Attributes:
        progress: training's name -> epochs done, steps done of the next one, times its rate was halved,
            and the epochs it is to have.
        moments: training's name -> its optimizer's variables; of the training under way alone.
        held: arrays that a training keeps from one epoch to the next, by name.
        history: training's name -> a row an epoch: seconds trained, epochs, loss.
        afresh: whether nothing is saved yet of what is being trained.
    """

    def __init__(self, path: Path, settings: dict, stage: str, made_from: str):
        """The file at `path` of `stage`, trained on input whose identity is `made_from`."""
        self.path, self.settings, self.stage, self.made_from = path, settings, stage, made_from
        self._recipe = dataset.recipe(settings, stage, training=True)
        self._old = self._named("old")
        self._previous = self._named("previous")
        self.afresh = True
        self.progress, self.moments, self.held, self.history = {}, {}, {}, {}

    def _named(self, word):
        return self.path.with_name(f"{self.path.name.removesuffix(_ENDING)}.{word}{_ENDING}")

    def of(self, name: str) -> dict:
        """The progress of a training: its epochs, steps, halvings and goal."""
        return self.progress.setdefault(name, dict.fromkeys(_PROGRESS, 0))

    def finished(self, epochs: dict[str, int]) -> bool:
        """Whether the file is whole, fits the settings and holds as many epochs of each training.

        With minutes set it is as many as had fitted into them. No weights are read.
        """
        try:
            with store.open_h5(self.path) as file:
                _check(file.attrs, self.path, self.settings, self.stage, self.made_from)
                progress = _progress(file.attrs)
            if self.settings["minutes"]:
                epochs = {name: max(1, progress[name]["goal"]) for name in epochs}
            return all(progress[name]["epochs"] >= count for name, count in epochs.items())
        except (UserError, *store.MALFORMED):
            return False

    def resume(self, network) -> bool:
        """Load the newest file that is whole and fits, if load-weights is on; say which, or why none.

        Args:
            network: the model whose weights the file holds, uncompiled, so that the file is as stock
                Keras writes it; as it was if no file fits.
        """
        self.network = network
        if not self.settings["load-weights"]:
            return False
        for path in (self.path, self._previous, self._old):
            if not path.exists():
                continue
            try:
                self.load(path)
            except UserError as error:
                print(str(error).split("; ")[0], flush=True)
                continue
            print(f"going on from {path}")
            self._put_back(path)
            self.afresh = False
            return True
        if self.path.exists():
            print(
                "no weights fit: training afresh; the previous weights go when it is done. To keep "
                "both, stop now and give another name=",
                flush=True,
            )
        return False

    def load(self, path: Path | None = None) -> None:
        """Load weights and progress from `path` or the checkpoint's own, or none of them.

        Raises:
            UserError: missing, damaged, of other settings, or of another network.
        """
        read = _read(self.network, path or self.path, self.settings, self.stage, self.made_from)
        for key in ("progress", "moments", "held", "history"):
            kept = getattr(self, key)
            kept.clear()
            kept.update(read[key])

    def save(self, name: str, moments: list[np.ndarray]) -> None:
        """Write all of it, whole or not at all; the file before it is kept.

        Args:
            name: the training under way.
            moments: values of its optimizer's variables.

        Raises:
            FloatingPointError: a number is not finite; nothing is written.
            UserError: the file cannot be written.
        """
        arrays = [*self.network.get_weights(), *moments, *self.held.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            raise FloatingPointError

        def fill(path):
            self.network.save_weights(path, overwrite=True)
            with h5py.File(path, "a") as file:
                file.attrs["recipe"] = json.dumps(self._recipe)
                file.attrs["made_from"] = self.made_from
                file.attrs["progress"] = json.dumps(self.progress)
                kept = file.create_group(f"training/moments/{name}")
                for index, array in enumerate(moments):
                    kept[str(index)] = array
                for key, array in self.held.items():
                    file[f"training/held/{key}"] = array
                file.require_group("training/held")
                for key, rows in self.history.items():
                    file[f"training/history/{key}"] = np.array(rows, float).reshape(-1, 3)

        size = sum(array.nbytes for array in arrays) + store.HDF5_OVERHEAD
        size += 24 * sum(len(rows) for rows in self.history.values())
        store.write(self.path, fill, size, self._keep)
        self.afresh = False

    def _keep(self):
        if not self.path.exists():
            return
        # a training begun afresh must not push out the one it is to replace
        if self.afresh and not self._old.exists():
            self._previous.unlink(missing_ok=True)  # of that one, too
            os.replace(self.path, self._old)
        else:
            os.replace(self.path, self._previous)

    def _put_back(self, path):
        """Make those gone on from the ones that are read; others in their place become the old."""
        if path == self.path:
            return
        beside = self._named("beside")
        with contextlib.suppress(store.DamagedError):
            store.seal(self.path)
            os.replace(self.path, beside)
        os.replace(path, self.path)
        if beside.exists():
            os.replace(beside, self._old)
            self._previous.unlink(missing_ok=True)  # of those that are the old now
        store.sync_folder(self.path.parent)

    def seal(self) -> str:
        """The file's checksum, which says which weights these are."""
        return store.seal(self.path)

    def done(self) -> None:
        """The training is whole and saved: what it replaces may go, and what it holds in memory."""
        for path in (self._old, self._named("beside")):
            path.unlink(missing_ok=True)
        self.network = None
        self.moments.clear()
        self.held.clear()


def load_weights(network, path: Path, settings: dict, stage: str) -> dict:
    """Load weights that `stage` wrote into `network`, for use; all of them or none.

    Returns:
        progress and history: as in `Checkpoint`; made_from: identity of what they were trained on;
        recipe: the settings they were trained with.

    Raises:
        UserError: missing, damaged, or made with settings that give another network.
    """
    return _read(network, path, settings, stage)


def _read(network, path, settings, stage, made_from=None):
    """The file's weights into `network`, the rest as a dict; for training if `made_from` is given."""
    before, again = network.get_weights(), f"run: {command(stage)}"
    try:
        with store.open_h5(path) as file:
            _check(file.attrs, path, settings, stage, made_from)
            found = {"progress": _progress(file.attrs), "made_from": str(file.attrs["made_from"])}
            found["recipe"] = json.loads(file.attrs["recipe"])
            found["history"] = _history(file)
            if made_from is not None:
                found["moments"] = {
                    name: [kept[str(index)][()] for index in range(len(kept))]
                    for name, kept in file["training/moments"].items()
                }
                found["held"] = {name: array[()] for name, array in file["training/held"].items()}
        network.load_weights(path)
    except store.DamagedError as error:
        raise UserError(f"{error}; {again}") from None
    except store.MALFORMED as error:
        network.set_weights(before)
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not fit the network ({reason}); {again}") from None
    return found


def _check(attributes, path, settings, stage, made_from):
    reason = dataset.misfit(attributes, settings, stage, training=made_from is not None)
    if not reason and made_from is not None and attributes.get("made_from") != made_from:
        reason = f"was trained on other input; run: {command(stage)}"
    if reason:
        raise UserError(f"{path} {reason}")


def read_history(path: Path, seal: str = "") -> dict[str, list]:
    """The history in a weights file, as in `Checkpoint`; empty if there is none, or not of that seal."""
    try:
        with store.open_h5(path, seal) as file:
            return _history(file)
    except (store.DamagedError, *store.MALFORMED):
        return {}


def _history(file):
    kept = file.get("training/history", {})
    return {name: np.reshape(rows[()], (-1, 3)).tolist() for name, rows in kept.items()}


def _progress(attributes):
    stored = json.loads(attributes["progress"])
    return {name: {key: int(state[key]) for key in _PROGRESS} for name, state in stored.items()}
