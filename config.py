"""The settings of JOANNA: edit the values, run ./run.sh. One line a key, with its meaning beside it.

`python autoencoder.py demo dropout=0.2` overrides them: a preset, and single keys over it.
"""

settings = {
    # every stage
    "source": "./sources/harp.wav",  # the recording to learn from, or a folder of recordings
    "name": "",  # folder of the run in weights/ and output/; empty: the source's file name
    "load-weights": True,  # go on from saved weights, or start afresh
    "random-seed": 0,  # seed of every random number
    "tensorboard": False,  # write losses, previews and clips for TensorBoard to output/NAME/tensorboard
    # the song
    "sample-rate": 16000,  # Hz the source is resampled to and the output is written at
    "frame-length": 2048,  # samples a frame
    "overlap": 2,  # overlapping number for STFT: hop = frame length / overlap
    "magnitude-power": 0.5,  # magnitudes are raised to it: 1 is linear, less lets quiet sounds count
    "start": 0.0,  # seconds of the source that are left out at its beginning
    "seconds": 0.0,  # seconds of the source to learn from; 0: as many as the sections take
    "section-count": 8,  # sections (sequences) the source is cut into; auto: as many as it holds
    "block-count": 175,  # blocks a section holds
    # the networks
    "layer-count": 4,  # autoencoder layers / 2: encoder steps, and as many decoder steps
    "dim-decrease": 250,  # units each encoder step drops
    "dropout": 0.4,  # dropout rate of the encoder, 0 to below 1
    "lstm-layers": 2,  # new LSTM layers of the generator
    # training
    "minutes": 0.0,  # minutes the whole run may take, instead of so many epochs; 0: no such limit
    "learning-rate": 0.001,  # Adam's highest learning rate; it falls along a cosine
    "preview-minutes": 1.0,  # minutes from one preview to the next, in output/NAME/previews; 0: none
    # training the autoencoders
    "ae-epoch": 200,  # epochs an iteration of the autoencoders
    "ae-iteration": 40,  # iterations of the autoencoders; weights are saved after each
    "batch-size": 256,  # frames a step of the autoencoders
    # training the LSTM layers
    "lstm-epoch": 200,  # epochs an iteration of the LSTM trainings
    "lstm-iteration": 30,  # iterations of the LSTM trainings; weights are saved after each
    "generator-rate": 0.003,  # the generator's highest learning rate
    "window-length": 24,  # frames a training window of the LSTM layers holds
    "window-batch": 32,  # windows a step of the LSTM trainings
    "own-share": 0.5,  # share of the generator's training windows that it predicted itself, 0 to 1
    # generation
    "method": "both",  # part (frame by frame), whole (sequence at a time) or both
    "sequence-lengths": [24, 48],  # frames the generator looks at; one wav a length and method
    "generate-seconds": 20.0,  # seconds each wav lasts
    "seed-section": 0,  # section whose first frames start the generation, from 0
    "seed-source": "",  # a recording to start from instead; empty: the section
    "variation": 0.1,  # share of its frames at which a clip leaves the song's course, 0 to 1
    "takes": 1,  # clips a method and length; the best by their scores comes first
    "phase-method": "follow",  # follow, network, griffin-lim (with overlap 4), or all to compare
    "match-statistics": True,  # bring generated bins back to the source's mean and deviation
    # file names, without endings
    "coded-file": "coded-file",  # encoded output of the autoencoders, in output/NAME
    "lstm-file": "lstm-file",  # LSTM model weights, in weights/NAME, a file a component
    "phase-encoder": "phase-encoder",  # phase autoencoder weights, in weights/NAME
    "magnitude-encoder": "magnitude-encoder",  # magnitude autoencoder weights, in weights/NAME
    "phase-result": "phase-result",  # generated phase frames, in output/NAME
    "magnitude-result": "magnitude-result",  # generated magnitude frames, in output/NAME
}

presets = {
    # the full schedule with the song's user's own values: a night on a CPU, or a GPU
    "seed": {
        "source": "./sources/harp.wav",
        "overlap": 2,
        "coded-file": "coded-file",
        "lstm-file": "lstm-file",
        "phase-encoder": "phase-encoder",
        "magnitude-encoder": "magnitude-encoder",
        "phase-result": "phase-result",
        "magnitude-result": "magnitude-result",
        "lstm-epoch": 200,
        "lstm-iteration": 30,
        "ae-epoch": 200,
        "ae-iteration": 40,
        "section-count": 8,
        "block-count": 175,
        "layer-count": 4,
        "sample-rate": 16000,
        "dim-decrease": 250,
        "load-weights": True,
        "dropout": 0.4,
    },
    # 20 s of the song in a few minutes on two cores
    "demo": {
        "section-count": 2,
        "block-count": 157,
        "ae-epoch": 25,
        "ae-iteration": 3,
        "lstm-epoch": 32,
        "lstm-iteration": 2,
        "generate-seconds": 10.0,
        "sequence-lengths": [12, 24],
    },
    # a minute of the song, two hours on any machine
    "evening": {
        "seconds": 60.0,
        "section-count": "auto",
        "block-count": 78,
        "minutes": 120.0,
    },
}
