"""What a run will cost on this machine: a few timed training steps, scaled up.

`python -m joanna.cost [preset] [key=value ...]`; with --where it names the run's folder instead.
"""

import math
import re
import shlex
import statistics
import sys
import time

from joanna import budget, memory, store
from joanna import settings as settings_module
from joanna.dataset import COMPONENTS, even_parts, load_source

_ABOUT = """JOANNA learns one song and writes new audio in its image.

./run.sh runs preprocess.py, autoencoder.py, lstm.py and generate.py one after the other; each also runs
alone and has a --help of its own. They read the source and write weights/NAME/ and output/NAME/, where
report.html shows what has come of it. The same command goes on where it was stopped. ./run.sh test runs
the tests.

    ./run.sh demo
    ./run.sh demo source=./sources/mine.wav
    ./run.sh demo source=./sources/mine.wav minutes=30
    ./run.sh output/harp/settings.yaml random-seed=1 name=again
"""
_LONG_RUN = 3_000_000  # frames trained on; less takes minutes and is not worth measuring
_STEPS = 5  # timed, after one to warm up


def most_frames(settings: dict) -> float:
    """Frames that an epoch sees at most, however long the source is; infinite for section-count auto."""
    if settings["section-count"] == "auto":
        return math.inf
    return settings["section-count"] * settings["block-count"]


def frames_of_the_song(settings: dict) -> int:
    """Frames that an epoch sees, about; reads the source."""
    there = len(load_source(settings)[0]) * settings["overlap"] // settings["frame-length"]
    return int(min(there, most_frames(settings)))


def epochs(settings: dict) -> tuple[int, int]:
    """Epochs of each of the autoencoders, and of each LSTM training, in a whole run."""
    return tuple(settings[f"{kind}-epoch"] * settings[f"{kind}-iteration"] for kind in ("ae", "lstm"))


def seconds_per_frame(settings: dict, frames: int) -> tuple[float, float]:
    """Measured training seconds a frame: autoencoder, and both LSTM trainings together.

    Steps are as large as those of a song of `frames`, for small ones take nearly as long as large ones.
    """
    import numpy as np

    from joanna import model, training

    networks = model.build(settings)
    length = settings["window-length"]
    rows = len(even_parts(np.arange(frames), settings["batch-size"])[0])
    windows = len(even_parts(np.arange(-(-frames // length)), settings["window-batch"])[0])
    width, latent = settings["frame-length"], settings_module.bottleneck(settings)

    def measure(network, inputs, targets):
        training.compile_for(network, 1000, settings["learning-rate"])
        seconds = []
        for _ in range(_STEPS + 1):
            began = time.monotonic()
            network.train_on_batch(inputs, targets)
            seconds.append(time.monotonic() - began)
        return statistics.median(seconds[1:]) / (inputs.size / inputs.shape[-1])

    single = np.zeros((rows, width), np.float32)
    code = np.zeros((windows, length, latent), np.float32)
    song = np.zeros((windows, length, width), np.float32)
    autoencoder = measure(networks["autoencoder"], single, single)
    spliced = measure(networks["spliced-tail"], code, song)
    networks["spliced-lstm"].trainable = False
    return autoencoder, spliced + measure(networks["generator"], code, code)


def where(settings: dict) -> None:
    """Say where the wavs that were generated last are, and the report."""
    folder = settings_module.output_folder(settings)
    names = store.files_noted(folder / ".generated.json")
    wavs = [folder / name for name in names if name.endswith((".wav", ".html"))]
    print("hear and see:", *wavs, sep="\n  ")


def main(settings: dict) -> None:
    """Say what the run will cost, if it is a long one, or what of it does not go with its minutes."""
    given = [word.partition("=")[0] for word in sys.argv[1:]]
    ignored = [key for key in given if re.fullmatch("(ae|lstm)-(epoch|iteration)", key)]
    if settings["minutes"] and ignored:
        print(
            f"note: {' and '.join(ignored)} will have no effect, since minutes is "
            f"{settings['minutes']:g}; set minutes=0 to train by epochs"
        )
    if 0 < 60 * settings["minutes"] < budget.least(settings):
        print(
            f"warning: minutes is {settings['minutes']:g}; starting, saving and making the clips take "
            f"{budget.least(settings) / 60:.1f} on a slow machine, which leaves a training one epoch: "
            "raise minutes"
        )
    if settings["minutes"] or most_frames(settings) * sum(epochs(settings)) < _LONG_RUN:
        return  # before the source is read
    frames = frames_of_the_song(settings)
    if frames * sum(epochs(settings)) < _LONG_RUN:
        return
    memory.check(settings, "training", frames)
    from joanna.progress import duration

    print("measuring this machine ...", flush=True)

    def cost(some, frames):
        pairs = zip(seconds_per_frame(some, frames), epochs(some), strict=True)
        return duration(len(COMPONENTS) * sum(seconds * frames * count for seconds, count in pairs))

    print(f"training takes about {cost(settings, frames)} on this machine; ", end="")
    words = ["demo", f"source={settings['source']}", f"name={settings['name'][:95]}-demo"]
    demo = settings_module.load([*words, "start=0", "seconds=0", "seed-section=0"])
    print(
        f"{shlex.join(['./run.sh', *words])} trains for about {cost(demo, frames_of_the_song(demo))}. "
        "Stop this run with Ctrl-C; the command you gave goes on"
    )


if __name__ == "__main__":
    stage = where if "--where" in sys.argv else main
    sys.argv = [word for word in sys.argv if word != "--where"]
    settings_module.run_stage(stage, _ABOUT, writes=False)
