"""Trainings and scripts that are killed or stopped, and the results after they are resumed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import PROJECT, SmallTraining, contents, copy_project, run_as_script, run_script
from helpers import STAGES, TINY, tiny_run, tone, write_wav

import autoencoder
import generate
import lstm
import preprocess
from joanna.artifacts import Frames, Latents
from joanna.backend import keras
from joanna.checkpoint import Checkpoint
from joanna.errors import Stopped, UserError
from joanna.previews import Previews
from joanna.resources import TimeBudget
from joanna.run import Run

KEY = SmallTraining.training.key
# 40 steps in an epoch of each training, so that it is cut into two parts
CUT = ["layer-count=1", "lstm-layers=1", "batch-size=3", "window-length=3", "window-batch=1"]
CUT += ["ae-epoch=3", "ae-iteration=2", "lstm-epoch=2", "lstm-iteration=2", "method=part"]
CUT += ["sequence-lengths=[4]", "generate-seconds=0.25"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted."""
    root = tmp_path_factory.mktemp("whole")
    run = tiny_run(root, f"source={write_wav(root / 'song.wav', tone())}", *CUT)
    for stage in (preprocess, autoencoder, lstm, generate):
        stage.main(run)
    return run


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of that run."""
    for folder in ("output", "weights"):
        shutil.copytree(whole.root / folder, tmp_path / folder)
    return Run(whole.settings, tmp_path)


@pytest.mark.parametrize(("steps", "parts"), [(3, 1), (40, 2)])
def test_stopped_after_any_epoch_gives_bit_identical_results(tmp_path, capsys, steps, parts):
    uninterrupted = SmallTraining(tmp_path / "whole", steps=steps).train()
    steps_between_saves = steps // parts
    for stops in range(6 * parts):
        training = SmallTraining(tmp_path / "stopped", steps=steps)
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
            assert f"resuming at epoch {stops // parts + 1} of 6" in messages
    assert contents(training.path) == uninterrupted
    assert SmallTraining(tmp_path / "stopped", steps=steps).train() == uninterrupted


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
    assert not [*tmp_path.glob(".*")]  # no unfinished file
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
    assert capsys.readouterr().err == f"lstm.py: stopped; to resume: python lstm.py minutes=0.01\n"
    assert not training.path.exists()
    # no time is left for more than one epoch
    assert SmallTraining(tmp_path, "minutes=0.01").train() == uninterrupted


def test_more_iterations_resume(tmp_path):
    SmallTraining(tmp_path).train()
    training = SmallTraining(tmp_path, "lstm-iteration=3")
    assert '"epochs": 9' in training.train()["progress"]
    assert training.steps == 9


class Interruptions(Previews):
    """In the place of previews: an explosion at the first step of a training, a stop before another."""

    stop_before = ""

    def callbacks(self, training, checkpoint, network):
        if training.kind == self.stop_before:
            raise Stopped(signal.SIGINT)
        causes = [FloatingPointError] if training.kind == "spliced" else []

        def explode(batch, logs):
            if causes:
                raise causes.pop()

        return [keras.callbacks.LambdaCallback(on_train_batch_begin=explode)]


def _train_phase(run, stop_before=""):
    """The LSTM stage of the phase; contents of its weights."""
    frames, latents = Frames.load(run), Latents.load(run)
    checkpoint = Checkpoint(run.weights_file("phase", "lstm"), run, "lstm", latents.digest)
    trainer, previews = lstm.Trainer("phase", checkpoint, frames, latents), Interruptions(run, frames)
    previews.stop_before = stop_before
    trainer.train_spliced(TimeBudget(run.settings), previews)
    trainer.train_generator(TimeBudget(run.settings), previews)
    return contents(checkpoint.path)


def test_more_lstm_iterations_stopped_between_the_trainings_give_bit_identical_results(copy, capsys):
    more = Run({**copy.settings, "lstm-iteration": 3}, copy.root)
    path = copy.weights_file("phase", "lstm")
    data = path.read_bytes()
    uninterrupted = _train_phase(more)
    path.write_bytes(data)
    with pytest.raises(Stopped):
        _train_phase(more, stop_before="generator")
    assert _train_phase(more) == uninterrupted
    messages = capsys.readouterr().out
    assert messages.count("phase spliced: the loss exploded at epoch 5; resuming from epoch 5") == 2
    assert messages.count("phase spliced: all 6 epochs are already trained") == 1
    # its targets have changed, so it is trained anew
    assert messages.count("phase generator: epoch 6 of 6") == 2
    assert "phase generator: resuming" not in messages


def test_weights_that_the_coded_file_was_not_made_with_are_refused(copy):
    from joanna import model

    frames, path = Frames.load(copy), copy.weights_file("phase", "autoencoder")
    checkpoint = Checkpoint(path, copy, "autoencoder", frames.digest)
    layers = model.build(copy.settings).autoencoder.layers
    assert checkpoint.resume(model.sequential((64,), layers, "saved"))
    checkpoint.save("autoencoder", [])  # of equal settings, but another file
    for lstm_file in copy.weights.glob("*lstm*"):
        lstm_file.unlink()
    with pytest.raises(UserError, match="did not encode the coded file") as refused:
        lstm.main(copy)
    assert refused.value.rerun == "autoencoder"


SCRIPTS = f"""
import runpy, sys
for stage in {STAGES}:
    sys.argv[0] = stage + ".py"
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_scripts_killed_at_random_moments_end_with_the_same_bytes(whole, tmp_path):
    """The scripts with previews, killed in each stage, against the run without: neither changes a byte."""
    folder, rng = copy_project(tmp_path / "project"), random.Random(time.time_ns())
    words = [*TINY, *CUT, f"source={whole.settings['source']}", "preview-minutes=0.001"]
    weights, output = folder / "weights/song", folder / "output/song"
    begun = [output / "frames.h5", weights / "phase-encoder.previous.weights.h5"]
    begun += [weights / "phase-lstm-file.previous.weights.h5", output / "reconstruction.wav", None]
    for path in begun:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPTS, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while path and not path.exists() and process.poll() is None:
            time.sleep(0.01)
        if path:
            time.sleep(rng.uniform(0, 0.5))
            process.kill()
        assert process.communicate()[1] == ""
        assert process.returncode == (-signal.SIGKILL if path else 0)
    for path in whole.weights.glob("*.h5"):
        if "previous" not in path.name:
            assert contents(weights / path.name) == contents(path), path.name
    clips = {path.name: path.read_bytes() for path in whole.output.glob("*.wav")}
    assert {path.name: path.read_bytes() for path in output.glob("*.wav")} == clips
    assert len(clips) == 2
    assert [*(output / "previews").iterdir()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_save_and_print_the_command_that_resumes(copy, capsys, number, code):
    words = [f"{key}={value}" for key, value in copy.settings.items() if value != ""]
    words += ["load-weights=False", "ae-epoch=100000"]
    path = copy.weights_file("phase", "autoencoder")
    path.unlink()

    def send_signal():
        while not path.exists():  # saved at the start of the training
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send_signal)
    thread.start()
    started = run_as_script(lambda run: autoencoder.main(Run(run.settings, copy.root)), "autoencoder.py", *words)
    thread.join()
    assert started == code
    out, err = capsys.readouterr()
    assert "stopping after this epoch" in out
    assert err.startswith("autoencoder.py: stopped; to resume: python autoencoder.py")
    assert err.endswith("load-weights=True\n")
    assert '"epochs": 0, "steps": 0' not in contents(path)["progress"]


def test_a_second_run_of_a_name_is_told_which_process_holds_it(tmp_path):
    run = tiny_run(tmp_path, "name=song")
    script = f"""
import pathlib, time
from joanna.run import Run
with Run({{"name": "song", "coded-file": ""}}, pathlib.Path({str(tmp_path)!r})).locked():
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


def test_a_folder_that_cannot_be_written_is_named(tmp_path, song):
    (tmp_path / "output").write_text("a file in the place of a folder")
    run = tiny_run(tmp_path, f"source={song}")
    code = run_as_script(lambda _: run.locked().__enter__(), "preprocess.py")
    assert code == 2


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
    assert {path.name: path.read_text() for path in output.iterdir()} == {".lock": "content", "frames.h5": "content"}
