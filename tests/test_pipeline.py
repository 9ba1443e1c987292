"""The four stages on a song, at tiny width, in one process."""

import contextlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from itertools import product

import h5py
import numpy as np
import pytest
import yaml
from helpers import page_data, tiny_run, tone, write_wav
from scipy.io import wavfile

import autoencoder
import generate
import lstm
import preprocess
from joanna import artifacts, cli, model
from joanna.artifacts import STAGES, Frames, Latents
from joanna.audio import read_clip_metadata, wav_bytes
from joanna.checkpoint import Checkpoint
from joanna.errors import UserError
from joanna.run import PROJECT, Run
from joanna.settings import load
from joanna.spectra import stft

MAINS = dict(zip(STAGES, (preprocess.main, autoencoder.main, lstm.main, generate.main), strict=True))
WORDS = ["source=./sources/song.wav", "sequence-lengths=[4]", "takes=2"]
WORDS += ["coded-file=codes", "lstm-file=lstms"]
WORDS += ["phase-encoder=encoder-p", "magnitude-encoder=encoder-m"]
WORDS += ["phase-result=frames-p", "magnitude-result=frames-m"]
CLIPS = [f"{method}-4-take-{take}" for method, take in product(("part", "whole"), (1, 2))]


def run_stage(run, stage, **options):
    """Run a stage; what it prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        MAINS[stage](run, **options)
    return output.getvalue()


def make_again(root, clip, **options):
    """Make a clip again from its metadata; what is printed."""
    return run_stage(Run(load([str(clip)], generating=True), root), "generate", clip=str(clip), **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder, with a space in its path, in which all stages have run."""
    root = tmp_path_factory.mktemp("my project")
    (root / "sources").mkdir()
    write_wav(root / "sources" / "song.wav", tone())
    for stage in STAGES:
        run_stage(tiny_run(root, *WORDS), stage)
    return root


@pytest.fixture
def root(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "copy of it")


@pytest.fixture
def run(root):
    return tiny_run(root, *WORDS)


def contents(run, pattern="*"):
    """Name -> bytes of the files in output/NAME."""
    return {path.name: path.read_bytes() for path in run.output.glob(pattern)}


def test_every_file_is_there_and_every_wav_is_right(run):
    names = {"frames.h5", "codes.h5", "frames-p.h5", "frames-m.h5", "reconstruction.wav"}
    names |= {"settings.yaml", "scores.yaml", "report.html", "spectrograms.png", ".generated.json"}
    assert {path.name for path in run.output.iterdir()} == names | {f"{name}.wav" for name in CLIPS}
    weights = {"encoder-p", "encoder-m", "phase-lstms", "magnitude-lstms"}
    assert {path.name.removesuffix(".weights.h5") for path in run.weights.iterdir()} == {
        name + ending for name in weights for ending in ("", ".previous")
    }
    loudness, clips = np.sqrt(np.mean(np.square(tone()))), set()
    for name in CLIPS:
        rate, samples = wavfile.read(run.clip_file(name))
        assert (rate, samples.dtype, samples.shape) == (4000, np.int16, (2000,))
        assert np.abs(samples.astype(int)).max() < 32767
        assert samples[0] == samples[-1] == 0  # no click
        assert 0.3 * loudness < np.sqrt(np.mean(np.square(samples / 32767))) < 1.1 * loudness
        clips.add(samples.tobytes())
    assert len(clips) == len(CLIPS)
    reconstruction = wavfile.read(run.output / "reconstruction.wav")[1]
    assert np.corrcoef(reconstruction, tone()[: len(reconstruction)])[0, 1] < 0.99  # after few epochs
    levels = [np.abs(stft(sound, 64, 2)).mean(axis=0) for sound in (reconstruction, tone())]
    assert np.corrcoef(*levels)[0, 1] > 0.5
    scores = yaml.safe_load((run.output / "scores.yaml").read_text())
    assert list(scores) == ["source", *CLIPS]
    assert all(np.isfinite(scores[name]["spectrum"]) for name in CLIPS)
    picture = (run.output / "spectrograms.png").read_bytes()
    rows = 2 + len(CLIPS)  # source, reconstruction and clips, of 64 bands
    assert int.from_bytes(picture[20:24], "big") == 4 * 64 * rows + 8 * (rows - 1)
    for component in ("phase", "magnitude"):
        with h5py.File(run.result_file(component)) as file:
            assert set(file) == set(CLIPS)


