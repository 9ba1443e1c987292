"""Make harp.wav, the song that ships: the public-domain tune "Greensleeves" on plucked strings.

Karplus-Strong strings (Karplus and Strong, Computer Music Journal 7(2), 1983), a melody, a bass and
arpeggios, a contrasting slow middle part, and a small convolved reverberation. About 90 s, 16 kHz,
mono, 16 bit. Run it again and the same bytes come out.
"""

from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import fftconvolve, lfilter

RATE = 16000
BEAT = 0.345  # seconds an eighth note

# (note, eighths); '-' is a rest. Two verses' halves, in A minor.
VERSE = (
    "A4 2 C5 4 D5 2 E5 3 F5 1 E5 2 D5 4 B4 2 G4 3 A4 1 B4 2 C5 4 A4 2 A4 3 G#4 1 A4 2 B4 4 G#4 2 E4 4 "
    "A4 2 C5 4 D5 2 E5 3 F5 1 E5 2 D5 4 B4 2 G4 3 A4 1 B4 2 C5 3 B4 1 A4 2 G#4 3 F#4 1 G#4 2 A4 6 "
    "A4 4 - 2"
)
CHORUS = (
    "G5 6 G5 3 F#5 1 E5 2 D5 4 B4 2 G4 3 A4 1 B4 2 C5 4 A4 2 A4 3 G#4 1 A4 2 B4 4 G#4 2 E4 6 "
    "G5 6 G5 3 F#5 1 E5 2 D5 4 B4 2 G4 3 A4 1 B4 2 C5 3 B4 1 A4 2 G#4 3 F#4 1 G#4 2 A4 6 - 6"
)
VERSE_CHORDS = "A2m A2m G2 G2 A2m A2m E2 E2 A2m A2m G2 G2 A2m E2 A2m A2m"
CHORUS_CHORDS = "C3 C3 G2 G2 A2m A2m E2 E2 C3 C3 G2 G2 A2m E2 A2m"
MIDDLE_CHORDS = "F2 C3 D3m A2m F2 C3 E2 -"
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def midi(name: str) -> int:
    """MIDI number of a note name such as 'G#4'."""
    return 12 * (int(name[-1]) + 1) + STEPS[name[0]] + ("#" in name)


def pluck(note: int, seconds: float, loudness: float, rng: np.random.Generator) -> np.ndarray:
    """One Karplus-Strong string ``(S,)``: noise through a damped, tuned delay line."""
    period = RATE / (440 * 2 ** ((note - 69) / 12))
    delay = int(period - 0.5)
    fraction = period - 0.5 - delay
    burst = np.zeros(int(seconds * RATE))
    burst[: delay + 1] = lfilter([0.3 + 0.5 * loudness], [1, -0.4], rng.uniform(-1, 1, delay + 1))
    damping = 0.5 * 0.001 ** (period / RATE / 4.0)
    # two-point average and linear interpolation in the loop
    feedback = np.convolve([damping, damping], [1 - fraction, fraction])
    string = lfilter([1], np.concatenate([[1], np.zeros(delay - 1), -feedback]), burst)
    fade = np.minimum(1, np.arange(len(string))[::-1] / (0.05 * RATE))
    return loudness * string * fade


def main() -> None:
    """Write harp.wav beside this script."""
    rng = np.random.default_rng(1580)
    audio = np.zeros(100 * RATE)

    def play(at, note, seconds, loudness):
        sound = pluck(note, seconds, loudness, rng)
        first = int(at * RATE)
        audio[first : first + len(sound)] += sound

    def melody(at, text, loudness):
        words = text.split()
        for name, eighths in zip(words[::2], words[1::2], strict=True):
            if name != "-":
                swell = 1 + 0.25 * np.sin(at / 3)
                play(at, midi(name), 0.4 + int(eighths) * BEAT, loudness * swell)
            at += int(eighths) * BEAT

    def chords(at, text, pattern, loudness):
        for name in text.split():
            if name != "-":
                root = midi(name.rstrip("m"))
                steps = [0, 7, 12, 15 if name.endswith("m") else 16, 19, 24]
                for eighth, step in enumerate(pattern):
                    play(
                        at + eighth * BEAT,
                        root + steps[step],
                        1.4,
                        loudness * (1.5 if not eighth else 1),
                    )
            at += len(pattern) * BEAT
        return at

    # a bar is six eighths; the tune has an upbeat of two
    upbeat = 2 * BEAT
    melody(0.3, VERSE, 0.55)
    at = chords(0.3 + upbeat, VERSE_CHORDS, [0, 2, 3, 4, 3, 2], 0.16)
    middle = at + 2 * BEAT
    at = chords(middle, MIDDLE_CHORDS, [0, 1, 2, 3, 4, 5, 4, 3], 0.28)
    melody(at, CHORUS, 0.7)
    at = chords(at, CHORUS_CHORDS, [0, 1, 3, 2, 4, 3], 0.2)
    audio = audio[: int(90.5 * RATE)]
    tail = rng.normal(size=int(1.2 * RATE)) * np.exp(-np.arange(int(1.2 * RATE)) / (0.25 * RATE))
    audio = audio + 0.04 * fftconvolve(audio, tail)[: len(audio)]
    audio *= np.minimum(1, np.arange(len(audio))[::-1] / RATE)
    samples = np.round(audio / np.abs(audio).max() * 0.9 * 32767).astype(np.int16)
    wavfile.write(Path(__file__).with_name("harp.wav"), RATE, samples)
    print(f"wrote harp.wav, {len(samples) / RATE:.1f} s, tune ends at {at:.1f} s")


if __name__ == "__main__":
    main()
