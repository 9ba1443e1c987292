"""Stage 4: generate new audio by the part and the whole method, and the song's reconstruction.

Reads output/NAME/{frames,coded-file}.h5 and weights/NAME/*-lstm-file.weights.h5; writes
output/NAME/part-L.wav, whole-L.wav, reconstruction.wav, spectrograms.png (source, reconstruction, then
the clips in order), scores.yaml, report.html and {phase,magnitude}-result.h5.

    python generate.py demo random-seed=1                     # different clips
    python generate.py demo generate-seconds=30 'sequence-lengths=[24,48]'
    python generate.py demo takes=5 variation=0.2 --out best.wav   # five of each; a copy of the best
    python generate.py demo seed-source=./sources/other.wav   # start from another recording
    python generate.py demo seed-source=./sources/other.wav continue=True   # that recording and what follows
    python generate.py --from output/harp/part-12.wav         # the same clip again, byte for byte
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import contextlib
import io
import json
import math
import os
import re
import shlex
from pathlib import Path

import numpy as np
import yaml

from joanna import audio, cli, files
from joanna.artifacts import Frames, Latents, check_lengths, save_arrays
from joanna.errors import UserError
from joanna.progress import duration
from joanna.resources import check_memory
from joanna.run import Run
from joanna.settings import curve, hop, load, methods
from joanna.source import load_seed, source_files, source_path
from joanna.spectra import COMPONENTS, component_frames, seed_start

# Which clips a run generates. They are rows of one batch, whose size may change the last bits of each: to
# make one again, all are generated.
TOGETHER = ("method", "sequence-lengths")
_PAGE_SECONDS = 300  # of the song in the report; a page with an hour would have 300 MB
_MAX_HEARD = 1000  # frames of a seed-source before its last window; more only take memory


def main(run: Run, out: str = "", clip: str = "") -> None:
    """Run the stage.

    Args:
        run: the run; to make a clip again, with the settings of the clip.
        out: wav file that the best clip is copied to; empty: none.
        clip: wav file of the clip to make again; empty: none.
    """
    if out:
        _check_writable(run, out)
    original = audio.read_clip_metadata(clip) if clip else None
    own = methods(run.settings)[0], run.settings["sequence-lengths"][0]  # of the original
    if original:
        run = _with_all_clips(run, clip, original)
    frames, latents, inputs = Frames.load(run), Latents.load(run), _inputs(run)
    if run.settings["load-weights"] and not (out or clip):
        if files.verify_manifest(run.manifest_file, inputs):
            print(f"up to date, skipped: the clips in {run.output}")
            return
    if original:
        _check_original(clip, original, run, inputs)
    seeds, recording = seed_frames(run, frames)
    extra = len(seeds["phase"]) if run.settings["seed-source"] else 0
    check_memory(run.settings, "generating", len(frames) + extra)
    from joanna import clips, generation  # TensorFlow takes seconds to import

    trained = generation.load_networks(run, latents)
    del latents  # half a gigabyte of an hour
    if original and original["weights"] != trained.digests:
        raise UserError(f"{clip} was made with other weights than those in {run.weights}; train them again")
    _print_training_settings(run, trained)
    reconstruction = _reconstruct(run, trained, frames, write=not original)
    generated, speed = generation.generate(run, trained, frames, seeds)
    maker = clips.ClipMaker(run, frames, reconstruction, recording)
    metadata = {"settings": trained.settings, "weights": trained.digests}
    metadata |= {"random-seed": run.settings["random-seed"], "seed": inputs.get("seed-source")}
    metadata["together"] = {key: run.settings[key] for key in TOGETHER}
    if original:
        made = list(maker.rank_takes(_takes_of(generated, clip, own), {**metadata, "name": original["name"]}))
        best = made[original["take"] - 1]
        _write_again(run, best, maker.reference, clip)
    else:
        made = []
        for take in maker.rank_takes(generated, metadata):
            _write_clip(run.clip_file(take.name), take, maker.reference)
            made.append(take)
        signals = {"source": frames.audio, "reconstruction": reconstruction}
        _write_report(run, trained, made, maker.reference, signals, speed)
        _write_results(run, trained, made, inputs)
        best = min(made, key=lambda clip: maker.reference.ranking_key(clip.scores))
    if out:
        files.write_bytes(Path(out).resolve(), best.wav)
        print(f"wrote {out}: {best.name}" + ("" if original else ", the best by its scores"))


def _check_writable(run, out):
    """Refuse an --out that cannot be written or would replace another file of the run; before generating."""
    path, reason, expected = Path(out).resolve(), "", "expected a wav file in an existing folder"
    recordings = [source_path(run.root, run.settings, "seed-source")]
    with contextlib.suppress(UserError):  # the source may be gone
        recordings += source_files(run.root, run.settings)
    if path.is_dir():
        reason = f"cannot be written, it is a folder; {expected}"
    elif not os.access(path.parent, os.W_OK):
        reason = f"cannot be written, {path.parent} is missing or cannot be written to; {expected}"
    elif path in map(Path.resolve, recordings):
        reason = "would replace the recording; choose another name"
    elif path.parent == run.output.resolve() and re.match("part-|whole-|reconstruction", path.name):
        reason = "would replace a clip of the run; choose another name"
    if reason:
        raise UserError(f"--out {out}: {reason}")


def _with_all_clips(run, clip, original):
    """The run with the settings of all clips that were generated together with one."""
    together = original.get("together", {})
    if not isinstance(together, dict):
        raise UserError(f"{clip}: its metadata is damaged; generate the clips again")
    values = {key: together[key] for key in TOGETHER if key in together}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    words = [f"{key}={text}" for key, text in texts.items()]
    checked = load([os.path.abspath(clip), *words], generating=True)
    return Run({**run.settings, **{key: checked[key] for key in TOGETHER}}, run.root)


def _takes_of(generated, clip, pair):
    """The generated frames of the method and sequence length of a clip, from those of all clips."""
    chosen = {
        component: {job: frames for job, frames in jobs.items() if job[:2] == pair}
        for component, jobs in generated.items()
    }
    if not chosen["magnitude"]:
        raise UserError(f"{clip}: its metadata is damaged; generate the clips again")
    return chosen


def _inputs(run):
    """What the clips depend on: the settings and the digests of the files, if all exist."""
    weights = (run.weights_file(component, "lstm") for component in COMPONENTS)
    inputs: dict[str, object] = {"settings": {**run.settings, "load-weights": True}}
    with contextlib.suppress(files.DamagedError):  # reported where the file is loaded
        inputs["files"] = [files.digest(path) for path in (run.frames_file, run.latents_file, *weights)]
    if run.settings["seed-source"]:
        with contextlib.suppress(OSError):
            inputs["seed-source"] = files.content_digest(source_path(run.root, run.settings, "seed-source"))
    return inputs


def _check_original(clip, metadata, run, inputs):
    take, takes, seed = metadata["take"], run.settings["takes"], run.settings["seed-source"]
    if metadata["seed"] != inputs.get("seed-source"):
        raise UserError(f"{clip}: seed-source {seed} has changed; put it back")
    if not 1 <= take <= takes:
        raise UserError(f"{clip}: its metadata is of take {take} of {takes}")


def seed_frames(run: Run, frames: Frames) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Seed frames ``(T, F)`` of each component, normalized: from seed-section on, or of seed-source.

    The seed-source is brought to the loudness of the song, the only one the network knows. To continue it,
    its audio ``(S,)`` is returned as well, otherwise none, and the last frame ends with it.
    """
    settings, rate = run.settings, run.settings["sample-rate"]
    check_lengths(run, len(frames), frames.blocks)
    if not settings["seed-source"]:
        start = settings["seed-section"] * frames.blocks
        first = seed_start(frames.sounding, start, settings["sequence-lengths"])
        if first != start:
            print(
                f"seed-section {settings['seed-section']} leads into a pause: the seed starts at "
                f"{first * hop(settings) / rate:.1f} s of the song"
            )
        return {name: song.frames[first:] for name, song in frames.components.items()}, frames.audio[:0]
    samples, notes, *_ = load_seed(run.root, settings)
    for note in notes:
        print(f"seed-source: {note}")
    samples = audio.match_loudness(samples, frames.audio)
    hops, unused = divmod(len(samples) - settings["frame-length"], hop(settings))
    end = len(samples) - unused * (not settings["continue"])
    used = min(hops, max(settings["sequence-lengths"]) + _MAX_HEARD)
    start = end - settings["frame-length"] - used * hop(settings)
    keys = "frame-length", "overlap", "magnitude-power"
    seeds = {
        name: song.normalize(component_frames(samples[start:end], name, *(settings[key] for key in keys)))
        for name, song in frames.components.items()
    }
    return seeds, samples if settings["continue"] else samples[:0]


