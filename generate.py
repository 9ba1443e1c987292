"""Stage 4: generate new audio, part by part and whole by whole, and the song's reconstruction.

Reads output/NAME/{frames,coded-file}.h5 and weights/NAME/*-lstm-file.weights.h5; writes
output/NAME/part-L.wav, whole-L.wav, reconstruction.wav, spectrograms.png (source, reconstruction, then
the clips in order), scores.yaml and {phase,magnitude}-result.h5.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import yaml

from joanna import dataset
from joanna import settings as settings_module
from joanna.settings import UserError

# The two components generate side by side, each on its share of the cores: a matrix product of a few
# rows gains little from more.
CORES_EACH = str(max(1, (os.cpu_count() or 2) // 2))


def main(settings: dict) -> None:
    """Run the stage with a checked settings dict."""
    output, weights = settings_module.output_folder(settings), settings_module.weights_folder(settings)
    songs = {}
    with dataset.open_h5(output / "frames.h5", settings, "preprocess") as file:
        for name in dataset.COMPONENTS:
            songs[name] = {key: file[f"{name}/{key}"][:] for key in ("frames", "mean", "deviation")}
        source, blocks = file["audio"][:], int(file.attrs["blocks"])
    with dataset.open_h5(output / (settings["coded-file"] + ".h5"), settings, "autoencoder") as file:
        made_from = file.attrs["identity"]
    rate, overlap = settings["sample-rate"], settings["overlap"]
    hop = settings["frame-length"] // overlap
    samples = round(settings["generate-seconds"] * rate)
    # a frame's length is cut off at both ends, where the joined frames fade
    count = math.ceil((samples + 2 * settings["frame-length"]) / hop) + overlap
    start = settings["seed-section"] * blocks
    available = len(songs["phase"]["frames"]) - start
    if max(settings["sequence-lengths"]) > available:
        raise UserError(
            f"sequence-lengths has {max(settings['sequence-lengths'])}; from seed-section "
            f"{settings['seed-section']} on the song has {available} frames: lower one of them"
        )
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", CORES_EACH)
    from joanna import backend, model, scores, training  # TensorFlow takes seconds to import

    methods = {"part": part, "whole": whole}
    wanted = list(methods) if settings["method"] == "both" else [settings["method"]]
    clips = {(m, length): {} for m in wanted for length in settings["sequence-lengths"]}
    networks = {}
    for component in dataset.COMPONENTS:
        networks[component] = model.build(settings)
        path = weights / f"{component}-{settings['lstm-file']}.weights.h5"
        state = training.load_weights(networks[component]["network"], path, settings, "lstm")
        if not state.get("new"):
            raise UserError(f"{path} holds no trained generator yet; run: python lstm.py")
        if state["made_from"] != made_from:
            raise UserError(
                f"{path} was trained before the autoencoders were trained again; run: python lstm.py"
            )

    def frames_of(component):
        song, network = songs[component], networks[component]["network"]
        for method, length in clips:
            print(f"{component}: {method}, sequences of {length}", flush=True)
            seed = song["frames"][start : start + length]
            frames = methods[method](network, seed, count)
            if settings["match-statistics"]:
                frames = match(frames)
            clips[method, length][component] = frames * song["deviation"] + song["mean"]
        spliced = networks[component]["spliced"].predict_on_batch(song["frames"][None])[0]
        return spliced * song["deviation"] + song["mean"]

    with ThreadPoolExecutor() as pool:
        rebuilt = dict(zip(dataset.COMPONENTS, pool.map(frames_of, dataset.COMPONENTS), strict=True))
    path = output / "reconstruction.wav"
    written = [source, _write(path, _join(rebuilt, settings), source, rate, "autoencoder.py")]
    likeness = scores.mel_correlation(written[1], source, rate)
    print(f"  its log-mel spectrogram correlates {likeness:.3f} with the source's")
    for component in dataset.COMPONENTS:
        arrays = {f"{m}-{length}": clip[component] for (m, length), clip in clips.items()}
        path = output / (settings[f"{component}-result"] + ".h5")
        dataset.save_h5(path, arrays, settings, "lstm")
        print(f"wrote {path}")
    song, found = scores.Song(source, rate, hop / rate), {}
    for (method, length), clip in clips.items():
        path = output / f"{method}-{length}.wav"
        signal = _join(clip, settings)[settings["frame-length"] :][:samples]
        written.append(_write(path, signal, source, rate, "lstm.py"))
        found[path.stem] = song.score(written[-1])
        print(f"  {song.line(found[path.stem])}")
    path = output / "scores.yaml"
    path.write_text(yaml.safe_dump({"source": song.yardsticks, **found}, sort_keys=False))
    print(f"wrote {path}")
    path = output / "spectrograms.png"
    longest = max(len(signal) for signal in written[2:])
    image = scores.picture([signal[:longest] for signal in written], rate)
    backend.tensorflow.io.write_file(str(path), backend.tensorflow.io.encode_png(image))
    print(f"wrote {path}")
    settings_module.save(settings)


def part(network, seed: np.ndarray, count: int) -> np.ndarray:
    """Frames ``(count, F)``: append the last frame of each prediction, slide the window.

    Args:
        network: frames ``(1, T, F)`` -> the next frames ``(1, T, F)``.
        seed: seed frames ``(T, F)``, scaled; they are not part of the result.
        count: frames wanted.
    """
    from joanna.fast import SlidingWindow

    window = SlidingWindow(network, len(seed))
    frames = [window.push(frame) for frame in seed][-1:]
    while len(frames) < count:
        frames.append(window.push(frames[-1]))
    return np.array(frames)


def whole(network, seed: np.ndarray, count: int) -> np.ndarray:
    """Frames ``(count, F)``: the whole of each output is the next input. Arguments as in `part`."""
    window, result = seed[None], []
    for _ in range(math.ceil(count / len(seed))):
        window = network.predict_on_batch(window)
        result.append(window[0])
    return np.concatenate(result)[:count]


def match(frames: np.ndarray) -> np.ndarray:
    """Bring scaled frames ``(M, F)`` back to the source's mean 0 and deviation 1 in every bin."""
    deviation = frames.std(axis=0)
    return (frames - frames.mean(axis=0)) / np.where(deviation > 1e-6, deviation, 1.0)


def _join(frames, settings):
    """Audio ``(S,)`` of frames ``(M, F)`` of both components, in radians and compressed magnitude."""
    from joanna import audio

    magnitude = np.maximum(frames["magnitude"], 0) ** (1 / settings["magnitude-power"])
    return audio.istft(magnitude * np.exp(1j * frames["phase"]), settings["overlap"])


def _write(path, signal, source, rate, blame):
    """Bring audio ``(S,)`` to the source's loudness, write and return it."""
    from joanna import audio

    if not np.isfinite(signal).all():
        raise UserError(f"{path.name}: the network put out NaN or Inf; run: python {blame}")
    loudness = np.sqrt(np.mean(np.square(signal)))
    wanted = np.sqrt(np.mean(np.square(source, dtype=np.float64)))
    if loudness < 1e-3 * wanted:
        print(f"warning: {path} is silent; train longer and run: python {blame}")
    elif loudness > 0:
        signal = signal * min(wanted / loudness, 0.99 / np.abs(signal).max())
    audio.save_audio(path, signal, rate)
    print(f"wrote {path}")
    return signal


if __name__ == "__main__":
    settings_module.run_stage(main, __doc__)
