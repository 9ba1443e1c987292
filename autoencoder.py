"""Stage 2: train a denoising autoencoder on phase and one on magnitude, and encode the song.

Reads output/NAME/frames.h5; writes weights/NAME/{phase,magnitude}-encoder.weights.h5 and
output/NAME/coded-file.h5. While it trains, output/NAME/previews/ and report.html show how far it is.

    python autoencoder.py demo                        # after preprocess.py demo
    python autoencoder.py demo ae-iteration=5         # goes on from the three that are done
    python autoencoder.py demo dropout=0.2 name=less  # beside it, after preprocess.py demo name=less
"""

from joanna import budget, dataset, memory
from joanna import settings as settings_module
from joanna.checkpoint import Checkpoint
from joanna.errors import UserError


def main(settings: dict) -> None:
    """Run the stage with a checked settings dict."""
    output, weights = settings_module.output_folder(settings), settings_module.weights_folder(settings)
    songs, attributes = dataset.load_frames(output / "frames.h5", settings)
    checkpoints = {
        component: Checkpoint(
            weights / (settings[f"{component}-encoder"] + ".weights.h5"),
            settings,
            "autoencoder",
            attributes["identity"],
        )
        for component in dataset.COMPONENTS
    }
    coded = output / (settings["coded-file"] + ".h5")
    epochs = settings["ae-epoch"] * settings["ae-iteration"]
    if settings["load-weights"] and _finished(coded, checkpoints, epochs, settings):
        print(f"nothing has changed: {coded} and the autoencoders' weights are as the settings say")
        return
    memory.check(settings, "training", len(songs["phase"]["frames"]))
    from joanna import fast  # TensorFlow takes seconds to import
    from joanna.watch import Watch

    latents, watch = {}, Watch(settings, songs)
    for component, checkpoint in checkpoints.items():
        frames = songs[component]["frames"]
        with fast.forgetting():
            latents[component] = _train(settings, component, checkpoint, frames, watch)
            watch.end()
    identity = dataset.identity(*latents.values())
    seals = [checkpoint.seal() for checkpoint in checkpoints.values()]
    dataset.save_h5(coded, latents, settings, "autoencoder", identity=identity, weights=seals)
    settings_module.save(settings)
    print(f"wrote {coded}; next: {settings_module.command('lstm')}")


def _train(settings, component, checkpoint, frames, watch):
    """Train a component's autoencoder on its frames ``(M, F)``; their latents ``(M, Z)``."""
    from joanna import fast, model, training

    with fast.strategy().scope():
        networks = model.build(settings)
    autoencoder = networks["autoencoder"]
    # the one that is trained is compiled and would be saved with its optimizer
    checkpoint.resume(model.chain(frames.shape[1:], autoencoder.layers, "saved"))

    def batches(epoch):
        rng = training.epoch_rng(settings["random-seed"], "autoencoder", component, epoch)
        parts = dataset.even_parts(rng.permutation(len(frames)), settings["batch-size"])
        return [(frames[part], frames[part]) for part in parts]

    training.train(
        autoencoder,
        batches,
        checkpoint,
        "autoencoder",
        f"{component} autoencoder",
        settings["ae-epoch"],
        settings["ae-iteration"],
        settings["learning-rate"],
        budget.limit(settings, component, "autoencoder"),
        watch.begin(checkpoint, component, "autoencoder", autoencoder),
    )
    checkpoint.done()
    predicted = autoencoder.predict(frames, batch_size=256, verbose=0)
    print(f"{component} autoencoder: error {training.normalised_error(frames, predicted):.3f}")
    latents = networks["encoder"].predict(frames, batch_size=256, verbose=0)
    print(f"{component} latents: deviation {latents.std():.2f}")
    return latents


def _finished(coded, checkpoints, epochs, settings):
    """Whether the weights are trained for as many epochs and the coded file was made with them."""
    if not all(checkpoint.finished({"autoencoder": epochs}) for checkpoint in checkpoints.values()):
        return False
    try:
        made_with = dataset.load_latents(coded, settings)[1].get("weights", [])
    except UserError:
        return False
    return list(made_with) == [checkpoint.seal() for checkpoint in checkpoints.values()]


if __name__ == "__main__":
    sections = ("every stage", "the networks", "training", "training the autoencoders")
    settings_module.run_stage(main, __doc__, (*sections, "file names of the autoencoders"))