def _print_training_settings(run, trained):
    """Print the settings that the weights were trained with, where the run has others."""
    compared = {**trained.settings, "random-seed": run.settings["random-seed"]}.items()
    different = ", ".join(f"{key} {value}" for key, value in compared if value != run.settings[key])
    if different:
        print(f"note: the weights were trained with {different}: settings.yaml and report.html keep these")
    dropout, keys = trained.settings["dropout"], ("variation", "whole-variation")
    values = {key: run.settings[key] for key in keys if run.settings[key] != "auto"}
    over = [f"{key} is {value}" for key, value in values.items() if _lasting(curve(value)) > dropout]
    if over:
        print(f"note: {' and '.join(over)}; the networks were trained with dropout {dropout:g} only")


def _lasting(rates):
    """The highest rate of a curve; of one that repeats the lowest, as the others are bursts."""
    return max(rates.values) if rates.period == math.inf else min(rates.values)


def _reconstruct(run, trained, frames, write):
    """Audio ``(S,)`` of the song through the autoencoders, at its loudness."""
    from joanna import clips, generation, scores

    signal, rate = generation.reconstruct(run, trained.networks, frames), run.settings["sample-rate"]
    signal = clips.match_loudness(signal, frames.audio, "reconstruction", "autoencoder")
    if write:
        _write(run.clip_file("reconstruction"), audio.wav_bytes(signal, rate))
    correlation = scores.mel_correlation(signal, frames.audio, rate)
    print(f"  its log-mel spectrogram correlates {correlation:.3f} with the source's")
    return signal


