"""Real runs of the scripts through the command line, at tiny width."""

import subprocess
import sys
from itertools import product

import h5py
import numpy as np
import pytest
import yaml
from conftest import TINY, copy_project, tone
from scipy.io import wavfile

import generate
from joanna import model
from joanna import settings as settings_module
from joanna.checkpoint import Checkpoint

STAGES = ("preprocess", "autoencoder", "lstm", "generate")


def run(folder, stage, *arguments):
    return subprocess.run(
        [sys.executable, f"{stage}.py", *TINY, "source=./sources/song.wav", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )


def weights(path):
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    skip = ("training", "seed_generator")
    return {name: array for name, array in arrays.items() if not any(word in name for word in skip)}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, with a space in its path, in which all stages have run."""
    folder = copy_project(tmp_path_factory.mktemp("run") / "my project")
    samples = np.round(tone() * 32767).astype(np.int16)
    wavfile.write(folder / "sources" / "song.wav", 4000, samples)
    for stage in STAGES:
        result = run(folder, stage)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    return folder


def test_every_wav_is_there_and_right(project):
    names = {"part-4", "part-8", "whole-4", "whole-8"}
    output = project / "output" / "song"
    assert {path.stem for path in output.glob("*.wav")} == names | {"reconstruction"}
    loudness = np.sqrt(np.mean(np.square(tone())))
    for name in names:
        rate, samples = wavfile.read(output / f"{name}.wav")
        assert (rate, samples.dtype, samples.shape) == (4000, np.int16, (2000,))
        assert np.abs(samples.astype(int)).max() < 32767
        assert samples[0] == samples[-1] == 0  # no click
        assert 0.3 * loudness < np.sqrt(np.mean(np.square(samples / 32767))) < 1.1 * loudness
    assert (output / "settings.yaml").is_file()
    scores = yaml.safe_load((output / "scores.yaml").read_text())
    assert set(scores) == names | {"source"}
    assert all(np.isfinite(scores[name]["spectrum"]) for name in names)
    for component in ("phase", "magnitude"):
        with h5py.File(output / f"{component}-result.h5") as file:
            assert set(file) == names


def test_same_seed_same_bytes_and_generation_settings_matter(project, monkeypatch):
    output = project / "output" / "song"
    before = {path: path.read_bytes() for path in output.glob("*-4.wav")}
    for path in before:
        path.unlink()
    assert run(project, "generate").returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    monkeypatch.setattr(settings_module, "ROOT", project)

    def generate_with(*words):
        source = project / "sources" / "song.wav"
        generate.main(settings_module.load([*TINY, f"source={source}", *words]))

    seed = project / "sources" / "seed.wav"
    wavfile.write(seed, 8000, np.round(tone(0.9, 8000, 300) * 32767).astype(np.int16))
    changes = ["seed-section=1", "match-statistics=False", "variation=0", f"seed-source={seed}"]
    changes += ["phase-method=network", "phase-method=griffin-lim"]
    seen = [list(before.values())]
    for change in changes:
        generate_with(change, "sequence-lengths=[4]")
        if change.startswith("seed-source"):  # how loud it is does not matter
            clips = [wavfile.read(path)[1] for path in before]
            wavfile.write(seed, 8000, (wavfile.read(seed)[1] / 2**18).astype(np.float32))
            generate_with(change, "sequence-lengths=[4]")
            for clip, path in zip(clips, before, strict=True):
                np.testing.assert_allclose(wavfile.read(path)[1], clip, atol=2)
        seen.append([path.read_bytes() for path in before])
        assert all(seen[-1][i] != old[i] for old in seen[:-1] for i in range(len(before))), change
    generate_with("phase-method=all", "takes=2", "method=part", "sequence-lengths=[4]")
    names = [
        f"part-4-{way}-take-{take}" for way in ("follow", "network", "griffin-lim") for take in (1, 2)
    ]
    scores = yaml.safe_load((output / "scores.yaml").read_text())
    assert list(scores)[1:] == names
    clips = [wavfile.read(output / f"{name}.wav")[1] for name in names]
    assert all(not np.array_equal(clips[i], clips[j]) for i in range(6) for j in range(i))
    generate_with("method=part", "generate-seconds=0.25")
    assert len(wavfile.read(output / "part-4.wav")[1]) == 1000


def test_a_clip_is_made_again_from_itself_and_the_best_goes_where_it_is_wanted(project, tmp_path):
    output = project / "output" / "song"
    words = ["sequence-lengths=[4,6]", "takes=2"]
    assert run(project, "generate", *words).returncode == 0
    overview = {
        path: path.read_bytes()
        for path in (output / "scores.yaml", output / "settings.yaml", output / "report.html")
    }
    clip = tmp_path / "clip.wav"
    for name in ("part-6-take-2", "whole-4-take-1"):
        wanted = (output / f"{name}.wav").read_bytes()
        clip.write_bytes(wanted)
        (output / f"{name}.wav").unlink()
        result = subprocess.run(
            [sys.executable, "generate.py", "--from", clip, "--out", tmp_path / "best.wav"],
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert (output / f"{name}.wav").read_bytes() == wanted
        assert (tmp_path / "best.wav").read_bytes() == wanted
        assert f"{name} is as {clip}, byte for byte" in result.stdout
    # a later clip of the same name stays
    later = output / f"{name}.wav"
    later.write_bytes(b"later")
    again = [sys.executable, "generate.py", "--from", clip]
    assert subprocess.run(again, cwd=project, capture_output=True).returncode == 0
    assert later.read_bytes() == b"later"
    assert (output / f"{name}-again.wav").read_bytes() == wanted
    (output / f"{name}-again.wav").write_bytes(b"another, later")
    assert subprocess.run(again, cwd=project, capture_output=True).returncode == 0
    assert (output / f"{name}-again.wav").read_bytes() == b"another, later"
    assert (output / f"{name}-again-2.wav").read_bytes() == wanted
    for number in ("", "-2"):
        (output / f"{name}-again{number}.wav").unlink()
    later.write_bytes(wanted)
    # what the run wrote beside the clips is of all of them still
    assert {path: path.read_bytes() for path in overview} == overview
    assert run(project, "generate", *words).stdout.startswith("nothing has changed")
    result = run(project, "generate", *words, "--out", str(tmp_path / "best.wav"))
    best = (tmp_path / "best.wav").read_bytes()
    assert "the best by its scores" in result.stdout
    assert best in [
        (output / f"{method}-{length}-take-1.wav").read_bytes()
        for method in ("part", "whole")
        for length in (4, 6)
    ]
    for words, said in (
        (["--out"], "expected the path"),
        (["--out", str(tmp_path / "none" / "x.wav")], "no file can be written there"),
        (["--out", str(tmp_path)], "expected the path of a .wav file"),
        (["--from", str(clip)], "for others: python generate.py"),
    ):
        result = run(project, "generate", *words)
        assert result.returncode == 2, words
        assert said in result.stderr
    result = subprocess.run(
        [sys.executable, "generate.py", "--from", project / "sources" / "song.wav"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "holds no recipe" in result.stderr


def test_the_settings_of_a_run_stay_those_its_weights_were_trained_with(project):
    path = project / "output" / "song" / "settings.yaml"
    before = yaml.safe_load(path.read_text())
    # a training with other settings was stopped before it was done
    path.write_text(yaml.safe_dump({**before, "dropout": 0.2, "own-share": 0.1}))
    words = ["minutes=5", "dropout=0.1", "lstm-epoch=9", "random-seed=3", "generate-seconds=0.3"]
    result = run(project, "generate", *words)
    said = "the weights were trained with dropout 0.4, minutes 0.0, lstm-epoch 2, lstm-iteration 1:"
    assert said in result.stdout
    kept = {"lstm-epoch": 2, "lstm-iteration": 1, "generate-seconds": 0.3}
    kept |= {"sequence-lengths": [4, 8], "takes": 1}
    assert yaml.safe_load(path.read_text()) == {**before, **kept}
    assert "then python generate.py" in (path.parent / "report.html").read_text()
    # so it repeats the run without training, and so does a clip
    clip = path.parent / "part-4.wav"
    content = clip.read_bytes()
    for stage, given in (*product(STAGES[:3], (path, clip)), ("generate", clip)):
        result = subprocess.run(
            [sys.executable, f"{stage}.py", given], cwd=project, capture_output=True, text=True
        )
        assert result.returncode == 0
        assert result.stdout.startswith("nothing has changed") or stage == "generate", stage
    assert clip.read_bytes() == content
    recipe = settings_module.read_recipe(str(clip))
    assert recipe["random-seed"] == 3
    assert recipe["settings"]["random-seed"] == before["random-seed"]
    assert recipe["settings"]["dropout"] == before["dropout"]


def test_finished_stages_are_skipped(project):
    path = project / "weights" / "song" / "phase-encoder.weights.h5"
    before = weights(path)
    assert run(project, "generate").returncode == 0  # tests before this one left other clips
    for stage in STAGES:
        result = run(project, stage)
        assert result.stdout.startswith("nothing has changed: ")
        assert result.stdout.count("\n") == 1
    clip = project / "output" / "song" / "part-4.wav"
    clip.write_bytes(clip.read_bytes()[:-2])
    assert "wrote" in run(project, "generate").stdout
    assert run(project, "generate").stdout.startswith("nothing has changed: ")
    assert "wrote" in run(project, "generate", "variation=0.2").stdout
    assert "wrote" in run(project, "generate", "variation=0.2", "load-weights=False").stdout
    after = weights(path)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_frozen_layers_stay_and_new_ones_learn(project):
    path = project / "weights" / "song" / "phase-lstm-file.weights.h5"
    before = weights(path)
    chosen = settings_module.load([*TINY, f"source={project / 'sources' / 'song.wav'}"])
    with h5py.File(path) as file:
        checkpoint = Checkpoint(path, chosen, "lstm", file.attrs["made_from"])
    assert checkpoint.resume(model.build(chosen)["network"])
    del checkpoint.progress["new"]  # train the generator again on finished spliced layers
    checkpoint.save("spliced", [])
    assert run(project, "lstm").returncode == 0
    after = weights(path)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all("lstm" in name for name in changed)
    # network layers in order: encoder, lstm (new), lstm_1 (new), lstm_2, lstm_3 (spliced), decoder
    assert not any("lstm_2" in name or "lstm_3" in name for name in changed)
    assert any("lstm/" in name for name in changed)
    assert any("lstm_1/" in name for name in changed)


def test_a_mistyped_source_leaves_no_folders(project):
    result = run(project, "preprocess", "source=./sources/sing.wav")
    assert (result.returncode, result.stdout) == (2, "")
    assert "sing.wav: no such file" in result.stderr
    for folder in ("output", "weights"):
        assert not (project / folder / "sing").exists()
        assert (project / folder / "song").exists()


def test_missing_and_unfit_inputs_name_the_stage_to_run(project):
    for stage, before in (
        ("autoencoder", "preprocess"),
        ("lstm", "preprocess"),
        ("generate", "preprocess"),
    ):
        result = run(project, stage, "name=fresh")
        assert (result.returncode, result.stdout) == (2, "")
        assert f"run: python {before}.py" in result.stderr
        assert result.stderr.count("\n") == 1
    result = run(project, "lstm", "layer-count=1")
    assert result.returncode == 2
    assert (
        "layer-count 2, the settings say 1; set layer-count=2 or another name=, or run: "
        "python autoencoder.py" in result.stderr
    )
    result = run(project, "generate", "lstm-layers=1")
    assert result.returncode == 2
    assert "run: python lstm.py" in result.stderr


def test_a_refused_source_leaves_files_alone(project):
    frames = project / "output" / "song" / "frames.h5"
    before = frames.read_bytes()
    for source in ("./sources/none.wav", "./preprocess.py"):
        result = run(project, "preprocess", f"source={source}", "name=song")
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
    result = run(project, "preprocess", "section-count=200", "name=song")
    assert result.returncode == 2
    assert "choose a longer one, or lower section-count" in result.stderr
    assert frames.read_bytes() == before
