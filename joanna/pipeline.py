"""JOANNA learns one song and writes new audio in its style.

./run.sh runs preprocess.py, autoencoder.py, lstm.py and generate.py in order. Each script also runs
alone and has its own --help. They read the source and write weights/NAME/ and output/NAME/, where
report.html plays the results. The same command resumes a stopped run. ./run.sh test runs the tests.

    ./run.sh demo
    ./run.sh demo source=./sources/mine.wav
    ./run.sh demo source=./sources/mine.wav minutes=30
    ./run.sh output/harp/settings.yaml random-seed=1 name=again
"""

if __name__ == "__main__":
    from joanna import startup

    startup.prepare()

import gc
import os
import runpy
import sys
import time

from joanna import cli, files
from joanna.artifacts import STAGES
from joanna.estimate import print_estimate
from joanna.run import PROJECT, Run

# for a first call, in a terminal and without arguments
_WELCOME = """JOANNA learns a song, {source}, and writes new audio in its style.
preprocess.py cuts the song into frames, autoencoder.py learns to encode them, lstm.py learns how the codes go
on, and generate.py writes clips to output/{name}/, where report.html plays them.
The settings are in config.py. ./run.sh demo is a run of minutes; ./run.sh --help lists presets and settings.
Ctrl-C stops; the same command resumes.
"""


def main(run: Run) -> None:
    """Run the scripts of all stages in this process, so that TensorFlow is imported once."""
    if not sys.argv[1:] and sys.stdout.isatty():
        print(_WELCOME.format(**run.settings), flush=True)
    print_estimate(run)
    times = []
    for stage in STAGES:
        print(f"\n== {stage}", flush=True)
        started = time.monotonic()
        runpy.run_path(str(PROJECT / f"{stage}.py"), run_name="__main__")
        gc.collect()  # frees the networks
        times.append(f"{stage} {time.monotonic() - started:.0f} s")
    seconds = time.monotonic() - float(os.environ["JOANNA_BEGAN"])
    print(f"\n== done: {', '.join(times)}, in all {seconds:.0f} s")
    names = [name for name in files.manifest_files(run.manifest_file) if name.endswith((".wav", ".html"))]
    print("listen to:", *(run.output / name for name in names), sep="\n  ")
    if sys.stdout.isatty() and run.report_file.name in names:
        print(run.report_file.as_uri())  # terminals open it


if __name__ == "__main__":
    os.environ["JOANNA_BEGAN"] = str(time.monotonic())  # the stages are parts of one run
    sys.argv[0] = "run.sh"
    cli.run_stage(main, __doc__, writes=False)
