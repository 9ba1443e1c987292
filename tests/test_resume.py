"""Trainings and scripts that are killed or stopped, and the results after they are resumed."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import (
    TINY,
    SmallTraining,
    contents,
    copy_project,
    run_as_script,
    tiny_run,
    tone,
    write_wav,
)
from scipy.io import wavfile

import autoencoder
import generate
import lstm
import preprocess
from joanna.artifacts import STAGES, Frames, Latents
from joanna.backend import keras
from joanna.checkpoint import Checkpoint
from joanna.errors import Stopped, UserError
from joanna.previews import Previews
from joanna.resources import TimeBudget
from joanna.run import PROJECT, Run, Training

KEY = SmallTraining.training.key
# 40 steps in an epoch of each training, so that it is cut into two parts
CUT = ["layer-count=1", "lstm-layers=1", "batch-size=3", "window-length=3", "window-batch=1"]
CUT += ["ae-epoch=3", "ae-iteration=2", "lstm-epoch=3", "lstm-iteration=2", "method=part"]
CUT += ["sequence-lengths=[4]", "generate-seconds=0.25"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without previews that was never interrupted; its trainings have other labels."""
    root = tmp_path_factory.mktemp("whole")
    run = tiny_run(root, f"source={write_wav(root / 'song.wav', tone())}", *CUT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "label", "a training")
        for stage in (preprocess, autoencoder, lstm, generate):
            stage.main(run)
    return run


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of that run."""
    for folder in ("output", "weights"):
        shutil.copytree(whole.root / folder, tmp_path / folder)
    return Run(whole.settings, tmp_path)


@pytest.mark.parametrize(("epochs", "steps", "parts"), [(6, 3, 1), (2, 40, 2)])
def test_stopped_after_any_epoch_gives_bit_identical_results(tmp_path, capsys, epochs, steps, parts):
    words, steps_between_saves = [f"lstm-epoch={epochs // 2}"], steps // parts
    uninterrupted = SmallTraining(tmp_path / "whole", *words, steps=steps).train()
    for stops in range(epochs * parts):
        training = SmallTraining(tmp_path / "stopped", *words, steps=steps)
        assert training.resumed == (stops > 0)
        training.signal_at = 1 + stops % steps_between_saves  # the first, the last, or another one
        capsys.readouterr()
        with pytest.raises(Stopped) as stopped:
            training.train()
        assert stopped.value.args == (signal.SIGINT,)
        assert training.steps == steps_between_saves
        messages = capsys.readouterr().out
        assert "stopping after this epoch" in messages
        if stops:
            assert f"resuming at epoch {stops // parts + 1} of {epochs}" in messages
    assert contents(training.path) == uninterrupted
    assert SmallTraining(tmp_path / "stopped", *words, steps=steps).train() == uninterrupted


def test_a_second_signal_stops_at_once_and_tears_nothing(tmp_path):
    uninterrupted = SmallTraining(tmp_path / "whole").train()
    training = SmallTraining(tmp_path)
    training.signal_at = 11  # in the fourth epoch
    save_weights = training.network.save_weights

    def interrupted_save(path, **options):
        save_weights(path, **options)
        if training.steps == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    training.network.save_weights = interrupted_save
    with pytest.raises(Stopped) as stopped:
        training.train()
    assert stopped.value.args == (signal.SIGTERM,)
    assert '"epochs": 3' in contents(training.path)["progress"]
    assert not [*training.path.parent.glob(".*")]  # no unfinished file
    assert SmallTraining(tmp_path).train() == uninterrupted


@pytest.mark.parametrize("last_epoch", [False, True])
def test_a_signal_during_a_preview_stops_after_the_next_epoch_or_the_last(tmp_path, last_epoch):
    uninterrupted = SmallTraining(tmp_path / "whole").train()
    training = SmallTraining(tmp_path)

    def preview(epoch, logs):
        if epoch == (5 if last_epoch else 1):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        training.train(on_epoch_end=preview)
    assert training.steps == (18 if last_epoch else 9)
    assert SmallTraining(tmp_path).train() == uninterrupted


def test_measuring_minutes_changes_no_training_and_a_signal_stops_it_at_once(tmp_path, capsys):
    uninterrupted = SmallTraining(tmp_path / "whole", "lstm-epoch=1", "lstm-iteration=1").train()
    training = SmallTraining(tmp_path, "minutes=0.01")

    def send_signal(epoch):
        os.kill(os.getpid(), signal.SIGTERM)
        return 2.0

    training.scale = send_signal
    code = run_as_script(lambda run: training.train(), "lstm.py", "minutes=0.01")
    assert code == 128 + signal.SIGTERM
    assert re.fullmatch(
        r"lstm.py: stopped; to resume: \S*python lstm.py minutes=0.01\n", capsys.readouterr().err
    )
    assert not training.path.exists()
    found = SmallTraining(tmp_path, "minutes=0.01").train()  # no time is left for more than one epoch
    assert {**found, "progress": ""} == {**uninterrupted, "progress": ""}


def test_more_iterations_resume(tmp_path):
    SmallTraining(tmp_path).train()
    training = SmallTraining(tmp_path, "lstm-iteration=3")
    assert '"epochs": 9' in training.train()["progress"]
    assert training.steps == 9


class Interruptions(Previews):
    """In the place of previews: an explosion at the first step, and stops of `generator`."""

    stop_before, stop_in = False, None  # the part of an epoch

    def callbacks(self, training, checkpoint, network):
        if training.kind == "generator":
            if self.stop_before:
                raise Stopped(signal.SIGINT)
            return [keras.callbacks.LambdaCallback(on_epoch_begin=self._stop)]
        causes = [FloatingPointError]

        def explode(batch, logs):
            if causes:
                checkpoint.network.set_weights([np.nan * each for each in checkpoint.network.get_weights()])
                raise causes.pop()

        return [keras.callbacks.LambdaCallback(on_train_batch_begin=explode)]

    def _stop(self, epoch, logs):
        if epoch == self.stop_in:
            os.kill(os.getpid(), signal.SIGINT)


def _train_phase(run, **stops):
    """The LSTM stage of the phase; contents of its weights."""
    frames, latents = Frames.load(run), Latents.load(run)
    checkpoint = Checkpoint(run, "phase", "lstm", latents.digest)
    trainer, budget = lstm.Trainer(checkpoint, frames, latents), TimeBudget(run.settings)
    previews = Interruptions(run, frames, budget)
    vars(previews).update(stops)
    trainer.train_spliced(budget, previews)
    trainer.train_generator(budget, previews)
    return contents(checkpoint.path)


def test_more_lstm_iterations_stopped_between_the_trainings_give_bit_identical_results(copy, capsys):
    more = Run({**copy.settings, "lstm-iteration": 3}, copy.root)
    path = copy.weights_file("phase", "lstm")
    data = path.read_bytes()
    uninterrupted = _train_phase(more)
    path.write_bytes(data)
    # in the first part of the epoch in which the generator's own predictions are computed again
    for stops in ({"stop_before": True}, {"stop_in": 2 * lstm.RESAMPLE_EVERY}):
        with pytest.raises(Stopped):
            _train_phase(more, **stops)
    assert _train_phase(more) == uninterrupted
    messages = capsys.readouterr().out
    assert messages.count("phase spliced: the loss exploded at epoch 7; resuming from epoch 7") == 2
    assert messages.count("phase spliced: all 9 epochs are already trained") == 2
    # its targets have changed, so it starts again
    assert messages.count("phase generator: resuming") == 1
    assert "phase generator: resuming at epoch 9 of 9" in messages


@pytest.mark.parametrize("stage", [autoencoder, lstm])
def test_an_explosion_before_the_first_save_starts_again_at_half_the_rate(copy, capsys, monkeypatch, stage):
    found = []
    monkeypatch.setattr("joanna.artifacts.COMPONENTS", ("phase",))
    for previews, factor in ((Interruptions, 1), (Previews, 0.5)):
        monkeypatch.setattr("joanna.previews.Previews", previews)
        changed = {"learning-rate": factor * copy.settings["learning-rate"], "load-weights": False}
        stage.main(Run({**copy.settings, **changed}, copy.root))
        found.append(contents(copy.weights_file("phase", stage.__name__)))
        found[-1].pop("progress")  # holds the number of halvings
    assert found[0] == found[1]
    assert "exploded at epoch 1; resuming from epoch 1 at half the learning rate" in capsys.readouterr().out


def test_weights_that_the_coded_file_was_not_made_with_are_refused(copy):
    from joanna import model

    checkpoint = Checkpoint(copy, "phase", "autoencoder", Frames.load(copy).digest)
    layers = model.build(copy.settings).autoencoder.layers
    assert checkpoint.resume(model.sequential((64,), layers, "saved"))
    checkpoint.save("autoencoder", [])  # of equal settings, but another file
    for lstm_file in copy.weights.glob("*lstm*"):
        lstm_file.unlink()
    with pytest.raises(UserError, match="the coded file was made with other weights") as refused:
        lstm.main(copy)
    assert refused.value.rerun == "autoencoder"


SCRIPTS = f"""
import runpy, sys
for stage in {STAGES}:
    sys.argv[0] = stage + ".py"
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("_", range(int(os.environ.get("KILL_ROUNDS", 1))))
def test_scripts_killed_at_random_moments_end_with_the_same_bytes(whole, tmp_path, _):
    """Killed in each stage, with previews and the usual labels; `whole` is without any of these."""
    folder, rng = copy_project(tmp_path / "project"), random.Random(time.time_ns())
    words = [*TINY, *CUT, f"source={whole.settings['source']}", "preview-minutes=0.001"]
    weights, output = folder / "weights/song", folder / "output/song"
    begun = [output / ".lock", weights / "phase-encoder.previous.weights.h5"]
    begun += [weights / "phase-lstm-file.previous.weights.h5", output / "reconstruction.wav"]
    for path in [*begun, None]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPTS, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if path:
            while not path.exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
        assert process.communicate()[1] == ""
        assert process.returncode == (-signal.SIGKILL if path else 0)
    for path in whole.weights.glob("*.h5"):
        if "previous" not in path.name:
            assert contents(weights / path.name) == contents(path), path.name
    clips = sorted(path.name for path in whole.output.glob("*.wav"))
    assert clips == sorted(path.name for path in output.glob("*.wav")) == ["part-4.wav", "reconstruction.wav"]
    for clip in clips:  # the metadata records preview-minutes
        sounds = [wavfile.read(folder / clip)[1].tobytes() for folder in (whole.output, output)]
        assert sounds[0] == sounds[1]
    assert [*(output / "previews").iterdir()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_save_and_print_the_command_that_resumes(copy, capsys, number, code):
    words = [f"{key}={value}" for key, value in copy.settings.items() if value != ""]
    words += ["load-weights=False", "ae-epoch=100000"]
    path = copy.weights_file("phase", "autoencoder")
    replaced = path.with_name("phase-encoder.old.weights.h5")

    def send_signal():
        while not replaced.exists():  # the new training has saved at its start
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_signal, daemon=True).start()

    def main(run):
        autoencoder.main(Run(run.settings, copy.root))

    assert run_as_script(main, "autoencoder.py", *words) == code
    out, err = capsys.readouterr()
    assert "stopping after this epoch" in out
    assert re.fullmatch(
        r"autoencoder.py: stopped; to resume: \S*python autoencoder.py .*load-weights=True\n", err
    )
    assert '"epochs": 0, "steps": 0' not in contents(path)["progress"]