def _write_clip(path, clip, reference):
    _write(path, clip.wav)
    print(f"  {reference.line(clip.scores)}")
    for hint in reference.hints(clip.scores):
        print(f"  hint: {hint}")


def _write_again(run, clip, reference, original):
    """Write a clip that was made again; it is named -again if a different wav has its name."""
    from scipy.io import wavfile  # takes half a second to import

    original_wav, name, copies = Path(original).read_bytes(), clip.name, 0
    while (path := run.clip_file(name)).exists() and path.read_bytes() != clip.wav:
        copies += 1
        name = f"{clip.name}-again" + (f"-{copies}" if copies > 1 else "")
    _write_clip(path, clip, reference)
    if clip.wav == original_wav:
        return print(f"{name} equals {original}, byte for byte")
    made, kept = (wavfile.read(io.BytesIO(wav))[1].astype(int) for wav in (clip.wav, original_wav))
    difference = np.abs(made - kept).max() if made.shape == kept.shape else np.inf
    if difference <= 1:  # an earlier version wrote other settings, and generated each clip by itself
        equal = "but for the last bit of some samples" if difference else "sample for sample"
        print(f"{name} equals {original}, {equal}")
    else:
        print(f"warning: {name} differs from {original}; use the version, packages and machine that made it")


def page_clips(signals: dict, clips: list, reference, rate: int) -> list[dict]:
    """The clips of `report.write`; `signals` are source and reconstruction, or the beginnings of them."""
    from joanna import report

    entries = [report.clip(name, signal, rate) for name, signal in signals.items()]
    for clip in clips:
        found = dict(clip.scores)
        if found.get("copied-from", 0) * rate >= len(signals["source"]):
            found["copied-seconds"] = 0.0  # the page cannot play it
        entry = {"scores": found, "summary": reference.summary(clip.scores)}
        entry["rows"] = reference.describe(clip.scores)
        entries.append(report.clip(clip.name, clip.signal, rate) | entry)
    return entries