def test_too_little_memory_is_noticed_before_the_work(run, monkeypatch):
    monkeypatch.setattr("joanna.resources.memory_available", lambda: 1e6)
    again = Run({**run.settings, "load-weights": False}, run.root)
    for stage in STAGES[1:]:
        with pytest.raises(UserError, match=r"takes about .* GB of memory; 0.0 GB are free"):
            run_stage(again, stage)


def test_pauses_do_not_count_in_the_statistics_of_the_frames(tmp_path):
    write_wav(tmp_path / "song.wav", np.concatenate([tone(), np.zeros(2400), tone()]))
    run = tiny_run(tmp_path, "source=song.wav", "block-count=110")
    run_stage(run, "preprocess")
    frames = Frames.load(run)
    assert 60 < np.sum(~frames.sounding) < 90
    for component in frames.components.values():
        sound = component.frames[frames.sounding]
        np.testing.assert_allclose(sound.mean(axis=0), 0, atol=1e-3)
        assert np.abs(component.frames[~frames.sounding]).max() <= 3


def test_files_have_the_layout_of_earlier_versions(run):
    with h5py.File(run.frames_file) as file:
        assert set(file.attrs) == {"recipe", "identity", "blocks"}
        assert set(file) == {"audio", "magnitude", "phase"}
        assert set(file["phase"]) == {"frames", "mean", "deviation"}
    with h5py.File(run.latents_file) as file:
        assert set(file.attrs) == {"recipe", "identity", "weights"}
    with h5py.File(run.weights_file("phase", "lstm")) as file:
        assert set(file.attrs) >= {"recipe", "made_from", "progress"}
        progress = json.loads(file.attrs["progress"])
        assert progress == {
            key: {"epochs": 2, "steps": 0, "halvings": 0, "goal": 2} for key in ("spliced", "new")
        }
        assert set(file["training/history"]) == {"spliced", "new"}
        assert set(file["training/moments"]) == {"new"}
        assert set(file["training/held"]) == {"own", "since"}


def test_same_seed_same_bytes_and_generation_settings_matter(root, run):
    clip = run.clip_file("part-4")

    def samples(*changes):
        words = [*WORDS, "takes=1", "method=part", *changes]
        assert "wrote" in run_stage(tiny_run(root, *words), "generate")
        assert ("guided by the song" in run.report_file.read_text()) == ("guided=True" in changes)
        name = "whole-4" if "method=whole" in changes else "part-4"
        return wavfile.read(run.clip_file(name + "-guided" * ("guided=True" in changes)))[1]

    seed = write_wav(root / "sources" / "seed.wav", tone(0.9, 8000, 300), 8000)
    made, before = [samples()], clip.read_bytes()
    samples("load-weights=False")
    assert clip.read_bytes() == before
    changes = [
        ["phase-iterations=0"],
        ["phase-method=follow"],
    ]  # the latter from here on: it is quicker
    changes += [["seed-section=1"], ["match-statistics=False"], ["variation=0"], ["random-seed=1"]]
    changes += [["guided=True"], ["guided=True", "jumps=0.5"]]
    changes += [["method=whole"], ["method=whole", "whole-frames=3"]]
    changes += [["method=whole", "whole-variation=0.1"]]
    for place, change in enumerate([*changes, [f"seed-source={seed}"]]):
        change = [*change, *["phase-method=follow"][: place > 1]]
        made.append(samples(*change))
        assert not any(np.array_equal(made[-1], earlier) for earlier in made[:-1]), change
    wavfile.write(seed, 8000, (wavfile.read(seed)[1] / 2**18).astype(np.float32))
    np.testing.assert_allclose(samples(*change), made[-1], atol=2)  # its loudness does not matter


