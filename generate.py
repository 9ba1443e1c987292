"""Stage 4: generate new audio by the part and the whole method, and the song's reconstruction.

Reads output/NAME/{frames,coded-file}.h5 and weights/NAME/*-lstm-file.weights.h5; writes
output/NAME/part-L.wav, whole-L.wav, reconstruction.wav, spectrograms.png (source, reconstruction, then
the clips in order), scores.yaml, report.html and {phase,magnitude}-result.h5.

    python generate.py demo random-seed=1                     # others
    python generate.py demo generate-seconds=30 'sequence-lengths=[24,48]'
    python generate.py demo takes=5 variation=0.3 --out best.wav   # five of each; the best goes there
    python generate.py demo seed-source=./sources/other.wav   # start from another recording
    python generate.py --from output/harp/part-12.wav         # that one again, byte for byte
"""

import contextlib
import hashlib
import io
import json
import math
import os
import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, product
from pathlib import Path

import joanna  # noqa: F401 # isort: skip - it says which packages are missing

import numpy as np
import yaml

from joanna import dataset, memory, store
from joanna import settings as settings_module
from joanna.errors import UserError

# Two clips are generated side by side, each on its share of the cores: a matrix product of a few rows
# gains little from more.
CORES_EACH = str(max(1, (os.cpu_count() or 2) // 2))


def main(settings: dict, out: str = "", clip: str = "") -> None:
    """Run the stage with a checked settings dict.

    Args:
        out: where the best clip goes as well, a wav file.
        clip: a clip to make again, whose settings these are; its weights have to be these.
    """
    folder = Path(out).resolve().parent
    if out and (Path(out).is_dir() or not os.access(folder, os.W_OK)):
        why = "it is a folder" if Path(out).is_dir() else f"{folder} is missing or cannot be written to"
        raise UserError(
            f"--out {out}: no file can be written there, {why}; expected a wav file's path in a folder "
            "that is there"
        )
    again = settings_module.read_recipe(clip) if clip else None
    wanted = Path(clip).read_bytes() if clip else b""
    output, weights = settings_module.output_folder(settings), settings_module.weights_folder(settings)
    songs, attributes = dataset.load_frames(output / "frames.h5", settings)
    source, rate = songs.pop("audio"), settings["sample-rate"]
    coded = dataset.load_latents(output / (settings["coded-file"] + ".h5"), settings)[1]
    done, made_with = output / ".generated.json", _made_with(settings, output, weights)
    if settings["load-weights"] and not (out or clip) and store.noted(done, made_with):
        print(f"nothing has changed: the clips in {output} are as the settings say")
        return
    if again and again["seed"] != made_with.get("seed-source"):
        raise UserError(f"{clip}: seed-source {settings['seed-source']} is not what it was; put it back")
    if again and not 1 <= again["take"] <= settings["takes"]:
        raise UserError(f"{clip}: its recipe is of take {again['take']} of {settings['takes']}")
    seeds = _seeds(settings, songs, source, int(attributes["blocks"]))
    heard = seeds["phase"] if settings["seed-source"] else []
    memory.check(settings, "generating", len(songs["phase"]["frames"]) + len(heard))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", CORES_EACH)
    from joanna import audio, scores  # scipy and, below, TensorFlow take seconds to import

    networks, history, prints, trained = _trained(settings, weights, coded)
    if again and again["weights"] != prints:
        raise UserError(f"{clip} was made with other weights than those in {weights}; train them again")

    differs = [key for key in trained if trained[key] != settings[key] and key != "random-seed"]
    if differs:
        kept = ", ".join(f"{key} {trained[key]}" for key in differs)
        print(f"note: the weights were trained with {kept}: settings.yaml and report.html keep that")

    rebuilt = _reconstruction(settings, networks, songs)
    rebuilt = _as_loud(rebuilt, source, "reconstruction", "autoencoder")
    if not again:
        _write(output / "reconstruction.wav", _wav(rebuilt, rate))
    likeness = scores.mel_correlation(rebuilt, source, rate)
    print(f"  its log-mel spectrogram correlates {likeness:.3f} with the source's")
    signals = {"source": source, "reconstruction": rebuilt}

    methods = ["part", "whole"] if settings["method"] == "both" else [settings["method"]]
    jobs = list(product(methods, settings["sequence-lengths"], range(settings["takes"])))
    ways = [settings["phase-method"]]
    if ways == ["griffin-lim"] and settings["overlap"] < 4:
        print(f"note: griffin-lim gains little at overlap {settings['overlap']}; train with overlap=4")
    if ways == ["all"]:
        ways = ["follow", "network", "griffin-lim"]
    began, frames = time.monotonic(), {}
    for component in ("magnitude",) if ways == ["follow"] else ("magnitude", "phase"):
        frames[component] = _generate(
            settings, component, networks[component]["network"], songs[component], seeds[component], jobs
        )
    took = time.monotonic() - began
    speed = len(jobs) * settings["generate-seconds"] / took
    print(f"generated {len(jobs)} clips of {settings['generate-seconds']:g} s in {took:.0f} s: ", end="")
    print(f"{speed:.2f} times real time")

    # as heard: joining the reconstruction's frames has evened out part of their errors
    song_angles = np.angle(audio.stft(rebuilt, settings["frame-length"], settings["overlap"]))
    song = scores.Song(source, rate, settings_module.hop(settings) / rate)
    found, results = {}, {component: {} for component in dataset.COMPONENTS}
    for (method, length), way in product(dict.fromkeys(job[:2] for job in jobs), ways):
        takes = []
        for job in jobs:
            if job[:2] == (method, length):
                magnitude = frames["magnitude"][job]
                angles = _phases(settings, way, songs, song_angles, frames, job)
                signal = dataset.join(dataset.unscale(magnitude, songs["magnitude"]), angles, settings)
                signal = _cut(signal, settings)
                takes.append((song.score(signal), signal, magnitude, angles))
        takes.sort(key=lambda take: song.rank(take[0]))
        alone = {"method": method, "sequence-lengths": [length], "phase-method": way}
        recipe = {"settings": {**trained, **alone, "load-weights": True}, "weights": prints}
        recipe |= {"random-seed": settings["random-seed"], "seed": made_with.get("seed-source")}
        for place, (score, signal, magnitude, angles) in enumerate(takes, 1):
            name = f"{method}-{length}" + (f"-{way}" if len(ways) > 1 else "")
            name += f"-take-{place}" if len(takes) > 1 else ""
            if again and place != again["take"]:
                continue
            name = again["name"] if again else name
            made = json.dumps({**recipe, "name": name, "take": place})
            signal = _as_loud(signal, source, name, "lstm")
            content = _wav(signal, rate, made)
            if again:
                name = _free(output, name, content)
            _write(output / f"{name}.wav", content)
            signals[name] = signal
            print(f"  {song.line(score)}")
            for hint in scores.advice(score, song.yardsticks):
                print(f"  hint: {hint}")
            found[name] = score
            results["magnitude"][name] = dataset.unscale(magnitude, songs["magnitude"])
            results["phase"][name] = angles

    best = min(found, key=lambda name: song.rank(found[name]))
    if not again:
        for component, arrays in results.items():
            path = output / (settings[f"{component}-result"] + ".h5")
            dataset.save_h5(path, arrays, settings, "lstm")
            print(f"wrote {path}")
        _show(settings, trained, signals, song, found, history, speed)
        settings_module.save(trained)
        files = [f"{name}.wav" for name in signals if name != "source"]
        files += ["scores.yaml", "spectrograms.png", "report.html"]
        files += [settings[f"{component}-result"] + ".h5" for component in results]
        store.note(done, made_with, [output / name for name in files])
    content = (output / f"{best}.wav").read_bytes()
    if again and content == wanted:
        print(f"{best} is as {clip}, byte for byte")
    elif again:
        print(f"warning: {best} is not as {clip} was: use the packages and the machine it was made with")
    if out:
        store.write(Path(out).resolve(), lambda path: path.write_bytes(content), sealed=False)
        print(f"wrote {out}: {best}" + ("" if again else ", the best by its scores"))


def _made_with(settings, output, weights):
    """What all that is written follows from: the settings, the files read, if all are there."""
    paths = [output / "frames.h5", output / (settings["coded-file"] + ".h5")]
    paths += [weights / f"{name}-{settings['lstm-file']}.weights.h5" for name in dataset.COMPONENTS]
    made_with = {"settings": {**settings, "load-weights": True}}
    with contextlib.suppress(store.DamagedError):  # who reads them says so
        made_with["files"] = [store.seal(path) for path in paths]
    if settings["seed-source"]:
        with contextlib.suppress(OSError):
            content = dataset.source_path(settings, "seed-source").read_bytes()
            made_with["seed-source"] = hashlib.sha256(content).hexdigest()
    return made_with


def _trained(settings, weights, coded):
    """Each component's networks; their trainings' losses; the weights' fingerprints; their settings.

    `coded` are the attributes of the coded file. The settings are these, but what only trainings take
    as it was for the weights, the magnitude's if they differ.
    """
    from joanna import model
    from joanna.checkpoint import load_weights, read_history

    networks, history, prints, again = {}, {}, [], settings_module.command("lstm")
    epochs = {}
    for place, component in enumerate(dataset.COMPONENTS):
        networks[component] = model.build(settings)
        path = weights / f"{component}-{settings['lstm-file']}.weights.h5"
        state = load_weights(networks[component]["network"], path, settings, "lstm")
        epochs[component] = state["progress"].get("new", {}).get("epochs")
        if not epochs[component]:
            raise UserError(f"{path} holds no trained generator yet; run: {again}")
        if state["made_from"] != coded["identity"]:
            raise UserError(
                f"{path} was trained before the autoencoders were trained again; run: {again}"
            )
        prints.append(dataset.identity(*networks[component]["network"].get_weights()))
        path = weights / (settings[f"{component}-encoder"] + ".weights.h5")
        before = read_history(path, str(coded["weights"][place]))
        for name, rows in {**before, **state["history"]}.items():
            history[f"{component} {name}"] = rows
    if settings["phase-method"] != "follow" and 2 * epochs["phase"] < epochs["magnitude"]:
        print(
            f"note: the phase generator was trained for {epochs['phase']:,} epochs, the magnitude "
            f"generator for {epochs['magnitude']:,}: with minutes, train with the phase-method you want"
        )
    trained = {key: value for key, value in state["recipe"].items() if key in settings}
    del trained["source"]  # its fingerprint
    goals = {"lstm": state["progress"]["new"]["goal"]}
    if "autoencoder" in before:
        goals["ae"] = before["autoencoder"][-1][1]
    for kind, goal in goals.items():
        epoch, iteration = f"{kind}-epoch", f"{kind}-iteration"
        if not trained.get("minutes") and goal != settings[epoch] * settings[iteration]:
            trained |= {epoch: int(goal), iteration: 1}
    return networks, history, prints, {**settings, **trained}


def _reconstruction(settings, networks, songs):
    """Audio ``(S,)`` of the song through the spliced autoencoders."""
    rebuilt = {}
    for component, song in songs.items():
        frames = networks[component]["spliced"].predict_on_batch(song["frames"][None])[0]
        rebuilt[component] = dataset.unscale(frames, song)
    return dataset.join(rebuilt["magnitude"], rebuilt["phase"], settings)


def _generate(settings, component, network, song, seed, jobs):
    """Frames of each job (method, length, take), scaled; two at a time."""
    from joanna import generation, training

    hop = settings_module.hop(settings)
    samples = round(settings["generate-seconds"] * settings["sample-rate"])
    # a frame's length is cut off at both ends, where the joined frames fade
    frame_count = math.ceil((samples + 2 * settings["frame-length"]) / hop) + settings["overlap"]
    stopped = threading.Event()

    def frames(job):
        method, length, take = job
        title = f"{component}: {method}, sequences of {length}"
        print(title + (f", take {take + 1}" if settings["takes"] > 1 else ""), flush=True)
        rng = training.epoch_rng(settings["random-seed"], "generate", component, *job)
        limit = generation.loop_limit(settings)
        like = generation.hearing(song["frames"], settings["variation"], rng, limit, title)

        def hear(frame):
            if stopped.is_set():
                raise InterruptedError
            return like(frame)

        start = seed if settings["seed-source"] else seed[:length]
        result = getattr(generation, method)(network, start, length, frame_count, hear)
        if not np.isfinite(result).all():
            raise UserError(
                f"{title}: the network put out NaN or Inf; run: {settings_module.command('lstm')}"
            )
        return generation.match(result) if settings["match-statistics"] else result

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(frames, job) for job in jobs]
        try:
            return dict(zip(jobs, (done.result() for done in waiting), strict=True))
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _phases(settings, way, songs, song_angles, frames, job):
    """Phases ``(M, F)`` in radians for a job's magnitudes; `song_angles` are the reconstruction's."""
    from joanna import phase

    if way == "follow":
        return song_angles[phase.follow(frames["magnitude"][job], songs["magnitude"]["frames"])]
    angles = dataset.unscale(frames["phase"][job], songs["phase"])
    if way == "network":
        return angles
    magnitude = dataset.linear(dataset.unscale(frames["magnitude"][job], songs["magnitude"]), settings)
    return phase.griffin_lim(magnitude, angles, settings["overlap"])


def _show(settings, trained, signals, song, found, history, speed):
    """Write the scores, the picture of all signals and the report, whose command is of `trained`."""
    from joanna import report, scores
    from joanna.progress import duration

    output, rate = settings_module.output_folder(settings), settings["sample-rate"]
    text = yaml.safe_dump({"source": song.yardsticks, **found}, sort_keys=False)
    longest = max(len(signals[name]) for name in found)
    image = report.png(scores.picture([signal[:longest] for signal in signals.values()], rate))
    for name, content in (("scores.yaml", text.encode()), ("spectrograms.png", image)):
        _write(output / name, content)
    clips = []
    for name, signal in signals.items():
        clip = report.clip(name, signal, rate)
        if name in found:
            clip |= {"found": found[name], "scores": report.describe(found[name], song.yardsticks)}
        clips.append(clip)
    facts = {
        "learned from": f"{len(signals['source']) / rate:.1f} s at {rate} Hz",
        "training": duration(sum(rows[-1][0] for rows in history.values() if rows)),
        "generating": f"{speed:.2f} times real time",
    }
    if settings["random-seed"] != trained["random-seed"]:
        words = [str(output / "settings.yaml"), f"random-seed={settings['random-seed']}"]
        facts["clips"] = f"then {shlex.join(['python', 'generate.py', *words])}"
    path = output / "report.html"
    report.write(path, clips, history, trained, facts)
    print(f"wrote {path}")
    if settings["tensorboard"]:
        _show_on_board(settings, signals, found)


def _show_on_board(settings, signals, found):
    """Give the clips and their scores to TensorBoard."""
    from joanna import watch
    from joanna.backend import tensorflow as tf

    board = watch.board(settings, "generate")
    with board.as_default(step=0):
        for name, signal in signals.items():
            watch.show(board, name, signal, settings["sample-rate"])
            for score, value in found.get(name, {}).items():
                tf.summary.scalar(f"{name}/{score}", value)


def _seeds(settings, songs, source, blocks):
    """Seed frames ``(T, F)`` of each component, scaled: from seed-section on, or all of seed-source.

    The seed-source is brought to the loudness of `source`, audio ``(S,)``: the network knows no other.
    """
    dataset.check_lengths(settings, len(songs["phase"]["frames"]), blocks)
    longest = max(settings["sequence-lengths"])
    if not settings["seed-source"]:
        start = settings["seed-section"] * blocks
        return {name: song["frames"][start:] for name, song in songs.items()}
    from joanna import audio

    path = dataset.source_path(settings, "seed-source")
    samples, notes = audio.load_audio(path, settings["sample-rate"], "seed-source")
    for note in notes:
        print(f"seed-source: {note}")
    need = (longest - 1) * settings_module.hop(settings) + settings["frame-length"]
    if len(samples) < need:
        rate = settings["sample-rate"]
        raise UserError(
            f"seed-source {path} lasts {len(samples) / rate:.2f} s; sequence-lengths has {longest}, "
            f"which takes {need / rate:.2f} s: choose a longer recording or lower sequence-lengths"
        )
    samples = audio.level(samples, source)
    spectra = audio.stft(samples, settings["frame-length"], settings["overlap"])
    return {
        name: ((frames - songs[name]["mean"]) / songs[name]["deviation"]).astype(np.float32)
        for name, frames in dataset.split(spectra, settings).items()
    }


def _cut(signal, settings):
    """As much of generated audio as was asked for, from where the joined frames no longer fade.

    It begins and ends somewhere in a sound: faded over 10 ms, that does not click.
    """
    samples = round(settings["generate-seconds"] * settings["sample-rate"])
    signal = signal[settings["frame-length"] :][:samples].copy()
    fade = np.linspace(0, 1, min(samples, round(0.01 * settings["sample-rate"])))
    signal[: len(fade)] *= fade
    signal[len(signal) - len(fade) :] *= fade[::-1]
    return signal


def _as_loud(signal, source, name, stage):
    """Audio ``(S,)`` at the source's loudness; `stage` is who made it so if it is none."""
    from joanna import audio

    again = settings_module.command(stage)
    if not np.isfinite(signal).all():
        raise UserError(f"{name}: the network put out NaN or Inf; run: {again}")
    if audio.rms(signal) < 1e-3 * audio.rms(source):
        kind = {"autoencoder": "ae"}.get(stage, stage)
        print(f"warning: {name} is silent; raise {kind}-iteration or minutes and run: {again}")
        return signal
    return audio.level(signal, source)


def _wav(signal, rate, made_with=""):
    """The bytes of a wav of audio ``(S,)``, with what it was made with."""
    from joanna import audio

    file = io.BytesIO()
    audio.save_audio(file, signal, rate, made_with)
    return file.getvalue()


def _free(folder, name, content):
    """`name`, or with -again after it if a wav of that name is another than `content`."""
    more = (f"{name}-again-{number}" for number in count(2))
    for tried in chain((name, f"{name}-again"), more):
        path = folder / f"{tried}.wav"
        if not path.exists() or path.read_bytes() == content:
            return tried


def _write(path, content):
    store.write(path, lambda path: path.write_bytes(content), sealed=False)
    print(f"wrote {path}")


if __name__ == "__main__":
    sections = ("every stage", "generation", "file names of the autoencoders")
    sections += ("file names of the LSTM layers", "file names of generation")
    options = {
        "--out": ("out", "FILE", "write the best clip to FILE as well; all are generated anew"),
        "--from": ("clip", "CLIP.wav", "make that clip again in output/NAME, byte for byte"),
    }
    settings_module.run_stage(main, __doc__, sections, generating=True, options=options)
