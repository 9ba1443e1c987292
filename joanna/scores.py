"""Scores that compare a clip with its song, both at 16 kHz and unit loudness. NumPy and SciPy only.

To add a score, write a function that computes it and a row of `SCORES`; all outputs follow the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import ShortTimeFFT, find_peaks, welch
from scipy.signal.windows import hann

from joanna.audio import loudness, mid, resample, rms
from joanna.matching import square_root

SAMPLE_RATE = 16000  # Hz
N_FFT, HOP_LENGTH, CHROMA_N_FFT = 1024, 256, 4096  # samples: 64, 16 and 256 ms
N_MELS, FMIN, FMAX = 64, 30.0, 7800.0  # bands, Hz, Hz
_FLOOR = 1e-6  # power that is added, about that of noise 60 dB below the clip
_WINDOW_FRAMES = SAMPLE_RATE // HOP_LENGTH  # 1 s, the length compared for copies and loops
_WINDOW_STEP = 4  # frames between the starts of a clip's windows
_MAX_FRAMES = 180 * SAMPLE_RATE // HOP_LENGTH  # 180 s, as the cost of comparing all pairs is quadratic
_SUSTAIN_FRAMES = 8  # 128 ms
_TREBLE_PART = 2**19  # samples whose spectra are computed at a time
_PART = 2**21  # samples of a long song analysed at a time, 2 minutes: all of an hour would take gigabytes
_DRIFT_PATCHES = 156  # 10 s
_FAR_SPECTRUM = 8.0  # dB, of the average spectra; clips are within 4 dB, white noise is beyond 10 dB
_COPIED_LIMIT = 0.3  # fraction of a clip that may match the song
# of the distance of noise: least and most that the song's halves count as. Those of repetitions are equal,
# those of two songs as far apart as noise
_HALVES_BOUNDS = 1 / 25, 1 / 4
_CLOSENESS = "closer to the song than", "about as close to the song as", "less close to the song than"
_OF_HALVES = "{} its two halves are to each other; "
_COLORMAP = (0, 60, 190, 255, 252), (0, 15, 55, 150, 253), (20, 110, 110, 90, 200)  # red, green, blue


def prepare(audio: np.ndarray, sample_rate: int, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Audio ``(S,)`` at `rate` Hz and unit loudness, float64, zero-padded to the longest FFT (0.26 s).

    Of stereo audio ``(S, 2)`` it is the mean of the channels, as everywhere here but in `width` and
    `treble`.
    """
    audio = mid(np.array(audio, dtype=np.float64))  # a copy, which is changed in place
    if sample_rate != rate:
        audio = resample(audio, sample_rate, rate)
    if missing := max(0, CHROMA_N_FFT * rate // SAMPLE_RATE - len(audio)):
        audio = np.pad(audio, (0, missing))
    level = loudness(audio)
    audio /= level if level > 1e-6 else np.inf  # less is rounding
    return audio


def mel_filters(rate: int = SAMPLE_RATE) -> np.ndarray:
    """Triangular mel filters ``(64, 513)`` from 30 to 7800 Hz; of another rate up to 0.49 times that.

    mel(f) = 2595 log10(1 + f / 700), O'Shaughnessy 1987, Speech Communication.
    """
    low, high = 2595 * np.log10(1 + np.array([FMIN, FMAX * rate / SAMPLE_RATE]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, N_MELS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(N_FFT * rate // SAMPLE_RATE, 1 / rate)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(audio: np.ndarray, sample_rate: int, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Log-mel spectrogram ``(T, 64)`` of audio ``(S,)``, `prepare`d: log(power + 1e-6), hop 16 ms."""
    n_fft, filters = N_FFT * rate // SAMPLE_RATE, mel_filters(rate)
    magnitudes = _magnitudes(prepare(audio, sample_rate, rate), n_fft)
    levels = [np.log(filters @ (part**2 / n_fft) + _FLOOR) for part in magnitudes]
    return np.concatenate(levels, axis=1).T


def _magnitudes(signal, n_fft):
    """Parts ``(n_fft // 2 + 1, N)`` of the magnitudes of the STFT, whose hop is a quarter of a window."""
    stft, count = ShortTimeFFT(hann(n_fft, sym=False), n_fft // 4, fs=1), 4 * _PART // n_fft
    last = stft.p_max(len(signal))
    for first in range(stft.p_min, last, count):
        yield np.abs(stft.stft(signal, first, min(first + count, last)))


def _parts(signal, size=_PART):
    return np.array_split(signal, 1 + len(signal) // size)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two arrays of the same shape, 0 if either is constant."""
    if min(first.std(), second.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def mel_correlation(audio: np.ndarray, source: np.ndarray, sample_rate: int) -> float:
    """Correlation of two signals' log-mel spectrograms, the source's mean spectrum removed.

    Over the shorter one's length. 1 means equal up to loudness, 0 unrelated or silent; with a steep mean
    spectrum included, unrelated signals would correlate at 0.9.
    """
    size = min(len(audio), len(source))
    mel, source_mel = (log_mel(signal[:size], sample_rate) for signal in (audio, source))
    return correlation(mel - source_mel.mean(axis=0), source_mel - source_mel.mean(axis=0))


def patches(mel: np.ndarray) -> np.ndarray:
    """Patches ``(N, 64)`` of a log-mel spectrogram ``(T, 64)``: 16 bands by 128 ms, hop 64 ms.

    Those without sound are left out.
    """
    bands = mel.reshape(len(mel), 16, 4).mean(axis=2)
    starts = np.arange(0, len(bands) - 7, 4)
    values = bands[starts[:, None] + np.arange(0, 8, 2)].reshape(len(starts), -1)
    return values[values.max(axis=1, initial=-np.inf) > np.log(2 * _FLOOR)]


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of Gaussians fitted to two sets of patches ``(N, D)``, NaN for fewer than two.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson and Landau 1982; Kilgour 2019, arXiv:1812.08466.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    covariance, other_covariance = (np.cov(part, rowvar=False) for part in (first, second))
    root = square_root(covariance)
    shared = np.linalg.eigvalsh(root @ other_covariance @ root)
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    spread = np.trace(covariance) + np.trace(other_covariance)
    return float(means + spread - 2 * np.sqrt(np.maximum(shared, 0)).sum())


def spectrum_level(signal: np.ndarray) -> np.ndarray:
    """Long-term average spectrum in dB ``(B,)`` of a prepared signal, from 30 to 7800 Hz (Welch)."""
    spectra = [welch(part, SAMPLE_RATE, nperseg=min(N_FFT, len(part))) for part in _parts(signal)]
    frequencies, power = np.mean(spectra, axis=0)
    return 10 * np.log10(power[(frequencies >= FMIN) & (frequencies <= FMAX)] * SAMPLE_RATE + 1e-6)


def chroma(signal: np.ndarray) -> np.ndarray:
    """Average chroma ``(12,)`` of a prepared signal from C on, sum 1, or 0 if it is silent.

    STFT magnitudes from 60 to 4000 Hz, added up by nearest semitone (Fujishima 1999, ICMC).
    """
    magnitude = sum(part.sum(axis=1) for part in _magnitudes(signal, CHROMA_N_FFT))
    frequencies = np.fft.rfftfreq(CHROMA_N_FFT, 1 / SAMPLE_RATE)
    band = (frequencies >= 60) & (frequencies <= 4000)
    pitch_class = np.round(69 + 12 * np.log2(frequencies[band] / 440)).astype(int) % 12
    totals = np.bincount(pitch_class, magnitude[band], minlength=12)
    return totals / max(totals.sum(), 1e-12)


def onset_rate(mel: np.ndarray) -> float:
    """Onsets per second: peaks of the spectral flux of a log-mel spectrogram ``(T, 64)``.

    The flux is the rise of log(1 + 100 power) over two frames, averaged over bands. Peaks have a
    prominence of 0.15 and a distance of 50 ms (Bello et al. 2005, IEEE TSAP 13(5); Boeck 2013, DAFx).
    """
    level = np.log1p(100 * np.exp(mel))
    flux = np.maximum(level[2:] - level[:-2], 0).mean(axis=1)
    peaks, _ = find_peaks(np.pad(flux, 1), prominence=0.15, distance=3)
    return len(peaks) / (len(mel) * HOP_LENGTH / SAMPLE_RATE)


def sustain(mel: np.ndarray) -> float:
    """Autocorrelation of a log-mel spectrogram ``(T, 64)`` after 128 ms; NaN if it is constant or short.

    Sounds that flicker have less than those that last.
    """
    if len(mel) <= _SUSTAIN_FRAMES:
        return float("nan")
    own = mel - mel.mean(axis=0)
    later, earlier = own[_SUSTAIN_FRAMES:], own[:-_SUSTAIN_FRAMES]
    variance = np.vdot(own, own) / own.size  # vdot makes no copies, which of an hour take 0.1 GB each
    return float(np.vdot(later, earlier) / later.size / variance) if variance > 1e-6 else float("nan")


def _standardized_windows(mel, mean, step):
    """1 s windows ``(N, 62 * 64)`` float32 whose dot products are correlations; silent ones are 0."""
    silent = np.ptp(sliding_window_view(mel, _WINDOW_FRAMES, axis=0)[::step], axis=(1, 2)) < 1e-3
    windows = sliding_window_view((mel - mean).astype(np.float32), _WINDOW_FRAMES, axis=0)[::step]
    windows = windows.reshape(len(windows), -1)
    windows = windows - windows.mean(axis=1, keepdims=True)
    windows[silent] = 0
    return windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-6)


def matching_windows(mel: np.ndarray, other: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Which 1 s windows of two log-mel spectrograms correlate above 0.9; silent ones never do.

    Args:
        mel: ``(T, 64)``; N windows start every 64 ms.
        other: ``(U, 64)``; M windows start every 16 ms.
        mean: mean spectrum of the song ``(64,)``, removed since it is common to all windows.

    Returns:
        Bool ``(N, M)``, a single False if either is shorter than 1 s.
    """
    count = len(other) - _WINDOW_FRAMES + 1
    if len(mel) < _WINDOW_FRAMES or count < 1:
        return np.zeros((1, 1), bool)
    windows = _standardized_windows(mel, mean, _WINDOW_STEP)
    # in chunks: windows take 62 times the memory of their frames
    chunks = (other[start : start + 999 + _WINDOW_FRAMES] for start in range(0, count, 1000))
    return np.hstack([windows @ _standardized_windows(chunk, mean, 1).T > 0.9 for chunk in chunks])


def longest_run(matches: np.ndarray) -> tuple[float, float, float]:
    """Longest shared passage, a diagonal run of `matching_windows` ``(N, M)``.

    Its duration (0 if nothing matches) and start in the first and in the other signal, in seconds.
    """
    longest, end, other_end = 0, 0, 0
    runs = np.zeros(matches.shape[1], int)  # windows in the run that ends at each
    for i, row in enumerate(matches):
        runs = row * (1 + np.pad(runs, (_WINDOW_STEP, 0))[:-_WINDOW_STEP])
        if runs.max() > longest:
            longest, end, other_end = runs.max(), i * _WINDOW_STEP, runs.argmax()
    if not longest:
        return 0.0, 0.0, 0.0
    back = (longest - 1) * _WINDOW_STEP
    frames = np.array([back + _WINDOW_FRAMES, end - back, other_end - back])
    return tuple((frames * HOP_LENGTH / SAMPLE_RATE).tolist())


def loop(mel: np.ndarray, mean: np.ndarray) -> float:
    """Seconds of the longest passage that repeats after 1 s or more in 180 s; see `matching_windows`."""
    longest = 0.0
    for start in range(0, len(mel), _MAX_FRAMES):
        part = mel[start : start + _MAX_FRAMES]
        matches = matching_windows(part, part, mean)
        for i, row in enumerate(matches):
            row[: i * _WINDOW_STEP + _WINDOW_FRAMES] = False  # the window itself and earlier ones
        longest = max(longest, longest_run(matches)[0])
    return longest


def hop_buzz(signal: np.ndarray, hop_seconds: float) -> float:
    """Amplitude modulation of a prepared signal at the hop rate in dB, NaN if it is too short.

    The power envelope has steps of 4 ms, or of a quarter hop if that is less; its level at the hop rate
    is compared with the median from 0.6 to 1.4 times that rate.
    """
    step, hop_rate = max(1, min(SAMPLE_RATE // 250, int(hop_seconds * SAMPLE_RATE / 4))), 1 / hop_seconds
    envelope = np.square(signal[: len(signal) // step * step]).reshape(-1, step).mean(axis=1)
    rates, power = welch(envelope, SAMPLE_RATE / step, nperseg=min(1024, len(envelope)))
    nearby = (rates > 0.6 * hop_rate) & (rates < 1.4 * hop_rate)
    if not nearby.any():
        return float("nan")
    level = power[np.abs(rates - hop_rate).argmin()]
    return float(10 * np.log10((level + 1e-12) / (np.median(power[nearby]) + 1e-12)))


def width(audio: np.ndarray) -> float:
    """Side over mid of stereo audio ``(S, 2)`` in dB, -80 to 80; NaN if it is mono or silent."""
    if audio.ndim == 1 or not audio.any():
        return float("nan")
    middle, side = rms(audio.sum(axis=1)), rms(audio[:, 0] - audio[:, 1])
    return float(20 * np.log10(max(side, 1e-4 * middle) / max(middle, 1e-4 * side)))


def treble(audio: np.ndarray, sample_rate: int) -> float:
    """Power above 8 kHz over all power of audio ``(S,)`` in dB, -80 to 0 (Welch); NaN if it is silent.

    NaN at sample rates up to 16 kHz, which have none.
    """
    if sample_rate <= SAMPLE_RATE:
        return float("nan")
    total, above = 0.0, 0.0
    for part in _parts(audio, _TREBLE_PART):  # all at once would take gigabytes
        frequencies, power = welch(part, sample_rate, nperseg=min(N_FFT, len(part)), noverlap=0, axis=0)
        total, above = total + power.sum(), above + power[frequencies > SAMPLE_RATE / 2].sum()
    return float(10 * np.log10(max(above / total, 1e-8))) if total else float("nan")


class Features:
    """What the scores need of a signal ``(S,)``, computed once."""

    def __init__(self, audio: np.ndarray, sample_rate: int, hop_seconds: float):
        self.signal, self.hop_seconds = prepare(audio, sample_rate), hop_seconds
        self.mel = log_mel(self.signal, SAMPLE_RATE)
        self.mean, self.patches = self.mel.mean(axis=0), patches(self.mel)
        self.spectrum, self.chroma = spectrum_level(self.signal), chroma(self.signal)
        self.width, self.treble = width(audio), treble(audio, sample_rate)


class Comparison:
    """A clip, its song and the passages they share.

    Phases of another origin hide a copy, so the same frames with phases of the reconstruction, `decided`,
    are compared as well; where more is shared counts. Of less than 1 s and of silence it is not known (NaN).
    """

    def __init__(self, clip: Features, song: Features, decided: Features):
        self.clip, self.song = clip, song
        self.known = min(len(clip.mel), len(song.mel)) >= _WINDOW_FRAMES and len(clip.patches) > 0
        if not self.known:
            self.copied = self.copied_seconds = self.copied_at = self.copied_from = float("nan")
            return
        matches = (
            matching_windows(signal.mel, song.mel, song.mean) for signal in dict.fromkeys((clip, decided))
        )
        most = max(matches, key=lambda found: found.any(axis=1).mean())
        self.copied = most.any(axis=1).mean()
        self.copied_seconds, self.copied_at, self.copied_from = longest_run(most)


def _loop_of_clip(pair):
    if not pair.known:
        return float("nan")
    # where a spectrum is far from the song's, the rest of it would make all windows of a noise alike
    far = rms(pair.clip.spectrum - pair.song.spectrum) > _FAR_SPECTRUM
    return loop(pair.clip.mel, pair.clip.mean if far else pair.song.mean)


def drift(clip: Features, song: Features) -> float:
    """Distance of the clip's last 10 s to the song over that of its first 10 s, or of halves if shorter."""
    count = min(_DRIFT_PATCHES, len(clip.patches) // 2)
    first, last = (frechet(song.patches, part) for part in (clip.patches[:count], clip.patches[-count:]))
    return last / max(first, 1e-9) if count > 1 else float("nan")


def _halves(own):
    """Distance of the song's halves, bounded by that of noise; NaN of a short song."""
    halves, noise = own.get("timbre-halves", np.nan), own.get("timbre-noise")
    return halves if noise is None else np.clip(halves, *(share * noise for share in _HALVES_BOUNDS))


def _sound_in_words(scores, own):
    limit = np.sqrt(_halves(own) * own.get("timbre-noise", np.inf))
    if "timbre" not in scores:
        return "silent, or too short to compare", ""
    if scores["timbre"] > limit:
        hint = "it is as close to noise as to the song: train longer, or lower variation"
        return "does not sound like the song", hint
    return "sounds like the song" if np.isfinite(limit) else "", ""  # a short song has no limit


def _copies_in_words(scores, own):
    if "copied" not in scores:
        return "", ""
    share, song_share = scores["copied"], own["copied-halves"]
    if share > max(_COPIED_LIMIT, song_share):
        hint = "it copies the song: generate more takes, or raise variation, in bursts as in evening"
        hint += " (jumps if guided)"
        return f"{share:.0%} copied from the song", hint
    if share > _COPIED_LIMIT:
        return f"{share:.0%} copied, but the song repeats {song_share:.0%} of itself", ""
    return f"new music, {share:.0%} copied", ""


def _loops_in_words(scores, own):
    if "loop" not in scores:
        return "", ""
    if scores["loop"] > own["loop"] + 2:
        hint = "it loops: raise variation (jumps if guided), or try other sequence-lengths"
        return f"repeats a passage of {scores['loop']:.1f} s", hint
    return "no loops" + (f" over {scores['loop']:.1f} s" if scores["loop"] else ""), ""


def _timbre_of_noise(song):
    parts = _parts(song.signal)
    size = len(parts[0])
    power = sum(np.abs(np.fft.rfft(part, size)) ** 2 for part in parts) / len(parts)
    phases = np.random.default_rng(0).uniform(-np.pi, np.pi, size // 2 + 1)
    noise = np.fft.irfft(np.sqrt(power) * np.exp(1j * phases), size)
    return frechet(song.patches, patches(log_mel(noise, SAMPLE_RATE)))


def _copied_of_halves(song):
    first, second = (half[:_MAX_FRAMES] for half in np.split(song.mel, [len(song.mel) // 2]))
    return matching_windows(second, first, song.mean).any(axis=1).mean()


@dataclass(frozen=True)
class Score:
    """A row of `SCORES`. Baselines, the song's own values: key in scores.yaml -> label, function."""

    key: str  # in scores.yaml
    label: str  # on the terminal and in the report; "" hides it on the terminal
    unit: str  # format of a value with its unit
    compute: Callable[[Comparison], float]
    meaning: str = ""  # in the report: what it is, when it is good; "" hides it there
    baselines: dict[str, tuple[str, Callable[[Features], float]]] = field(default_factory=dict)
    needs: str = ""  # key of a score; where that is 0 this one is hidden
    # scores, baselines -> what the clip is, in plain words, and a hint where that is not good; "" for neither
    verdict: Callable[[dict[str, float], dict[str, float]], tuple[str, str]] = lambda scores, own: ("", "")


SCORES = (
    Score("timbre", "timbre", "{:.1f}", lambda pair: frechet(pair.song.patches, pair.clip.patches),
          "{closeness}the noise has the song's spectrum",
          {"timbre-halves": ("song's halves",
                             lambda song: frechet(*np.split(song.patches, [len(song.patches) // 2]))),
           "timbre-noise": ("noise", _timbre_of_noise)}, verdict=_sound_in_words),
    Score("spectrum", "spectrum", "{:.1f} dB", lambda pair: rms(pair.clip.spectrum - pair.song.spectrum),
          "difference of the average spectra; under 3 dB is close"),
    Score("harmony", "harmony", "{:.2f}", lambda pair: correlation(pair.clip.chroma, pair.song.chroma),
          "correlation of the pitch classes; 1 is the same"),
    Score("onsets", "onsets", "{:.1f}/s", lambda pair: onset_rate(pair.clip.mel),
          "notes and strokes", {"onsets": ("song", lambda song: onset_rate(song.mel))}),
    Score("sustain", "sustain", "{:.2f}", lambda pair: sustain(pair.clip.mel),
          "autocorrelation of the sound after 128 ms; below the song's it flickers",
          {"sustain": ("song", lambda song: sustain(song.mel))}),
    Score("copied", "copied", "{:.0%}", lambda pair: pair.copied,
          "1 s windows that correlate above 0.9 with one of the song, mean spectrum removed",
          {"copied-halves": ("song's halves", _copied_of_halves)}, verdict=_copies_in_words),
    Score("copied-seconds", "longest copy", "{:.1f} s", lambda pair: pair.copied_seconds,
          "at {copied-at:.1f} s in the clip, {copied-from:.1f} s in the song", needs="copied"),
    Score("copied-at", "", "{:.1f} s", lambda pair: pair.copied_at),
    Score("copied-from", "copied from", "{:.1f} s", lambda pair: pair.copied_from, needs="copied"),
    Score("loop", "loop", "{:.1f} s", _loop_of_clip,
          "longest passage that repeats; up to the song's is good",
          {"loop": ("song", lambda song: loop(song.mel[:_MAX_FRAMES], song.mean))},
          verdict=_loops_in_words),
    Score("hop-buzz", "hop buzz", "{:.0f} dB",
          lambda pair: hop_buzz(pair.clip.signal, pair.clip.hop_seconds),
          "amplitude modulation at the frame rate",
          {"hop-buzz": ("song", lambda song: hop_buzz(song.signal, song.hop_seconds))}),
    Score("drift", "drift", "{:.2f}", lambda pair: drift(pair.clip, pair.song),
          "timbre of the end over that of the beginning; 1 is steady"),
    Score("treble", "treble", "{:.0f} dB", lambda pair: pair.clip.treble,
          "power above 8 kHz over all power; near the song's is good",
          {"treble": ("song", lambda song: song.treble)}),
    Score("width", "width", "{:.0f} dB", lambda pair: pair.clip.width,
          "stereo width, side over mid; near the song's is good",
          {"width": ("song", lambda song: song.width)}),
)  # fmt: skip


def _known(values):
    return {key: float(value) for key, value in values.items() if not np.isnan(value)}


class Reference:
    """The song that clips are compared with; `baselines` are its own figures, by key."""

    def __init__(self, audio: np.ndarray, sample_rate: int, hop_seconds: float):
        """Audio ``(S,)`` at `sample_rate` Hz; `hop_seconds` is the hop of the network's frames."""
        self._song, self._sample_rate = Features(audio, sample_rate, hop_seconds), sample_rate
        baselines = {key: compute for row in SCORES for key, (_, compute) in row.baselines.items()}
        self.baselines = _known({key: compute(self._song) for key, compute in baselines.items()})

    def score(self, audio: np.ndarray, decided: np.ndarray | None = None) -> dict[str, float]:
        """Scores of a clip ``(S,)`` at the song's sample rate, by key of `SCORES`.

        `decided` ``(S,)`` are the same frames with phases of the reconstruction; see `Comparison`.

        Those that a short clip or song does not have, which are NaN, are left out, as of `baselines`.
        """
        signals = [audio] if decided is None or decided is audio else [audio, decided]
        features = [Features(signal, self._sample_rate, self._song.hop_seconds) for signal in signals]
        pair = Comparison(features[0], self._song, features[-1])
        return _known({row.key: row.compute(pair) for row in SCORES})

    def ranking_key(self, scores: dict[str, float]) -> float:
        """Sort key of takes, lower is better: timbre in units of the song's halves, loops and copies.

        A silent clip has no timbre and comes last.
        """
        own = self.baselines
        halves = _halves(own) if "timbre-halves" in own else 1.0
        return (
            scores.get("timbre", np.inf) / max(halves, 1e-9)
            + max(0.0, scores.get("loop", 0.0) - own["loop"]) / 4  # 4 s weigh as much as the halves
            + max(0.0, scores.get("copied", 0.0) - max(_COPIED_LIMIT, own["copied-halves"]))
        )

    def _texts(self, scores):
        """Rows to show for a clip, each with its value and baselines, e.g. "4.1/s (song 3.5/s)"."""
        for row in SCORES:
            text = row.unit.format
            own = [
                f"{name} {text(self.baselines[key])}"
                for key, (name, _) in row.baselines.items()
                if key in self.baselines
            ]
            if row.key in scores and (not row.needs or scores.get(row.needs)):
                yield row, text(scores[row.key]) + (f" ({', '.join(own)})" if own else "")

    def line(self, scores: dict[str, float]) -> str:
        """A clip's scores with their baselines, for the terminal."""
        return ", ".join(f"{row.label} {text}" for row, text in self._texts(scores) if row.label)

    def hints(self, scores: dict[str, float]) -> list[str]:
        """Settings to change where a clip sounds unlike the song, copies it or loops."""
        return [hint for _, hint in self._verdicts(scores) if hint]

    def summary(self, scores: dict[str, float]) -> str:
        """What a clip is, in plain words: "sounds like the song; new music, 4% copied; no loops"."""
        return "; ".join(words for words, _ in self._verdicts(scores) if words)

    def _verdicts(self, scores):
        return [row.verdict(scores, self.baselines) for row in SCORES]

    def describe(self, scores: dict[str, float]) -> list[tuple[str, str]]:
        """Rows of the report, (label, words): scores with their meaning, then `hints`."""
        known = "timbre-halves" in self.baselines
        ratio = scores.get("timbre", np.inf) / max(self.baselines.get("timbre-halves", 1.0), 1e-9)
        closeness = _CLOSENESS[np.searchsorted([0.9, 1.1], ratio, side="right")]
        words = {**scores, "closeness": _OF_HALVES.format(closeness) if known else ""}
        texts = [(row, text) for row, text in self._texts(scores) if row.meaning]
        rows = [(row.label, f"{text}: {row.meaning.format_map(words)}") for row, text in texts]
        return rows + [("hint", hint) for hint in self.hints(scores)]


def picture(signals: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Log-mel spectrograms, one above the other in the same colors, as an image ``(H, W, 3)`` uint8.

    Low frequencies are at the bottom; 4 pixels per band, 2 per frame, 8 between signals. They reach up to
    7.8 kHz, or what a higher sample rate has.
    """
    rate = max(SAMPLE_RATE, sample_rate)
    mels = [log_mel(signal, sample_rate, rate).T[::-1] for signal in signals]
    low, high = np.percentile(np.concatenate(mels, axis=1), [10, 99.5])
    height, width, gap = 4 * N_MELS, 2 * max(mel.shape[1] for mel in mels), 8
    image = np.full((len(mels) * (height + gap) - gap, width, 3), 255, np.uint8)
    for i, mel in enumerate(mels):
        level = np.clip((mel - low) / max(high - low, 1e-9), 0, 1).repeat(4, axis=0).repeat(2, axis=1)
        colors = [np.interp(level, np.linspace(0, 1, 5), channel) for channel in _COLORMAP]
        image[i * (height + gap) :][:height, : level.shape[1]] = np.stack(colors, axis=-1)
    return image
