"""The settings of JOANNA, one line per key with its meaning.

A preset overrides the values below, and key=value on the command line overrides both: `./run.sh demo
dropout=0.2`. Edit them and run `./run.sh` without a preset to use your own. With the values below a run
takes 17 hours on two cores: lower epochs and iterations, or set minutes.
"""

settings = {
    # every stage
    "source": "./sources/harp.wav",  # the recording to learn from, or a folder of recordings
    "name": "",  # folder of the run in weights/ and output/; empty: the source's file name
    "load-weights": True,  # resume from saved weights, or start a new training
    "random-seed": 0,  # seed of every random number
    "tensorboard": False,  # write losses, previews and clips for TensorBoard to output/NAME/tensorboard
    # the song
    "sample-rate": 16000,  # Hz the source is resampled to and the output is written at
    "stereo": False,  # learn and write two channels; by default all are mixed to one
    "frame-length": "auto",  # samples per frame; auto: 128 ms, 2048 at 16000 Hz
    "overlap": 2,  # overlapping number for STFT: hop = frame-length / overlap
    "magnitude-power": 0.5,  # exponent of the magnitudes: 1 is linear, less lets quiet sounds count more
    "start": 0.0,  # seconds (or 1:30) skipped at the beginning of the source, or of each recording in it
    "seconds": 0.0,  # seconds (or 0:20) of the source to learn from at most; 0: as many as the sections take
    "section-count": 8,  # sections; auto: all of the source, or, with seconds, those closest to all of it
    "block-count": 175,  # blocks per section, at most; a block is a hop, 64 ms by default
    # the networks
    "layer-count": 4,  # encoder steps (Dense, ELU, Dropout), and as many decoder steps (Dense)
    "dim-decrease": 250,  # units by which each encoder step is narrower; auto: 1048 or half at the bottleneck
    "dropout": 0.4,  # dropout rate of the encoder, 0 to below 1
    "lstm-layers": 2,  # LSTM layers of the generator before the spliced ones
    # training
    "minutes": 0.0,  # time limit of the whole run; epochs and iterations are ignored; 0: no limit
    "learning-rate": 0.001,  # Adam's peak learning rate; it decays along a cosine
    "preview-minutes": 1.0,  # minutes between previews, in output/NAME/previews; 0: none
    # training the autoencoders
    "ae-epoch": 200,  # epochs per iteration of the autoencoders
    "ae-iteration": 40,  # iterations of the autoencoders; weights are saved after each
    "batch-size": 256,  # frames per training step of the autoencoders
    # training the LSTM layers
    "lstm-epoch": 200,  # epochs per iteration of the LSTM trainings
    "lstm-iteration": 30,  # iterations of the LSTM trainings; weights are saved after each
    "generator-rate": 0.003,  # peak learning rate of the generator
    "window-length": 24,  # frames per training window of the LSTM layers
    "window-batch": 32,  # windows per training step of the LSTM layers
    "own-share": 0.5,  # fraction of the generator's training windows that it predicted itself, 0 to 1
    # generation
    "method": "both",  # part (a new frame joins the input), whole (the output is the next input) or both
    "sequence-lengths": [24, 48],  # frames the generator looks at; one wav per length and method
    "whole-frames": 1,  # frames of each whole output that the clip gets: 1 the last one, or more of it
    "generate-seconds": 20.0,  # seconds (or 1:00) each wav lasts
    "seed-section": 0,  # section whose first frames start the generation, counted from 0
    "seed-source": "",  # a recording to start from instead; empty: the section
    "continue": False,  # write the seed-source, and the generated audio as its continuation
    "variation": 0.4,  # dropout rate while generating: 0 none; 0:0,20:0.4 rises over 20 s; 0:0,2:0.4,repeat
    "whole-variation": "auto",  # variation of whole clips; auto: the same
    "guided": False,  # feed similar frames of the song to the network, in place of its own
    "jumps": 0.1,  # if guided: fraction of frames that jump elsewhere in the song, 0 to 1
    "takes": 1,  # clips per method and length, ranked by their scores
    "phase-method": "network",  # network, follow, griffin-lim (with overlap 4), or all to compare
    "phase-iterations": 1,  # of Griffin and Lim, to fit the network's phases; match-statistics adds one
    "match-statistics": True,  # match magnitudes and phases to the statistics of the source
    # file names of the autoencoders, without endings
    "coded-file": "coded-file",  # encoded output of the autoencoders, in output/NAME
    "phase-encoder": "phase-encoder",  # phase autoencoder weights, in weights/NAME
    "magnitude-encoder": "magnitude-encoder",  # magnitude autoencoder weights, in weights/NAME
    # file names of the LSTM layers, without endings
    "lstm-file": "lstm-file",  # LSTM model weights, in weights/NAME, one file per component
    # file names of generation, without endings
    "phase-result": "phase-result",  # generated phase frames, in output/NAME
    "magnitude-result": "magnitude-result",  # generated magnitude frames, in output/NAME
}

presets = {
    # the full schedule, also the default: 17 hours on two cores, meant for a GPU
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
    # 20 s of the song in 2 to 11 minutes on two cores
    "demo": {
        "section-count": 2,
        "block-count": 157,
        "ae-epoch": 75,
        "ae-iteration": 1,
        "lstm-epoch": 64,
        "lstm-iteration": 1,
        "generate-seconds": 10.0,
        "sequence-lengths": [12, 24],
    },
    # the demo at 44100 Hz, with the treble (harp.wav has none) and twice the epochs: 4.5 times as long
    "hifi": {
        "sample-rate": 44100,
        "dim-decrease": "auto",
        "section-count": 2,
        "block-count": 157,
        "ae-epoch": 150,
        "ae-iteration": 1,
        "lstm-epoch": 128,
        "lstm-iteration": 1,
        "generate-seconds": 10.0,
        "sequence-lengths": [12, 24],
    },
    # a minute of the song, two hours on any machine
    "evening": {
        "seconds": 60.0,
        "section-count": "auto",
        "block-count": 78,
        "minutes": 120.0,
        "variation": "0:0.4,1.2:0.4,1.25:0.9,1.5:0.9,repeat",
        "whole-variation": "0:0.3,1.2:0.3,1.25:0.9,1.5:0.9,repeat",
    },
}
