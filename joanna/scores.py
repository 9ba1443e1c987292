"""How a clip compares with its source. numpy and scipy only.

Signals are ``(S,)`` at any rate; everything is compared at 16 kHz and unit RMS.
"""

import numpy as np
from scipy.signal import ShortTimeFFT, find_peaks, welch
from scipy.signal.windows import hann

from joanna.audio import resample

RATE = 16000  # Hz everything is compared at
_SHORTEST = 4096  # samples
_LENGTH, _HOP, _BANDS, _LOW, _HIGH = 1024, 256, 64, 30.0, 7800.0


def mel_filters() -> np.ndarray:
    """Triangular mel filters ``(64, 513)`` from 30 to 7800 Hz.

    mel(f) = 2595 log10(1 + f / 700), O'Shaughnessy 1987, Speech Communication.
    """
    mels = np.linspace(*(2595 * np.log10(1 + np.array([_LOW, _HIGH]) / 700)), _BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(_LENGTH, 1 / RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Log-mel spectrogram ``(T, 64)`` of audio ``(S,)`` scaled to unit RMS: log(power + 1e-6).

    Frames of 1024 samples (64 ms) every 256 (16 ms), Hann window, after resampling to 16 kHz.
    """
    audio = prepare(audio, sample_rate)
    stft = ShortTimeFFT(hann(_LENGTH, sym=False), _HOP, fs=RATE)
    power = np.abs(stft.stft(audio)) ** 2 / _LENGTH
    return np.log(mel_filters() @ power + 1e-6).T


def mel_correlation(audio: np.ndarray, source: np.ndarray, sample_rate: int) -> float:
    """Pearson correlation of two signals' log-mel spectrograms less the source's mean one.

    Over the shorter one's length. 1 is the same up to loudness; 0 is no relation beside an average
    spectrum in common, which alone would correlate 0.9 where it is steep. Silence gives 0.
    """
    size = min(len(audio), len(source))
    pair = [log_mel(signal[:size], sample_rate) for signal in (audio, source)]
    pair = [(mel - pair[1].mean(axis=0)).ravel() for mel in pair]
    if min(values.std() for values in pair) < 1e-9:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def prepare(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Audio ``(S,)`` at `sample_rate` Hz -> float64 ``(S',)`` at 16 kHz and unit RMS.

    With silence after it if it is shorter than what the scores look at (0.26 s).
    """
    audio = resample(np.asarray(audio, dtype=np.float64), sample_rate, RATE)
    audio = np.pad(audio, (0, max(0, _SHORTEST - len(audio))))
    return audio / max(np.sqrt(np.mean(np.square(audio))), 1e-12)


def patches(mel: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram ``(T, 64)`` -> patches ``(N, 64)`` of 128 ms every 64 ms.

    Bands averaged in fours to 16; a patch spans 8 frames and takes every second one.
    """
    bands = mel.reshape(len(mel), 16, 4).mean(axis=2)
    starts = np.arange(0, len(bands) - 7, 4)
    return bands[starts[:, None] + np.arange(0, 8, 2)].reshape(len(starts), -1)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two sets of patches ``(N, D)``, each taken as a Gaussian.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson and Landau 1982; on audio, Kilgour et al.
    2019, arXiv:1812.08466. NaN if either set has fewer than two patches.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    covariances = [np.cov(part, rowvar=False) for part in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root)
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    spread = sum(np.trace(part) for part in covariances)
    return float(means + spread - 2 * np.sqrt(np.maximum(shared, 0)).sum())


def spectrum_level(audio: np.ndarray) -> np.ndarray:
    """Long-term average spectrum in dB ``(B,)`` of prepared audio, bins from 30 to 7800 Hz (Welch)."""
    bins, power = welch(audio, RATE, nperseg=min(_LENGTH, len(audio)))
    return 10 * np.log10(power[(bins >= _LOW) & (bins <= _HIGH)] * RATE + 1e-6)


def chroma(audio: np.ndarray) -> np.ndarray:
    """Share of each of the 12 pitch classes, from C, in the magnitude of prepared audio, 60 to 4000 Hz.

    STFT 4096/1024; each bin counts for its nearest semitone (Fujishima 1999, ICMC).
    """
    sft = ShortTimeFFT(hann(4096, sym=False), 1024, fs=RATE)
    magnitude = np.abs(sft.stft(audio)).sum(axis=1)
    wanted = (sft.f >= 60) & (sft.f <= 4000)
    pitch = np.round(69 + 12 * np.log2(sft.f[wanted] / 440)).astype(int) % 12
    found = np.bincount(pitch, magnitude[wanted], minlength=12)
    return found / max(found.sum(), 1e-12)


def onset_rate(mel: np.ndarray) -> float:
    """Onsets a second: peaks of the spectral flux of a log-mel spectrogram ``(T, 64)``.

    The flux is the rise over two frames, averaged over the bands, of log(1 + 100 power); a peak stands
    out by 0.15 and lies 50 ms from the next (Bello et al. 2005, IEEE TSAP 13(5); Boeck 2013, DAFx).
    """
    level = np.log1p(100 * np.exp(mel))
    flux = np.maximum(level[2:] - level[:-2], 0).mean(axis=1)
    peaks, _ = find_peaks(np.pad(flux, 1), prominence=0.15, distance=3)
    return len(peaks) / (len(mel) * _HOP / RATE)


_WINDOW = RATE // _HOP  # frames of the 1 s windows compared for copies and loops
_STEP = 4  # frames from one of the clip's windows to the next
_LONGEST = 180 * RATE // _HOP  # frames compared with each other at most, whose number counts squared


def _windows(mel, mean, step):
    """Standardised 1 s windows ``(N, 62 * 64)`` float32: products are correlations, 0 with silence."""
    shape = (len(mel) - _WINDOW) // step + 1, -1
    views = np.lib.stride_tricks.sliding_window_view(mel, _WINDOW, axis=0)[::step]
    silent = np.ptp(views.reshape(shape), axis=1) < 1e-3
    views = np.lib.stride_tricks.sliding_window_view((mel - mean).astype(np.float32), _WINDOW, axis=0)
    flat = views[::step].reshape(shape)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat[silent] = 0
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def alike(mel: np.ndarray, other: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Whether 1 s windows correlate above 0.9: ``(N, M)`` bool. Silence is like nothing.

    Args:
        mel: log-mel spectrogram ``(T, 64)``; its windows start every 64 ms.
        other: another ``(U, 64)``; its windows start every 16 ms.
        mean: the song's ``(64,)``, which is taken off: the same everywhere, it would make all alike.
    """
    if min(len(mel), len(other)) < _WINDOW:
        return np.zeros((0, 0), bool)
    left, size = _windows(mel, mean, _STEP), 1000
    parts = [other[first : first + size + _WINDOW - 1] for first in range(0, len(other), size)]
    return np.hstack([left @ _windows(p, mean, 1).T > 0.9 for p in parts if len(p) >= _WINDOW])


def _share(found):
    """Share of the first signal's windows that are alike some of the other's, 0 if there are none."""
    return float(found.any(axis=1).mean()) if found.size else 0.0


def longest_run(found: np.ndarray) -> tuple[float, float, float]:
    """Longest passage that runs along in both signals of `alike`'s table.

    Returns:
        Seconds it lasts (0 if none), and seconds at which it starts in the first and in the other.
    """
    longest, end = 0, (0, 0)
    before = np.zeros(found.shape[1:], int)
    for i, row in enumerate(found):
        runs = row.astype(int)
        runs[_STEP:] += np.where(row[_STEP:], before[:-_STEP], 0)
        if runs.max(initial=0) > longest:
            longest, end = runs.max(), (i * _STEP, runs.argmax())
        before = runs
    if not longest:
        return 0.0, 0.0, 0.0
    back = (longest - 1) * _STEP
    frames = (back + _WINDOW, end[0] - back, end[1] - back)
    return tuple(float(count * _HOP / RATE) for count in frames)


def loop(mel: np.ndarray, mean: np.ndarray) -> float:
    """Longest stretch in seconds that comes again, 1 s later or more; of each three minutes.

    Arguments as of `alike`.
    """
    longest = 0.0
    for start in range(0, len(mel), _LONGEST):
        piece = mel[start : start + _LONGEST]
        found = alike(piece, piece, mean)
        for place, row in enumerate(found):
            row[: _STEP * place + _WINDOW] = False
        longest = max(longest, longest_run(found)[0])
    return longest


def hop_buzz(audio: np.ndarray, hop_seconds: float) -> float:
    """Amplitude modulation at the hop rate in dB above its surroundings, of prepared audio.

    The spectrum of the power in steps of 4 ms, or a quarter of the hop if that is less; the hop rate's
    bin against the median from 0.6 to 1.4 times that rate.
    """
    step, rate = max(1, min(RATE // 250, int(hop_seconds * RATE / 4))), 1 / hop_seconds
    power = np.square(audio[: len(audio) // step * step]).reshape(-1, step).mean(axis=1)
    bins, found = welch(power, RATE / step, nperseg=min(1024, len(power)))
    around = (bins > 0.6 * rate) & (bins < 1.4 * rate)
    if not around.any():
        return float("nan")
    level = found[np.abs(bins - rate).argmin()]
    return float(10 * np.log10((level + 1e-12) / (np.median(found[around]) + 1e-12)))


class Song:
    """The source, with which clips are compared."""

    def __init__(self, audio: np.ndarray, sample_rate: int, hop_seconds: float):
        """Audio ``(S,)`` at `sample_rate` Hz; `hop_seconds` is the hop of the frames learned from."""
        self._rate, self._hop = sample_rate, hop_seconds
        signal = prepare(audio, sample_rate)
        self._mel = log_mel(signal, RATE)
        self._patches, self._level = patches(self._mel), spectrum_level(signal)
        self._chroma = chroma(signal)
        self._mean = self._mel.mean(axis=0)
        phases = np.random.default_rng(0).uniform(-np.pi, np.pi, len(signal) // 2 + 1)
        noise = np.fft.irfft(np.abs(np.fft.rfft(signal)) * np.exp(1j * phases), len(signal))
        middle, half = len(self._patches) // 2, len(self._mel) // 2
        self.yardsticks = {
            "timbre-halves": frechet(self._patches[:middle], self._patches[middle:]),
            "timbre-noise": frechet(self._patches, patches(log_mel(noise, RATE))),
            "onsets": onset_rate(self._mel),
            "copied-halves": _share(
                alike(self._mel[half:][:_LONGEST], self._mel[:half][:_LONGEST], self._mean)
            ),
            "loop": loop(self._mel[:_LONGEST], self._mean),
            "hop-buzz": hop_buzz(signal, hop_seconds),
        }

    def score(self, audio: np.ndarray) -> dict[str, float]:
        """Scores of a clip ``(S,)`` at the song's rate, as the README's table explains them."""
        signal = prepare(audio, self._rate)
        mel = log_mel(signal, RATE)
        copies = alike(mel, self._mel, self._mean)
        seconds, at, source_at = longest_run(copies)
        difference, shares = spectrum_level(signal) - self._level, chroma(signal)
        return {
            "timbre": frechet(self._patches, patches(mel)),
            "spectrum": float(np.sqrt(np.mean(np.square(difference)))),
            "harmony": float(np.corrcoef(shares, self._chroma)[0, 1]) if shares.any() else 0.0,
            "onsets": onset_rate(mel),
            "copied": _share(copies),
            "copied-seconds": seconds,
            "copied-at": at,
            "copied-from": source_at,
            "loop": loop(mel, self._mean),
            "hop-buzz": hop_buzz(signal, self._hop),
        }

    def rank(self, found: dict[str, float]) -> float:
        """One figure to order takes by, lower is better.

        Timbre in units of the song's halves, plus the loop beyond the song's own in units of 4 s, plus
        the copied share beyond the song's own or 0.3.
        """
        own = self.yardsticks
        return (
            found["timbre"] / max(own["timbre-halves"], 1e-9)
            + max(0.0, found["loop"] - own["loop"]) / 4
            + max(0.0, found["copied"] - max(0.3, own["copied-halves"]))
        )

    def line(self, found: dict[str, float]) -> str:
        """A clip's scores, the song's beside them, in one line."""
        own = self.yardsticks
        copied = f"copied {found['copied']:.0%} (song's halves {own['copied-halves']:.0%})"
        if found["copied"]:
            copied += f", most {found['copied-seconds']:.1f} s from {found['copied-from']:.1f} s"
        return (
            f"timbre {found['timbre']:.1f} (song's halves {own['timbre-halves']:.1f}, "
            f"noise {own['timbre-noise']:.0f}), spectrum {found['spectrum']:.1f} dB, "
            f"harmony {found['harmony']:.2f}, onsets {found['onsets']:.1f}/s ({own['onsets']:.1f}), "
            f"{copied}, loop {found['loop']:.1f} s ({own['loop']:.1f}), "
            f"hop buzz {found['hop-buzz']:.0f} dB ({own['hop-buzz']:.0f})"
        )


def advice(found: dict[str, float], own: dict[str, float]) -> list[str]:
    """What to turn where a clip recites the song, loops or is unlike it; empty where it does none.

    Args:
        found: of `Song.score`.
        own: `Song.yardsticks`.
    """
    said = []
    if found["copied"] > max(0.3, own["copied-halves"]):
        said.append("it recites the song: raise variation, or choose among more takes")
    if found["loop"] > own["loop"] + 2:
        said.append("it loops: raise variation, or try other sequence-lengths")
    if found["timbre"] > np.sqrt(own["timbre-halves"] * own["timbre-noise"]):
        said.append("its sound is as near to noise as to the song: train longer, or lower variation")
    return said


def picture(signals: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Log-mel spectrograms as one image ``(height, width, 3)`` uint8, one signal a row, low notes below.

    Four pixels a band, two a frame, eight between rows; as wide as the longest signal; shared colours.
    """
    spectrograms = [log_mel(signal, sample_rate) for signal in signals]
    low, high = np.percentile(np.concatenate(spectrograms), [10, 99.5])
    width = 2 * max(len(spectrogram) for spectrogram in spectrograms)
    rows = []
    for spectrogram in spectrograms:
        level = np.clip((spectrogram.T[::-1] - low) / max(high - low, 1e-9), 0, 1)
        level = level.repeat(4, axis=0).repeat(2, axis=1)
        anchors = ((0, 60, 190, 255, 252), (0, 15, 55, 150, 253), (20, 110, 110, 90, 200))
        colours = [np.interp(level, np.linspace(0, 1, 5), anchor) for anchor in anchors]
        image = np.full((level.shape[0] + 8, width, 3), 255, np.uint8)
        image[: level.shape[0], : level.shape[1]] = np.stack(colours, axis=-1)
        rows.append(image)
    return np.concatenate(rows)[:-8]
