import io

import numpy as np
import pytest
from helpers import tiny_run, tone, write_wav
from scipy.io import wavfile

import generate
from joanna import clips, generation, model, scores, spectra
from joanna.artifacts import ComponentFrames, Frames
from joanna.backend import keras
from joanna.backend import tensorflow as tf
from joanna.errors import UserError
from joanna.fast import DropoutEncoder, Windows
from joanna.generation import FrameGenerator, Job
from joanna.matching import SongStatistics, match_phases
from joanna.settings import load


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A predictor whose output neither dies away nor stands still when fed back."""
    network = model.build(tiny_run(tmp_path_factory.mktemp("run")).settings).predictor
    rng = np.random.default_rng(0)
    network.set_weights([w * 3 + rng.normal(0, 0.3, w.shape) for w in network.get_weights()])
    return network


def run_loop(network, length, seed, loop):
    """Frames of one clip; `loop` gets the seed. A longer seed is a recording."""
    predictions = network.predict_on_batch(seed[None])[0] if len(seed) > length else seed[:0]
    start = generation.Seed(seed[-length:], predictions[-length:])
    return generation.run_loops(Windows(network, [length]), [loop(start)])[0]


def test_part_generation_equals_the_plain_loop(network):
    rng = np.random.default_rng(0)
    for length in (1, 2, 8):
        seed = rng.normal(size=(length, 64)).astype("float32")
        frames = run_loop(network, length, seed, lambda start: generation.part(start, 30))
        song = np.concatenate([seed, frames])
        windows = np.stack([song[first : first + length] for first in range(30)])
        # Every frame is the plain loop's next step from the frames before it. Sums in another order
        # round differently, by 1e-7 of values near 10; fed back, such differences grow, so the two are
        # compared a step at a time. They grow within a window, too: to 7e-6 on one CPU, 2e-4 on another.
        plain = network.predict(windows, verbose=0)[:, -1]
        np.testing.assert_allclose(frames, plain, atol=1e-3)
        assert np.std(plain[-1] - plain[-4]) > 0.01 * np.std(plain)


def test_whole_generation_feeds_the_whole_output_back(network):
    seed = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    outputs = [network.predict(seed[None], verbose=0)]
    for _ in range(7):
        outputs.append(network.predict(outputs[-1], verbose=0))
    frames = run_loop(network, 5, seed, lambda start: generation.whole(start, 8))
    np.testing.assert_allclose(frames, [output[0, -1] for output in outputs], atol=1e-3)
    several = run_loop(network, 5, seed, lambda start: generation.whole(start, 14, kept=3))
    plain = np.concatenate([output[0, -3:] for output in outputs[:5]])[:14]
    np.testing.assert_allclose(several, plain, atol=1e-3)


@pytest.mark.parametrize("method", generation.METHODS.values())
def test_the_whole_seed_and_the_next_input_count(network, method):
    seed = np.random.default_rng(0).normal(size=(9, 64)).astype("float32")
    frames = run_loop(network, 4, seed, lambda start: method(start, 6))
    other = seed.copy()
    other[0] = 0
    assert not np.array_equal(run_loop(network, 4, other, lambda start: method(start, 6)), frames)
    np.testing.assert_allclose(frames[0], network.predict(seed[None], verbose=0)[0, -1], atol=1e-5)
    changed = run_loop(network, 4, seed, lambda start: method(start, 6, lambda frame: frame + 1))
    np.testing.assert_array_equal(changed[0], frames[0])
    assert not np.allclose(changed[1], frames[1])


def test_without_dropout_the_random_numbers_of_a_clip_stay_those_of_earlier_versions(network):
    rng = np.random.default_rng(0)
    windows = Windows(network, [4], 0.0, [rng])
    windows.push([np.zeros((1, 64), np.float32)])
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_a_recording_whose_predictions_would_fill_the_clip_is_continued(network):
    seed = np.random.default_rng(0).normal(size=(9, 64)).astype("float32")
    frames = run_loop(network, 4, seed, lambda start: generation.whole(start, 3, kept=40))
    assert frames.shape == (3, 64)
    predicted = network.predict(seed[None], verbose=0)[0, -2:]
    np.testing.assert_allclose(frames[:2], predicted, atol=1e-3)


def noise_song(pause=slice(0)):
    """A song of 60 frames of noise, without sound in the frames `pause`."""
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(60, 64)).astype("float32")
    frames[pause] = -2
    sound = np.full(61, 0.1, "float32")
    sound[pause.start or 0 : pause.stop + 1] = 0  # a block is half a frame
    components = {
        name: ComponentFrames(frames, np.full(64, 2.0), np.ones(64)) for name in ("phase", "magnitude")
    }
    return Frames(components, np.repeat(sound, 32) * rng.choice([-1, 1], 61 * 32).astype("float32"), 30, 2)


def generator(tmp_path, network, *words, song=None):
    song, run = song or noise_song(), tiny_run(tmp_path, "takes=2", *words)
    return FrameGenerator(run, "magnitude", network, song, song.components["magnitude"].frames[:8])


def test_every_job_has_its_own_frames_which_repeat(tmp_path, network, capsys):
    jobs = [Job(method, length, take) for method in ("part", "whole") for length, take in ((4, 0), (4, 1))]
    frames = generator(tmp_path, network).generate(jobs)
    assert list(frames) == jobs
    # 0.5 s and a frame at both ends, which are cut off, at a hop of 32 samples
    assert {values.shape for values in frames.values()} == {(67 + 2, 64)}
    assert len({values.tobytes() for values in frames.values()}) == 4
    again = generator(tmp_path, network).generate(jobs[2:3])
    np.testing.assert_array_equal(again[jobs[2]], frames[jobs[2]])
    assert "magnitude: 4 clips\n" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["part", "whole"])
def test_the_network_hears_nothing_but_its_own_output(tmp_path, network, method):
    """By default; at variation 0 it is the plain loop, and dropout changes what it hears."""
    job, seed = Job(method, 4, 0), noise_song().components["magnitude"].frames[:4]
    words = ["takes=1"]
    own = generator(tmp_path, network, *words, "variation=0").generate([job])[job]
    plain = run_loop(network, 4, seed, lambda start: generation.METHODS[method](start, len(own)))
    np.testing.assert_array_equal(plain, own)
    varied = [
        generator(tmp_path, network, *words, f"variation={rate}").generate([job])[job] for rate in (0.1, 0.4)
    ]
    assert not any(np.allclose(frames[10:], own[10:], atol=0.1) for frames in varied)
    assert not np.allclose(*varied, atol=0.1)
    other = generator(tmp_path, network, *words, "variation=0.4", "random-seed=1").generate([job])[job]
    assert not np.allclose(other, varied[1], atol=0.1)


def test_variation_may_change_along_the_clip(tmp_path, network):
    jobs = [Job("part", 4, 0), Job("whole", 8, 0)]

    def generated(variation):
        words = ["takes=1", f"variation={variation}"]
        return generator(tmp_path, network, *words).generate(jobs)

    none, some = generated(0), generated(0.4)
    constant, late, early = generated("0:0.4,0.5:0.4"), generated("0.2:0,0.201:0.4"), generated("0:0.4,0.1:0")
    for job in jobs:
        np.testing.assert_array_equal(constant[job], some[job])
        # frames are 8 ms apart, and two of them lie before the clip
        np.testing.assert_array_equal(late[job][:28], none[job][:28])
        assert not np.array_equal(late[job][28], none[job][28])
        np.testing.assert_array_equal(early[job][:3], some[job][:3])
        assert not np.array_equal(early[job][3], some[job][3])


def test_a_repeated_curve_of_variation_begins_again_along_the_clip():
    words, jobs = ["demo", "generate-seconds=3"], [Job("part", 12, 0), Job("whole", 12, 0)]
    once, repeated = (
        generation.dropout_rates(load([*words, f"variation=0:0.1,0.6:0.9,0.64:0.1{end}"]), jobs)
        for end in ("", ",repeat")
    )
    cut = 12 + 1  # steps before the clip; its frames are 64 ms apart
    np.testing.assert_allclose(repeated[: cut + 10], once[: cut + 10], atol=1e-9)
    np.testing.assert_allclose(repeated[cut + 10 : cut + 40], repeated[cut : cut + 30], atol=1e-9)
    assert np.ptp(repeated[cut : cut + 10]) > 0.7


def test_a_curve_of_variation_knows_that_an_output_has_no_more_frames_than_its_input():
    words, job = ["demo", "variation=0:0,10:0.4", "sequence-lengths=[12]"], Job("whole", 12, 0)
    rates = [generation.dropout_rates(load([*words, f"whole-frames={kept}"]), [job]) for kept in (12, 48)]
    assert np.array_equal(*rates)


def test_whole_clips_may_have_a_variation_of_their_own():
    jobs = [Job(method, 12, 0) for method in ("part", "whole")]

    def rates(*words):
        found = generation.dropout_rates(load(["demo", *words]), jobs)
        return found[-1].tolist()

    assert rates("variation=0.2") == [0.2, 0.2]
    assert rates("variation=0.2", "whole-variation=0:0.1,1:0.3") == [0.2, 0.3]
    assert rates("variation=0:0.1,1:0.3", "whole-variation=0") == [0.3, 0]


def test_dropout_takes_units_at_its_rate_and_depends_on_its_seed(tmp_path):
    encoder = model.build(tiny_run(tmp_path).settings).encoder
    frames = np.random.default_rng(0).normal(size=(300, 64)).astype("float32")

    def encoded(rate, seed=0):
        return DropoutEncoder(encoder, rate)(frames, np.random.default_rng(seed))

    np.testing.assert_allclose(encoded(0), encoder.predict(frames, verbose=0), atol=1e-6)
    assert np.mean(encoded(0.3) == 0) == pytest.approx(0.3, abs=0.02)  # of the last layer
    np.testing.assert_array_equal(encoded(0.3), encoded(0.3))
    stock, rng = frames[:256], np.random.default_rng(0)  # as many as are encoded at a time
    seeds = rng.integers(2**31, size=(len(encoder.layers), 2), dtype=np.int32)
    for layer, seed in zip(encoder.layers, seeds, strict=True):
        is_dropout = isinstance(layer, keras.layers.Dropout)
        stock = tf.nn.experimental.stateless_dropout(stock, 0.3, seed) if is_dropout else layer(stock)
    np.testing.assert_allclose(encoded(0.3)[:256], stock, atol=1e-6)
    assert not np.array_equal(encoded(0.3), encoded(0.3, 1))


def test_loops_are_printed(tmp_path, capsys):
    network = model.build(tiny_run(tmp_path).settings).predictor
    *weights, bias = network.get_weights()
    network.set_weights([*(0 * weight for weight in weights), np.arange(len(bias))])  # it stands still
    words = ["variation=0", "guided=True", "jumps=0", "takes=1", "generate-seconds=6"]
    generator(tmp_path, network, *words).generate([Job("part", 4, 0)])
    # two equal frames count as a loop of one frame; 3 s are 375 frames
    message = "magnitude: part, sequences of 4: frame 376 repeats frame 375: replaced by a random one"
    assert message in capsys.readouterr().out


def test_a_song_is_reconstructed_alike_at_once_and_in_blocks(tmp_path):
    run, song = tiny_run(tmp_path), noise_song()
    networks = dict.fromkeys(song.components, model.build(run.settings))
    at_once = generation.reconstruct(run, networks, song)
    assert at_once.shape == song.audio.shape
    for block, lead in ((50, 40), (59, 58)):
        np.testing.assert_allclose(
            generation.reconstruct(run, networks, song, block, lead), at_once, atol=5e-3
        )
    assert not np.allclose(generation.reconstruct(run, networks, song, 50, 0), at_once, atol=1e-2)
    song = noise_song(slice(20, 30))  # pauses are found in a block too
    frames = {name: component.frames[15:35] for name, component in song.components.items()}
    audio = generation.to_audio(run, song, frames, slice(15, 35))
    np.testing.assert_array_equal(audio[6 * 32 : 15 * 32], 0)
    assert audio[4 * 32 : 5 * 32].any()


def test_sound_on_the_side_alone_is_no_pause():
    rng, has_sound = np.random.default_rng(0), np.arange(60) // 10 != 1
    frames = rng.normal(size=(60, 64)).astype("float32")
    frames[10:30, :33], frames[10:20, 33:] = -1, -1
    song = ComponentFrames(frames, np.ones(64, "float32"), np.ones(64, "float32"))
    _, kept = generation.mute_pauses(frames + 0.1, song, has_sound, stereo=True)
    np.testing.assert_array_equal(kept, has_sound)


@pytest.mark.parametrize(
    "copies", [1, 32]
)  # of the bins: a frame of 2048 is wider than a block of `normalize`
def test_generated_pauses_become_silence(copies):
    song, rng = noise_song(slice(10, 20)).components["magnitude"], np.random.default_rng(0)
    song = ComponentFrames(*(np.tile(values, copies) for values in (song.frames, song.mean, song.std)))
    has_sound = np.arange(60) // 10 != 1
    generated = song.frames[5:25] + 0.3 * rng.normal(size=(20, 64 * copies)).astype("float32")
    muted, kept = generation.mute_pauses(generated, song, has_sound)
    np.testing.assert_array_equal(kept, has_sound[5:25])
    np.testing.assert_array_equal(muted[kept], generated[kept])
    assert not song.restore(muted[~kept]).any()
    unchanged, kept = generation.mute_pauses(generated, song, np.ones(60, bool))
    assert unchanged is generated
    assert kept.all()


@pytest.mark.parametrize("words", [["guided=True"], ["guided=True", "jumps=0"], ["guided=False"]])
def test_a_silent_output_stays_silent(tmp_path, capsys, words):
    network = model.build(tiny_run(tmp_path).settings).predictor
    *weights, bias = network.get_weights()
    rng = np.random.default_rng(0)
    # near the song's silence, -2, whatever the input
    network.set_weights([*(1e-3 * weight for weight in weights), -1.9 + 0.01 * rng.normal(size=len(bias))])
    song = noise_song(slice(20, 30))
    words = ["variation=0", "generate-seconds=6", "takes=1", *words]
    frames = generator(tmp_path, network, *words, song=song).generate([Job("part", 4, 0)])
    own, generated = song.components["magnitude"], frames[Job("part", 4, 0)]
    muted, kept = generation.mute_pauses(generated, own, song.sounding)
    assert not kept.any()
    np.testing.assert_array_equal(muted, -2)
    assert "repeats" not in capsys.readouterr().out


def test_seeds_start_with_sound_and_that_is_said(tmp_path, capsys):
    run = tiny_run(tmp_path, "seed-section=1")
    for pause, first in ((slice(0, 20), 30), (slice(28, 41), 41)):
        song = noise_song(pause)
        seeds, _ = generate.seed_frames(run, song)
        for name, component in song.components.items():
            np.testing.assert_array_equal(seeds[name], component.frames[first:])
    # of two halves of 30 blocks of 8 ms
    assert (
        capsys.readouterr().out == "seed-section 1 leads into a pause: the seed starts at 0.3 s of the song\n"
    )


@pytest.mark.parametrize("overlap", [2, 4])
@pytest.mark.parametrize("sound", ["noise", "tone", "same tone"])
def test_a_recording_and_its_continuation_join_without_a_click(tmp_path, sound, overlap):
    run = tiny_run(tmp_path, "seed-source=a.wav", "continue=True", f"overlap={overlap}", "frame-length=256")
    length, hop = 3000, 256 // overlap
    start, fade = length - 256 + hop, 256 - hop
    if sound == "noise":
        first, second = np.random.default_rng(0).normal(size=(2, length))
    else:
        tone = np.sin(2 * np.pi * 300 / 4000 * np.arange(2 * length))
        first, second = tone[:length], tone[start + 5 * (sound == "tone") :][:length]
    generated = spectra.istft(spectra.stft(second, 256, overlap), overlap)
    signal = clips.continue_recording(first, clips.trim_and_fade(generated, run.settings), run.settings)
    assert len(signal) == length + 2000
    np.testing.assert_array_equal(signal[:start], first[:start].astype(np.float32))
    np.testing.assert_array_equal(signal[length:-40], generated[fade:][:2000][:-40].astype(np.float32))
    for order in (1, 6):  # jumps from sample to sample, and high frequencies
        jumps = np.abs(np.diff(signal, order))
        assert jumps[start - order : length].max() < 1.1 * jumps[: start - order].max()
    assert np.std(signal[start:length]) > 0.8 * np.std(first)  # no gap either
    first, generated = (np.stack([channel, channel], axis=1) for channel in (first, generated))
    stereo = clips.continue_recording(first, clips.trim_and_fade(generated, run.settings), run.settings)
    np.testing.assert_allclose(stereo, np.stack([signal, signal], axis=1), atol=1e-6)


def song_of(audio):
    """The song that preprocess.py makes of audio, with frames of 64 samples."""
    sounding, components = spectra.sounding(audio, 64, 2), {}
    for name in spectra.COMPONENTS:
        values = spectra.component_frames(audio, name, 64, 2, 0.5)
        statistics = spectra.statistics(values, sounding)
        components[name] = ComponentFrames(spectra.normalize(values, *statistics, sounding), *statistics)
    return Frames(components, audio, 60, 2)


def swelling_noise(size, pause=slice(0)):
    """Noise ``(size,)`` without sound in the samples `pause`."""
    noise = np.random.default_rng(0).normal(size=size) * 0.1 * (1 + np.sin(np.arange(size) / 500))
    noise[pause] = 0
    return noise.astype("float32")


def test_a_long_recording_is_in_the_wav_and_its_last_minute_in_the_report(tmp_path):
    words = ["seed-source=a.wav", "continue=True", "phase-method=follow", "generate-seconds=1.5"]
    run, rng = tiny_run(tmp_path, *words, "match-statistics=False"), np.random.default_rng(0)
    audio = swelling_noise(8000)
    song, recording = song_of(audio), np.full(70 * 4000, 0.1, "float32")
    maker = clips.ClipMaker(run, song, audio, recording)
    job, metadata = Job("part", 4, 0), {"settings": run.settings}
    copied = song.components["magnitude"].frames[:220]
    [clip] = maker.rank_takes({"magnitude": {job: copied}}, metadata)
    assert clip.name == "part-4-continued"
    assert len(clip.signal) == (60 + 1.5) * 4000
    assert len(wavfile.read(io.BytesIO(clip.wav))[1]) == (70 + 1.5) * 4000
    # the whole of it is a copy, but not of the recording
    assert clip.scores["copied"] == 1
    assert 60 <= clip.scores["copied-at"] < 60.2
    # phases of another origin do not hide it
    run = tiny_run(tmp_path, *words, "phase-method=network")
    frames = {"magnitude": copied, "phase": rng.normal(size=(220, 64))}
    maker = clips.ClipMaker(run, song, audio, recording)
    [clip] = maker.rank_takes({name: {job: values} for name, values in frames.items()}, metadata)
    assert clip.scores["copied"] == 1


@pytest.mark.parametrize("phase_method", ["network", "follow"])
@pytest.mark.parametrize("pause", [slice(0), slice(2000, 4000)])
def test_a_clip_has_the_magnitudes_of_the_songs_sound(tmp_path, phase_method, pause):
    audio, rng = swelling_noise(8000, pause), np.random.default_rng(1)
    song, job, levels = song_of(audio), Job("part", 4, 0), np.linspace(0.05, 0.95, 19)
    frames = {name: {job: 0.3 * rng.normal(size=(220, 64)).astype("float32")} for name in song.components}

    def errors(*words):
        """Of the levels of each bin, in the frames of the clip and in those of its sound."""
        run = tiny_run(tmp_path, f"phase-method={phase_method}", "generate-seconds=1.5", *words)
        maker = clips.ClipMaker(run, song, audio, audio[:0])
        [clip] = maker.rank_takes(frames, {"settings": run.settings})
        own, heard = (
            spectra.component_frames(each, "magnitude", 64, 2, 0.5) for each in (audio, clip.signal)
        )
        expected = np.quantile(own[song.sounding], levels, axis=0)
        clips_frames = (each[each.any(axis=1)] for each in (clip.magnitude, heard))
        found = (np.abs(np.quantile(each, levels, axis=0) - expected).mean() for each in clips_frames)
        return np.array([*found]) / expected.mean()

    (matched, heard), (generated, unmatched) = errors(), errors("match-statistics=False")
    assert matched < 0.05 < generated
    assert heard < 0.15 < unmatched


@pytest.mark.parametrize("stereo", [False, True])
def test_a_clip_takes_the_phases_of_its_sum_and_keeps_pauses_and_ends(tmp_path, stereo):
    audio, rng, job = swelling_noise(8000, slice(2000, 4000)), np.random.default_rng(1), Job("part", 4, 0)
    audio = np.stack([audio, 0.5 * np.roll(audio, 7)], axis=1) if stereo else audio
    run = tiny_run(tmp_path, "phase-iterations=0", "generate-seconds=1.5", f"stereo={stereo}")
    song = song_of(audio)
    own, generated = song.components, rng.normal(size=(2, 220, 64)).astype("float32")
    generated[0, 100:110] = own["magnitude"].normalize(np.zeros((1, 64)))
    kept = ~np.isin(np.arange(220), np.arange(100, 110))
    frames = {"magnitude": {job: generated[0]}, "phase": {job: 0.3 * generated[1] + 1}}
    [clip] = clips.ClipMaker(run, song, audio, audio[:0]).rank_takes(frames, {"settings": run.settings})
    matched = SongStatistics(own["magnitude"].frames, song.sounding).match(generated[0], kept)
    magnitude, phase = own["magnitude"].restore(matched), own["phase"].restore(match_phases(generated[1]))
    np.testing.assert_allclose(clip.magnitude[100:110], 0, atol=1e-6)
    np.testing.assert_allclose(clip.magnitude[[0, -1]], magnitude[[0, -1]], rtol=1e-5)
    assert not np.allclose(clip.magnitude[1:-1][kept[1:-1]], magnitude[1:-1][kept[1:-1]], atol=0.01)
    expected = spectra.component_frames(spectra.join(magnitude, phase, 0.5, 2, stereo), "phase", 64, 2, 1.0)
    expected[:, 33:] = phase[:, 33:] if stereo else expected[:, 33:]
    clear = np.roll(kept, 1) & kept & np.roll(kept, -1)
    difference = np.exp(1j * clip.phase[clear]) - np.exp(1j * expected[clear])
    assert np.quantile(np.abs(difference), 0.99) < 1e-3


@pytest.mark.parametrize("level", [-5.0, -1.0])  # -2 is silence
@pytest.mark.parametrize("phase_method", ["network", "follow"])
def test_a_clip_that_stands_still_is_raised_to_no_sound(tmp_path, phase_method, level):
    audio, rng, job = swelling_noise(8000), np.random.default_rng(1), Job("part", 4, 0)
    run, song = tiny_run(tmp_path, f"phase-method={phase_method}", "generate-seconds=1.5"), song_of(audio)
    maker = clips.ClipMaker(run, song, audio, audio[:0])
    still = np.full((220, 64), level, "float32")
    frames = {"magnitude": {job: still}, "phase": {job: rng.normal(size=(220, 64)).astype("float32")}}
    [clip] = maker.rank_takes(frames, {"settings": run.settings})
    expected = song.components["magnitude"].restore(still)
    np.testing.assert_allclose(*(np.maximum(0, values) for values in (clip.magnitude, expected)), atol=1e-6)


def test_the_network_hears_a_recording_to_its_end(tmp_path):
    rng = np.random.default_rng(0)
    samples = 0.3 * rng.normal(size=4321)
    path = write_wav(tmp_path / "a.wav", samples.clip(-0.9, 0.9))
    seeds, recording = generate.seed_frames(tiny_run(tmp_path, f"seed-source={path}"), noise_song())
    assert not len(recording)
    run = tiny_run(tmp_path, f"seed-source={path}", "continue=True")
    seeds, recording = generate.seed_frames(run, noise_song())
    assert len(recording) == 4321
    last = np.abs(spectra.stft(recording[-64:], 64, 2)) ** 0.5
    magnitudes = noise_song().components["magnitude"].restore(seeds["magnitude"])
    np.testing.assert_allclose(magnitudes[-1:], last, atol=1e-4)


@pytest.mark.parametrize("words", [[], ["continue=True"]])
def test_the_end_of_a_long_recording_is_heard(tmp_path, words):
    samples = 0.1 * np.random.default_rng(0).normal(size=40_000)
    path = write_wav(tmp_path / "a.wav", samples)
    seeds, _ = generate.seed_frames(tiny_run(tmp_path, f"seed-source={path}", *words), noise_song())
    # the last frame of all 1249 at a hop of 32, or the one that ends with the recording: the same here
    last = np.abs(spectra.stft(samples, 64, 2)[-1009:]) ** 0.5
    magnitudes = noise_song().components["magnitude"].restore(seeds["magnitude"])
    assert magnitudes.shape == last.shape
    np.testing.assert_allclose(magnitudes, last, atol=0.01)


def test_a_silent_clip_stays_silent_with_a_warning(capsys):
    source = tone()
    for stage, advice in (("autoencoder", "ae-iteration"), ("lstm", "lstm-iteration")):
        silent = clips.match_loudness(1e-9 * source, source, "part-4", stage)
        assert np.abs(silent).max() < 1e-8
        warning = f"warning: part-4 is silent; raise {advice} or minutes and run {stage}.py again\n"
        assert capsys.readouterr().out == warning
    with pytest.raises(UserError, match="part-4: the network's output is NaN or Inf"):
        clips.match_loudness(np.append(source, np.nan), source, "part-4", "lstm")


def test_an_output_that_is_not_finite_is_refused(tmp_path):
    network = model.build(tiny_run(tmp_path).settings).predictor
    network.set_weights([np.nan * weight for weight in network.get_weights()])
    with pytest.raises(UserError, match="part, sequences of 4, take 1: the network's output is Na") as error:
        generator(tmp_path, network).generate([Job("part", 4, 0)])
    assert error.value.rerun == "lstm"


def test_a_page_that_has_the_beginning_of_a_long_song_offers_no_copy_of_what_follows():
    song = (0.1 * np.random.default_rng(0).normal(size=4 * 4000)).astype("float32")
    reference = scores.Reference(song, 4000, 0.008)
    found = [reference.score(song[start * 4000 :][: 2 * 4000]) for start in (0, 2)]
    made = [clips.Clip(f"part-{k}", song, song, song, each) for k, each in enumerate(found)]
    entries = generate.page_clips({"source": song[:6000]}, made, reference, 4000)
    assert [entry["seconds"] for entry in entries] == [1.5, 4, 4]
    assert [entry["scores"]["copied-seconds"] > 0 for entry in entries[1:]] == [True, False]
    assert all(each["copied-seconds"] > 0 for each in found)
