"""Stage 1: cut the source into overlapping frames and store their phase and magnitude.

Reads the source; writes output/NAME/frames.h5.

    python preprocess.py demo source=./sources/mine.wav
    python preprocess.py start=30 seconds=20 section-count=auto
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import math

import numpy as np

from joanna import cli
from joanna.artifacts import ComponentFrames, Frames, check_lengths
from joanna.errors import UserError
from joanna.resources import check_memory
from joanna.run import Run
from joanna.settings import hop
from joanna.source import check_seed, cut_sections, load_source, stated_frames
from joanna.spectra import COMPONENTS, component_frames, normalize, sounding, statistics


def main(run: Run) -> None:
    """Run the stage."""
    try:
        frames = Frames.load(run)
    except UserError:
        frames = None
    if frames:
        _check(run, len(frames), frames.blocks)
        print(f"up to date, skipped: {run.frames_file}")
        return
    settings = run.settings
    if settings["section-count"] == "auto" and (expected := stated_frames(run.root, settings)) < math.inf:
        check_memory(settings, "training", int(expected))  # loading takes gigabytes, too
    source = load_source(run.root, settings)
    print(*source.notes, sep="\n", end="\n" * bool(source.notes))
    sections = cut_sections(source.samples, settings)
    print(*sections.notes, sep="\n", end="\n" * bool(sections.notes))
    has_sound = sounding(sections.audio, settings["frame-length"], settings["overlap"])
    _check(run, len(has_sound), sections.blocks)
    components = {name: _component_frames(name, sections.audio, settings, has_sound) for name in COMPONENTS}
    Frames(components, sections.audio, sections.blocks, settings["overlap"]).save(run)
    run.save_settings()
    _print_summary(run, source.seconds, sections, len(has_sound))


def _check(run, frames, blocks):
    """Refuse now what would otherwise end a later stage, after hours of training."""
    check_lengths(run, frames, blocks)
    if run.settings["seed-source"]:
        check_seed(run.root, run.settings)


def _component_frames(name, signal, settings, has_sound):
    """The frames of one component, normalized in place: an hour has gigabytes of them."""
    length, overlap, power = (settings[key] for key in ("frame-length", "overlap", "magnitude-power"))
    frames = component_frames(signal, name, length, overlap, power, np.float32)
    mean, std = statistics(frames, has_sound)
    normalize(frames, mean, std, has_sound, out=frames)
    return ComponentFrames(frames, mean.astype(np.float32), std.astype(np.float32))


def _print_summary(run, seconds, sections, frame_count):
    settings, rate = run.settings, run.settings["sample-rate"]
    length, step, count = settings["frame-length"], hop(settings), sections.section_count
    limits = ", ".join(f"{key} {settings[key]:g}" for key in ("start", "seconds") if settings[key])
    limits = f" (with {limits})" if limits else ""
    used = len(sections.audio) / rate
    of = f" of {seconds:.1f} s found" if seconds < math.inf else ""  # not stated in the file, not all read
    print(f"used {used:.1f} s{of}{limits}")
    most = min(seconds, settings["seconds"] or math.inf)
    blocks = int(most * rate) // step // count if most < math.inf else 0
    if settings["section-count"] != "auto" and blocks > settings["block-count"]:
        whole = "it" if most == seconds else f"{most:g} s"
        print(f"  to use all of {whole}, set section-count to auto, or block-count to {blocks}")
    print(f"{count} section{'s' * (count > 1)} of {sections.blocks} blocks, {frame_count} frames in all")
    print(f"frame {length} samples ({1000 * length / rate:.0f} ms), ", end="")
    print(f"hop {step} samples ({1000 * step / rate:.0f} ms)")
    print(f"wrote {run.frames_file}")


if __name__ == "__main__":
    cli.run_stage(main, __doc__, ("every stage", "the song"))