def test_a_recording_is_continued(root, run):
    seed = write_wav(root / "sources" / "seed.wav", tone(0.9, 8000, 300), 8000)
    words = [*WORDS, f"seed-source={seed}", "continue=True", "phase-method=all", "method=part"]
    words += ["variation=0:0.1,0.5:0.8"]
    output = run_stage(tiny_run(root, *words), "generate", out=str(root / "best.wav"))
    assert "note: variation is 0:0.1,0.5:0.8; the networks were trained with dropout 0.4 only" in output
    ways = product(("network", "follow", "griffin-lim"), (1, 2))
    names = [f"part-4-continued-{way}-take-{take}" for way, take in ways]
    scores = yaml.safe_load((run.output / "scores.yaml").read_text())
    assert list(scores)[1:] == names
    clips = [wavfile.read(run.clip_file(name))[1] for name in names]
    assert {len(clip) for clip in clips} == {3600 + 2000}
    end = 3600 - 32  # the last samples of the recording fade
    assert all(np.array_equal(clip[:end], clips[0][:end]) for clip in clips)
    recording, loudness = tone(0.9, 4000, 300)[:end], np.sqrt(np.mean(np.square(tone())))
    assert np.corrcoef(clips[0][:end], recording)[0, 1] > 0.999
    assert np.sqrt(np.mean(np.square(clips[0] / 32767))) == pytest.approx(loudness, rel=0.2)
    assert len({clip[3600:].tobytes() for clip in clips}) == 6
    assert all(clip[3600:].std() > 0.3 * clip[:end].std() for clip in clips)
    with h5py.File(run.result_file("magnitude")) as file:
        assert set(file) == set(names)
    clip = shutil.move(run.clip_file(names[3]), root / "clip.wav")
    assert f"{names[3]} equals {clip}, byte for byte" in make_again(root, clip)


def test_a_clip_of_an_earlier_version_is_made_again(root, run):
    words = [
        *WORDS,
        "takes=1",
        "method=part",
        "guided=True",
        "jumps=0.2",
        "variation=0",
        "phase-method=follow",
    ]
    run_stage(tiny_run(root, *words), "generate")
    path = run.clip_file("part-4-guided")
    metadata, (rate, samples) = read_clip_metadata(str(path)), wavfile.read(path)
    for key in ("guided", "jumps"):
        del metadata["settings"][key]
    metadata["settings"]["variation"] = 0.2  # as jumps was called
    old = root / "old.wav"
    old.write_bytes(wav_bytes(samples / 32767, rate, json.dumps(metadata)))
    assert f"equals {old}, sample for sample" in make_again(root, old)


def test_each_length_and_phase_method_gives_a_clip_of_its_own(root, run):
    words = ["phase-method=all", "method=part", "sequence-lengths=[4,8]", "generate-seconds=0.25"]
    run_stage(tiny_run(root, *WORDS, "takes=1", *words), "generate")
    names = [f"part-{length}-{way}" for length in (4, 8) for way in ("network", "follow", "griffin-lim")]
    assert list(yaml.safe_load((run.output / "scores.yaml").read_text()))[1:] == names
    clips = [wavfile.read(run.clip_file(name))[1] for name in names]
    assert {len(clip) for clip in clips} == {1000}
    assert len({clip.tobytes() for clip in clips}) == 6
    clip = shutil.move(run.clip_file(names[-1]), root / "clip.wav")
    assert f"{names[-1]} equals {clip}, byte for byte" in make_again(root, clip)


def test_a_clip_is_made_again_from_itself(root, run):
    before = contents(run)
    others = {"whole-4-take-1": b"another clip", "whole-4-take-1-again": b"and another"}
    for name, kept in (("part-4-take-2", {}), ("whole-4-take-1", others)):
        clip, best = root / "clip.wav", root / "best.wav"
        clip.write_bytes(before[f"{name}.wav"])
        run.clip_file(name).unlink()
        for other, content in kept.items():
            run.clip_file(other).write_bytes(content)
        made_as = f"{name}-again-2" if kept else name
        output = make_again(root, clip, out=str(best))
        assert f"{made_as} equals {clip}, byte for byte" in output
        assert run.clip_file(made_as).read_bytes() == best.read_bytes() == clip.read_bytes()
        assert all(run.clip_file(other).read_bytes() == content for other, content in kept.items())
    after = contents(run)  # of all clips, still
    assert all(content == after[name] for name, content in before.items() if ".wav" not in name)


def test_the_command_for_more_takes_keeps_those_there_are(root, run):
    takes = [wavfile.read(run.clip_file(f"part-4-take-{take}"))[1].astype(int) for take in (1, 2)]
    whole = run.clip_file("whole-4-take-1").read_bytes()
    more = next(
        clip["more"] for clip in page_data(run.report_file)["clips"] if clip["name"] == "part-4-take-2"
    )
    words = [word.replace("output/song", str(run.output)) for word in shlex.split(more)[2:]]
    run_stage(Run(load(words, generating=True), root), "generate")
    found = [wavfile.read(run.clip_file(f"part-4-take-{take}"))[1].astype(int) for take in range(1, 6)]
    for samples in takes:
        assert min(np.abs(samples - other).max() for other in found) <= 1
    assert run.clip_file("whole-4-take-1").read_bytes() == whole


