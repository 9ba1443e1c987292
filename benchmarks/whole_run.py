"""Where the time of a whole run goes: seconds and share of each kind of work, memory, bytes written.

The stages run as in ./run.sh, in a process under cProfile, which makes small calls slower. products: the
matrix products of the trainings, of the own predictions and of the clips, at the speed of a 2048 x 2048
product in this sitting. idle: the share of the cores' time that no thread used. --json prints the figures
as JSON.

    python benchmarks/whole_run.py demo
    python benchmarks/whole_run.py demo source=./sources/mine.wav --json yes
"""

import contextlib
import cProfile
import io
import json
import os
import pstats
import resource
import tempfile
import time
from itertools import product
from pathlib import Path

import common

from joanna.run import TRAININGS, Run, Training
from joanna.settings import clip_blocks, load, methods
from joanna.source import source_path

# kind of work -> functions, with the end of their file's name; their time includes what they call
PARTS = {
    "training steps": [("tensorflow/trainer.py", "function")],
    "own predictions, codes": [("joanna/dataset.py", "select"), ("joanna/dataset.py", "__init__")],
    "saves": [("joanna/callbacks.py", "_save")],
    "previews": [("joanna/previews.py", "publish"), ("joanna/previews.py", "_signal")],
    "imports": [("<frozen importlib._bootstrap>", "_find_and_load")],
    "building, loading": [
        ("joanna/model.py", "build"),
        ("joanna/model.py", "initialize_near_identity"),
        ("joanna/checkpoint.py", "load_weights"),
        ("joanna/training.py", "compile_model"),
    ],
    "evaluation": [("lstm.py", "_predict"), ("keras/src/backend/tensorflow/trainer.py", "predict")],
    "generation": [("joanna/generation.py", "run_loops")],
    "scores, clips, report": [("joanna/clips.py", "rank_takes"), ("generate.py", "_write_report")],
}


def profiled_run(words: list[str], root: Path) -> None:
    """Run the stages under cProfile and write what they took to `root`."""
    profile, started = cProfile.Profile(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        profile.runcall(common.run_all_stages, words, root)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"seconds": time.perf_counter() - started, "cpu": used.ru_utime + used.ru_stime}
    figures |= {"memory": 1024 * used.ru_maxrss, "written": 512 * used.ru_oublock}
    profile.dump_stats(root / "profile")
    (root / "figures.json").write_text(json.dumps(figures))


def seconds_by_part(path: Path) -> dict[str, float]:
    """Seconds of each part in a profile."""
    stats, found = pstats.Stats(str(path)).stats, dict.fromkeys(PARTS, 0.0)  # type: ignore[attr-defined]
    for (file, _, function), (_, _, _, seconds, callers) in stats.items():
        # own predictions are a part of their own
        seconds -= sum(caller[3] for (_, _, name), caller in callers.items() if name == "_model_inputs")
        for part, functions in PARTS.items():
            if any(file.endswith(ending) and function == name for ending, name in functions):
                found[part] += seconds
    return found


def epochs_trained(run: Run, training: Training) -> float:
    """Epochs of a finished training, which minutes may have set."""
    from joanna.checkpoint import read_history

    history = read_history(run.weights_file(training.component, training.stage))
    return history[training.key][-1][1]


def product_flops(run: Run, frames: int) -> float:
    """Operations of the matrix products of a run that learns `frames`."""
    from joanna import model
    from joanna.generation import Job
    from joanna.phase import generated_components

    settings = run.settings
    networks = model.build(settings)
    of_training = {"autoencoder": networks.autoencoder, "spliced": networks.latent_decoder}
    per_frame = {kind: common.training_flops(network) for kind, network in of_training.items()}
    networks.spliced_lstm.trainable = False
    per_frame["generator"] = common.training_flops(networks.generator)
    # codes of the song each epoch; each eighth epoch predictions of windows that overlap by half, and codes
    lstm, dense = common.forward_flops(networks.predictor)
    per_frame["generator"] += dense // 2 + (2 * lstm + dense) // 8
    flops = sum(epochs_trained(run, training) * frames * per_frame[training.kind] for training in TRAININGS)
    pairs = product(methods(settings), settings["sequence-lengths"])
    jobs = [Job(*pair, 0) for pair in pairs] * settings["takes"]
    clips = clip_blocks(settings) * common.generation_flops(networks.predictor, jobs)
    return flops + clips * len(generated_components(settings["phase-method"]))


def main() -> None:
    """Measure and print the table."""
    options = common.arguments(__doc__, json="")
    words = [*options.settings, "load-weights=False"]
    source = source_path(common.PROJECT, load(words)).resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        words.append(f"source={source}")
        common.run_in_process(profiled_run, words, root)
        figures, parts = json.loads((root / "figures.json").read_text()), seconds_by_part(root / "profile")
        run = Run(load(words), root)
        from joanna.artifacts import Frames

        frames = len(Frames.load(run))
        figures["disk"] = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        flops = product_flops(run, frames)
    wall = figures["seconds"]
    parts["other"] = wall - sum(parts.values())
    figures |= {"parts": parts, "idle": 1 - figures["cpu"] / wall / (os.cpu_count() or 1)}
    figures["products"] = common.product_seconds(flops)
    if options.json:
        return print(json.dumps(figures))
    for name, seconds in [*parts.items(), ("in all", wall), ("products", figures["products"])]:
        print(f"{name:<24} {seconds:8.1f} s {seconds / wall:6.0%}")
    print(f"{'idle':<24} {figures['idle']:17.0%}")
    for name in ("memory", "written", "disk"):
        print(f"{name:<24} {figures[name] / 1e9:8.2f} GB")


if __name__ == "__main__":
    main()
