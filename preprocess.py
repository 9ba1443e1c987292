"""Stage 1: slice the source into overlapping frames and keep their phase and magnitude.

Reads the source; writes output/NAME/frames.h5.

    python preprocess.py demo source=./sources/mine.wav
    python preprocess.py start=30 seconds=20 section-count=auto
"""

import contextlib
import math

import joanna  # noqa: F401 # isort: skip - it says which packages are missing

import numpy as np

from joanna import dataset
from joanna import settings as settings_module
from joanna.errors import UserError


def main(settings: dict) -> None:
    """Run the stage with a checked settings dict."""
    path = settings_module.output_folder(settings) / "frames.h5"
    there, after = None, settings_module.command("autoencoder")
    with contextlib.suppress(UserError):
        there, attributes = dataset.load_frames(path, settings)
    if there:
        dataset.check_lengths(settings, len(there["phase"]["frames"]), int(attributes["blocks"]))
        print(f"nothing has changed: {path} is as the settings say; next: {after}")
        return
    from joanna import audio  # scipy.signal takes a second to import

    length, overlap = settings["frame-length"], settings["overlap"]
    rate, hop = settings["sample-rate"], settings_module.hop(settings)
    samples, notes = dataset.load_source(settings)
    for note in notes:
        print(note)
    sections, blocks, found = settings["section-count"], settings["block-count"], len(samples) // hop
    what = f"source {settings['source']}"
    bounds = " and ".join(f"{key} {settings[key]:g}" for key in ("start", "seconds") if settings[key])
    what += f", cut by {bounds}," if bounds else ""
    if sections == "auto":
        counts = max(1, found // blocks), found // blocks + 1
        cuts = [(count, min(blocks, found // count)) for count in counts]
        sections, blocks = max(cuts, key=lambda cut: (cut[1] > overlap, math.prod(cut)))
    elif found < sections * blocks:
        blocks = found // sections
        print(
            f"{len(samples) / rate:.1f} s make {sections} sections of {blocks} blocks "
            f"(block-count is {settings['block-count']})"
        )
    if blocks < settings["block-count"] and blocks - (overlap - 1) < 2:
        need = sections * (overlap + 1) * hop / rate
        helps = {"choose a longer one": True, "lower section-count": sections > 1}
        helps |= {"lower start": settings["start"], "raise seconds": settings["seconds"]}
        raise UserError(
            f"{what} lasts {len(samples) / rate:.2f} s; two frames in each section need "
            f"{need:.2f} s: {', or '.join(filter(helps.get, helps))}"
        )
    used = samples[: sections * blocks * hop]
    if not np.abs(used).max() > 1e-4:
        raise UserError(
            f"{what}: the {len(used) / rate:.1f} s used are all silence; "
            "choose another recording, raise section-count, or change start"
        )
    spectra = audio.stft(used, length, overlap)
    dataset.check_lengths(settings, len(spectra), blocks)
    arrays = {"audio": used.astype(np.float32)}
    for component, values in dataset.split(spectra, settings).items():
        for key, array in zip(("frames", "mean", "deviation"), dataset.scale(values), strict=True):
            arrays[f"{component}/{key}"] = array
    identity = dataset.identity(arrays["phase/frames"], arrays["magnitude/frames"])
    dataset.save_h5(path, arrays, settings, "preprocess", identity=identity, blocks=blocks)
    settings_module.save(settings)
    print(f"used {len(used) / rate:.1f} s of {len(samples) / rate:.1f} s found")
    if settings["section-count"] != "auto" and len(samples) - len(used) >= hop * sections:
        print(f"  to use all of it, set section-count to auto, or block-count to {found // sections}")
    print(f"{sections} section{'s' * (sections > 1)} of {blocks} blocks, {len(spectra)} frames in all")
    print(f"frame {length} samples ({1000 * length / rate:.0f} ms), ", end="")
    print(f"hop {hop} samples ({1000 * hop / rate:.0f} ms)")
    print(f"wrote {path}; next: {after}")


if __name__ == "__main__":
    settings_module.run_stage(main, __doc__, ("every stage", "the song"))