def test_clips_that_cannot_be_made_again_are_refused(root, run):
    clip = run.clip_file("part-4-take-2")
    settings = load([str(clip)], generating=True)
    with pytest.raises(UserError, match="its metadata is of take 2 of 1"):
        generate.main(Run({**settings, "takes": 1}, root), clip=str(clip))
    seed = write_wav(root / "sources" / "seed.wav", tone(0.9))
    with pytest.raises(UserError, match="has changed; put it back"):
        generate.main(Run({**settings, "seed-source": str(seed)}, root), clip=str(clip))
    path = run.weights_file("phase", "lstm")
    shutil.copy(path.with_name("phase-lstms.previous.weights.h5"), path)
    with pytest.raises(UserError, match="was made with other weights than those in .*; train them again"):
        generate.main(Run(settings, root), clip=str(clip))


def test_the_best_clip_is_copied_to_out(root, run):
    small = tiny_run(root, *WORDS, "method=part")
    output = run_stage(small, "generate", out=str(root / "best.wav"))
    assert "best.wav: part-4-take-1, the best by its scores" in output
    assert (root / "best.wav").read_bytes() == run.clip_file("part-4-take-1").read_bytes()
    for path, reason in (
        (root / "none" / "x.wav", "none is missing or cannot"),
        (root, "it is a folder"),
    ):
        with pytest.raises(UserError, match=rf"cannot be written, .*{reason}"):
            generate.main(run, out=str(path))
    recording = root / run.settings["source"]
    (root / "link.wav").symlink_to(recording)
    for path, what in (
        (recording, "the recording"),
        (root / "link.wav", "the recording"),
        (run.clip_file("reconstruction"), "a clip of the run"),
    ):
        with pytest.raises(UserError, match=f"would replace {what}; choose another name"):
            generate.main(run, out=str(path))


def test_the_settings_of_a_run_stay_those_its_weights_were_trained_with(root, run):
    before = yaml.safe_load(run.settings_file.read_text())
    # a training with other settings was stopped before its end
    run.settings_file.write_text(yaml.safe_dump({**before, "dropout": 0.2, "own-share": 0.1}))
    words = ["minutes=5", "dropout=0.1", "lstm-epoch=9", "random-seed=3", "takes=1", "method=part"]
    output = run_stage(tiny_run(root, *WORDS, *words), "generate")
    message = "the weights were trained with dropout 0.4, minutes 0.0, lstm-epoch 2, lstm-iteration 1:"
    assert message in output
    kept = {"lstm-epoch": 2, "lstm-iteration": 1, "takes": 1, "method": "part"}
    assert yaml.safe_load(run.settings_file.read_text()) == {**before, **kept}
    assert f"then {cli.python()} generate.py" in run.report_file.read_text()
    # so it repeats the run without training, and so does a clip
    clip = run.clip_file("part-4")
    content = clip.read_bytes()
    for stage, path in product(STAGES[:3], (run.settings_file, clip)):
        assert run_stage(Run(load([str(path)]), root), stage).startswith("up to date, skipped: "), stage
    run_stage(Run(load([str(clip)], generating=True), root), "generate")
    assert clip.read_bytes() == content
    metadata = read_clip_metadata(str(clip))
    assert metadata["random-seed"] == 3
    assert metadata["settings"]["random-seed"] == before["random-seed"]
    assert metadata["settings"]["dropout"] == before["dropout"]