def _write_report(run, trained, clips, reference, signals, speed):
    """Write the scores, the spectrograms and the report; `signals` are source and reconstruction."""
    from joanna import previews, report, scores

    rate, found = run.settings["sample-rate"], {clip.name: clip.scores for clip in clips}
    seconds = len(signals["source"]) / rate
    signals = {name: signal[: _PAGE_SECONDS * rate] for name, signal in signals.items()}
    entries = page_clips(signals, clips, reference, rate)
    signals = {**signals, **{clip.name: clip.signal for clip in clips}}
    longest = max(len(clip.signal) for clip in clips)
    image = scores.picture([signal[:longest] for signal in signals.values()], rate)
    text = yaml.safe_dump({"source": reference.baselines, **found}, sort_keys=False)
    _write(run.output / "scores.yaml", text.encode())
    _write(run.output / "spectrograms.png", report.png(image))
    facts = {
        "learned from": f"{seconds:.1f} s at {rate} Hz"
        + ", in stereo" * run.settings["stereo"]
        + f"; this page has the first {_PAGE_SECONDS} s" * (seconds > _PAGE_SECONDS),
        "training": duration(sum(rows[-1][0] for rows in trained.history.values() if rows)),
        "generating": f"{speed:.2f} times real time",
    }
    if run.settings["random-seed"] != trained.settings["random-seed"]:
        seed = f"random-seed={run.settings['random-seed']}"
        path = run.settings_file.relative_to(run.root)
        facts["clips"] = f"then {shlex.join([cli.python(), 'generate.py', str(path), seed])}"
    report.write(run.report_file, entries, trained.history, trained.settings, facts)
    print(f"wrote {run.report_file}")
    if run.settings["tensorboard"]:
        values = {f"{clip.name}/{key}": value for clip in clips for key, value in clip.scores.items()}
        previews.log(run, "generate", 0, signals, values)


def _write_results(run, trained, clips, inputs):
    """Write the generated frames, the settings and the manifest."""
    written = [run.clip_file(name) for name in ("reconstruction", *(clip.name for clip in clips))]
    written += [run.output / "scores.yaml", run.output / "spectrograms.png", run.report_file]
    for component in COMPONENTS:
        written.append(run.result_file(component))
        save_arrays(written[-1], run, "lstm", {clip.name: getattr(clip, component) for clip in clips}, {})
        print(f"wrote {written[-1]}")
    run.save_settings(trained.settings)
    files.write_manifest(run.manifest_file, inputs, [*written, run.settings_file])


def _write(path, content):
    files.write_bytes(path, content)
    print(f"wrote {path}")


if __name__ == "__main__":
    names = (f"file names of {what}" for what in ("the autoencoders", "the LSTM layers", "generation"))
    groups = ("every stage", "generation", *names)
    options = {
        "--out": ("out", "FILE", "copy the best clip to FILE as well; all are generated again"),
        "--from": ("clip", "CLIP.wav", "make that clip again in output/NAME, byte for byte"),
    }
    cli.run_stage(main, __doc__, groups, generating=True, options=options)