def test_a_second_run_of_a_name_is_told_which_process_holds_it(tmp_path):
    run = tiny_run(tmp_path, "name=song")
    script = f"""
import pathlib, time
from joanna.run import Run
from joanna.settings import load
with Run(load(["name=song"]), pathlib.Path({str(tmp_path)!r})).locked():
    print("locked", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match=f"process {holder.pid} is working on"), run.locked():
        pass
    with tiny_run(tmp_path, "name=another").locked():
        pass
    holder.kill()
    holder.communicate()
    with run.locked():
        pass


@pytest.mark.parametrize("name", ["output", "weights", "weights/my-song"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_folders_that_cannot_be_written_are_named(tmp_path, song, capsys, name, kind):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if kind == "file":
        (tmp_path / name).touch()
    else:
        (tmp_path / name).symlink_to("/disk/that/is/not/mounted")
    run = tiny_run(tmp_path, f"source={song}")

    def main(_):
        with run.locked():
            preprocess.main(run)

    assert run_as_script(main, "preprocess.py") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"preprocess.py: {tmp_path / name} is not a folder: it is a file, or a link")
    assert err.count("\n") == 1


def test_a_folder_without_permission_is_named_and_left_as_it_was(tmp_path, song):
    prefix = []
    if os.geteuid() == 0:  # root may write anywhere, unless it gives up that capability
        if not shutil.which("setpriv"):
            pytest.skip("runs as root, and setpriv is not installed")
        prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    folder = copy_project(tmp_path / "project")
    words = [*TINY, f"source={song}", "block-count=50"]
    output = folder / "output" / "my-song"
    output.mkdir(parents=True)
    for name in (".lock", "frames.h5"):
        (output / name).write_text("content")
    for folder_mode, lock_mode, reason in ((0o555, 0o644, "cannot be written to"), (0o755, 0o444, "denied")):
        output.chmod(folder_mode)
        (output / ".lock").chmod(lock_mode)
        for stage in ("preprocess", "autoencoder"):
            result = subprocess.run(
                [*prefix, sys.executable, f"{stage}.py", *words], cwd=folder, capture_output=True, text=True
            )
            assert (result.returncode, result.stdout) == (2, "")
            assert reason in result.stderr
            assert str(output) in result.stderr
            assert result.stderr.count("\n") == 1
    output.chmod(0o755)
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        ".lock": "content",
        "frames.h5": "content",
    }