def test_finished_stages_are_skipped(root, run):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code = f"""
import sys, {", ".join(STAGES)}
from pathlib import Path
from joanna.run import Run
from joanna.settings import load
run = Run(load([{str(run.settings_file)!r}]), Path({str(root)!r}))
for stage in {", ".join(STAGES)}:
    stage.main(run)
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert all(line.startswith("up to date, skipped: ") for line in output.splitlines())
    assert output.count("\n") == 4
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    small, clip = tiny_run(root, *WORDS, "takes=1", "method=part"), run.clip_file("part-4")
    altered = (lambda: clip.write_bytes(clip.read_bytes()[:-2])), small.settings_file.unlink, (lambda: None)
    for alter in altered:  # after other settings, and each time
        assert "wrote" in run_stage(small, "generate")
        assert run_stage(small, "generate").startswith("up to date, skipped: ")
        alter()
    assert small.settings_file.exists()


def weights(path):
    """Name -> array of each layer's weights in a file."""
    arrays = {}
    with h5py.File(path) as file:
        file["layers"].visititems(
            lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return {name: array for name, array in arrays.items() if "seed_generator" not in name}


def test_frozen_layers_stay_and_new_ones_learn(run, monkeypatch):
    monkeypatch.setattr(artifacts, "COMPONENTS", ("phase",))  # one shows it as well as two
    path = run.weights_file("phase", "lstm")
    before = weights(path)
    checkpoint = Checkpoint(run, "phase", "lstm", Latents.load(run).digest)
    assert checkpoint.resume(model.build(run.settings).predictor)
    checkpoint.state.forget("new")  # train the generator again on finished spliced layers
    checkpoint.save("spliced", [])
    with pytest.raises(UserError, match="phase-lstms.weights.h5 holds no trained generator yet"):
        generate.main(run)
    run_stage(run, "lstm")
    after = weights(path)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # layers in order: encoder, lstm (new), lstm_1 (new), lstm_2, lstm_3 (spliced), decoder
    assert {name.split("/")[0] for name in changed} == {"lstm", "lstm_1"}


def test_a_mistyped_source_leaves_no_folders(root):
    run = tiny_run(root, "source=./sources/sing.wav")
    with pytest.raises(UserError, match="sing.wav: no such file"), run.locked():
        preprocess.main(run)
    assert not run.output.exists()
    assert not run.weights.exists()
    assert (root / "weights" / "song").exists()


def test_a_run_goes_on_without_its_source(root, run):
    source, before = root / "sources" / "song.wav", contents(run)
    source.rename(root / "moved.wav")
    note = f"source ./sources/song.wav cannot be read: using {run.frames_file}, made from it\n"
    for stage in STAGES:
        assert run_stage(run, stage).startswith(f"{note}up to date, skipped: ")
    assert contents(run) == before
    clip = shutil.move(run.clip_file(CLIPS[0]), root / "clip.wav")
    output = make_again(root, clip)
    assert output.count(note) == 1
    assert f"{CLIPS[0]} equals {clip}, byte for byte" in output
    for stage in ("autoencoder", "lstm", "generate"):
        with pytest.raises(UserError, match=r"none.wav: no such file"):
            run_stage(tiny_run(root, *WORDS, "name=song", "source=none.wav"), stage)
    (root / "moved.wav").rename(source)
    assert run_stage(run, "lstm").startswith("up to date, skipped: ")


def test_missing_and_unfit_inputs_name_the_stage_to_run(root):
    for stage, words, message, rerun in (
        ("autoencoder", ["name=new"], "frames.h5 is missing", "preprocess"),
        ("lstm", ["name=new"], "frames.h5 is missing", "preprocess"),
        ("generate", ["name=new"], "frames.h5 is missing", "preprocess"),
        ("lstm", ["coded-file=none"], "none.h5 is missing", "autoencoder"),
        (
            "lstm",
            ["layer-count=1"],
            "layer-count 2, the settings say 1 .*set layer-count=2",
            "autoencoder",
        ),
        ("generate", ["lstm-file=none"], "phase-none.weights.h5 is missing", "lstm"),
        ("generate", ["lstm-layers=1"], "lstm-layers 2, the settings say 1", "lstm"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            MAINS[stage](tiny_run(root, *WORDS, *words))
        assert refused.value.rerun == rerun


def test_weights_trained_on_other_latents_are_refused(run):
    latents = Latents.load(run)
    latents.components["phase"][0] += 1
    latents.save(run)
    with pytest.raises(UserError, match="trained before the autoencoders were trained again") as refused:
        generate.main(run)
    assert refused.value.rerun == "lstm"


def test_a_refused_source_leaves_files_alone(root, run):
    before = run.frames_file.read_bytes()
    (root / "sources" / "text.wav").write_text("no recording")
    for words, message in (
        (["source=./sources/none.wav"], "no such file"),
        (["source=./sources/text.wav"], "text.wav: not a"),
        (["section-count=200"], "choose a longer one, or lower section-count"),
    ):
        with pytest.raises(UserError, match=message):
            preprocess.main(tiny_run(root, *WORDS, "name=song", *words))
    assert run.frames_file.read_bytes() == before
