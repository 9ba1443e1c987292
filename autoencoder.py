"""Stage 2: train a denoising autoencoder on phase and one on magnitude, and encode the song.

Reads output/NAME/frames.h5; writes weights/NAME/{phase,magnitude}-encoder.weights.h5 and
output/NAME/coded-file.h5.
"""

from joanna import dataset
from joanna import settings as settings_module


def main(settings: dict) -> None:
    """Run the stage with a checked settings dict."""
    output = settings_module.output_folder(settings)
    with dataset.open_h5(output / "frames.h5", settings, "preprocess") as file:
        frames = {name: file[f"{name}/frames"][:] for name in dataset.COMPONENTS}
        made_from = file.attrs["identity"]
    from joanna import fast, model, training  # TensorFlow takes seconds to import

    latents = {}
    for component in dataset.COMPONENTS:
        path = settings_module.weights_folder(settings) / (
            settings[f"{component}-encoder"] + ".weights.h5"
        )
        with fast.strategy().scope():
            networks = model.build(settings)
        autoencoder, data = networks["autoencoder"], frames[component]
        state = training.resume(autoencoder, path, settings, "autoencoder", made_from)

        def batches(epoch, data=data, component=component):
            rng = training.epoch_rng(settings["random-seed"], "autoencoder", component, epoch)
            parts = dataset.even_parts(rng.permutation(len(data)), settings["batch-size"])
            return [(data[part], data[part]) for part in parts]

        def save(done, autoencoder=autoencoder, path=path):
            progress = {"done": done, "made_from": made_from}
            training.save_weights(autoencoder, path, settings, "autoencoder", **progress)

        training.train(
            autoencoder,
            batches,
            f"{component} autoencoder",
            settings["ae-epoch"],
            settings["ae-iteration"],
            int(state.get("done", 0)),
            settings["learning-rate"],
            save,
        )
        predicted = autoencoder.predict(data, batch_size=256, verbose=0)
        print(f"{component} autoencoder: error {training.normalised_error(data, predicted):.3f}")
        latents[component] = networks["encoder"].predict(data, batch_size=256, verbose=0)
        print(f"{component} latents: deviation {latents[component].std():.2f}")
    path = output / (settings["coded-file"] + ".h5")
    identity = dataset.identity(*latents.values())
    dataset.save_h5(path, latents, settings, "autoencoder", identity=identity)
    settings_module.save(settings)
    print(f"wrote {path}; next: python lstm.py")


if __name__ == "__main__":
    settings_module.run_stage(main, __doc__)
