"""Audio in and out, STFT and back. numpy and scipy only."""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy.io import wavfile
from scipy.signal import ShortTimeFFT, resample_poly
from scipy.signal.windows import hann

from joanna.errors import UserError

_STREAMED = 2**32 - 1  # the size in the header of a wav that was written to a pipe
_LOUDEST = 2.0**32  # times full scale; some programs write floats as large as integers
_RATES = 1000, 768000  # Hz of a recording
_QUIET = 0.01  # of full scale; what peaks below would lose much to the 16 bits of the clips
_CANCELLED = 0.01  # share of the power of unlike channels' mix; one that keeps less has cancelled them


def load_audio(path: Path, sample_rate: int, setting: str = "source") -> tuple[np.ndarray, list[str]]:
    """Read a recording as mono at `sample_rate`.

    Args:
        path: PCM (8, 16, 24, 32 bit) or float wav, any rate, any number of channels; with the optional
            package soundfile also flac, ogg, mp3 and whatever else libsndfile reads.
        sample_rate: Hz wanted.
        setting: the setting that names the path, for the messages.

    Returns:
        audio ``(S,)`` float32, full scale -1 to 1, and sentences on what was changed.

    Raises:
        UserError: no file, not readable, truncated, no samples, NaN or Inf, silence.
    """
    if not path.is_file():
        raise UserError(f"{setting} {path}: no such file; put a recording there or set '{setting}'")
    data = path.read_bytes()
    name = f"{setting} {path}"
    if data[:4] in (b"RIFF", b"RIFX", b"RF64"):
        samples, rate = _read_wav(data, name)
    else:
        samples, rate = _read_other(data, name)
    del data  # of an hour it is half a gigabyte
    if samples.size == 0:
        raise UserError(f"{name}: holds no samples; choose another recording")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(
            f"{name}: its rate is {rate} Hz; expected {_RATES[0]} to {_RATES[1]}: export it again"
        )
    audio, notes = _mixed_down(samples)
    del samples
    if not (np.abs(audio) < _LOUDEST).all():
        raise UserError(f"{name}: holds NaN, Inf or absurdly loud samples; export it again")
    if rate != sample_rate:
        audio = resample(audio, rate, sample_rate)
        notes.append(f"resampled from {rate} Hz to {sample_rate} Hz")
    peak = np.abs(audio).max()
    if peak < 1e-4:
        raise UserError(f"{name}: all silence (below -80 dB); choose another recording")
    if not _QUIET < peak <= 1:
        audio = audio * (0.99 / peak)
        notes.append(f"peak brought from {peak:.3g} to 0.99 of full scale")
    return audio.astype(np.float32), notes


def _mixed_down(samples):
    """Samples ``(S,)`` or ``(S, channels)`` of any type -> mono ``(S,)`` float64, full scale -1 to 1."""
    full, middle = 1.0, 0.0
    if samples.dtype == np.uint8:
        full, middle = 128.0, 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        full = -float(np.iinfo(samples.dtype).min)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are refused later
        if samples.ndim == 1 or samples.shape[1] == 1:
            return (samples.reshape(-1).astype(np.float64) - middle) / full, []
        audio = (samples.mean(axis=1, dtype=np.float64) - middle) / full
        channels = range(samples.shape[1])
        power = [np.mean(np.square((samples[:, at] - middle) / full)) for at in channels]
        if np.mean(np.square(audio)) < _CANCELLED * sum(power) / len(power) ** 2:
            first = int(np.argmax(power))
            note = f"the channels cancel each other: took channel {first + 1} of {len(power)} alone"
            return (samples[:, first] - middle) / full, [note]
    return audio, [f"mixed {len(power)} channels down to one"]


def _read_wav(data, name):
    """Samples ``(S,)`` or ``(S, channels)`` as they are stored and rate of a wav's bytes."""
    declared = int.from_bytes(data[4:8], "little")
    if data[:4] == b"RIFF" and declared == _STREAMED:
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    elif data[:4] == b"RIFF" and declared + 8 > len(data):
        raise UserError(
            f"{name}: truncated wav, {len(data)} of {declared + 8} bytes are there; "
            "copy or export it again"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Reached EOF")
            warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # scipy's reader raises many kinds on broken files
        reason = f" ({error})" if type(error) is ValueError else ""
        raise UserError(
            f"{name}: not a readable wav file{reason}; expected a whole PCM or float wav"
        ) from None
    return samples, rate


def _read_other(data, name):
    """Samples ``(S, channels)`` float32 and rate of a file's bytes that are no wav's."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its libsndfile is missing
        raise UserError(
            f"{name}: not a wav; to read flac, ogg, mp3 and others: "
            ".venv/bin/python -m pip install -r requirements-audio.txt"
        ) from None
    try:
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (RuntimeError, ValueError, TypeError) as error:  # LibsndfileError is a RuntimeError
        reason = getattr(error, "error_string", error)
        raise UserError(
            f"{name}: not a readable recording ({reason}); convert it to wav, with ffmpeg for example"
        ) from None


def resample(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Audio ``(S,)`` at `rate` Hz -> ``(ceil(S * wanted / rate),)`` at `wanted` Hz."""
    divisor = np.gcd(rate, wanted)
    return resample_poly(audio, wanted // divisor, rate // divisor)


def rms(audio: np.ndarray) -> float:
    """Root mean square of audio ``(S,)``."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def level(audio: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Audio ``(S,)`` as loud as the source, or as it can be without clipping; silence stays."""
    loudness = rms(audio)
    if not loudness:
        return audio
    return audio * min(rms(source) / loudness, 0.99 / np.abs(audio).max())


def save_audio(path: Path | BinaryIO, audio: np.ndarray, sample_rate: int, comment: str = "") -> None:
    """Write audio ``(S,)`` in -1 to 1 as 16-bit PCM wav at `sample_rate` Hz, with a comment if any."""
    samples = np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)
    file = io.BytesIO()
    wavfile.write(file, sample_rate, samples)
    if comment:
        text = comment.encode() + b"\0"
        text += b"\0" * (len(text) % 2)
        file.seek(0, io.SEEK_END)
        info = b"INFOICMT" + len(text).to_bytes(4, "little") + text
        file.write(b"LIST" + len(info).to_bytes(4, "little") + info)
        size = file.tell() - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))
    if hasattr(path, "write"):
        path.write(file.getvalue())
    else:
        Path(path).write_bytes(file.getvalue())


def read_comment(path: Path) -> str:
    """The comment of a wav that `save_audio` wrote; empty if there is none.

    Raises:
        OSError: it cannot be read.
    """
    data, place = path.read_bytes(), 12
    while data[:4] == b"RIFF" and place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        content = data[place + 8 : place + 8 + size]
        if name == b"LIST" and content[:8] == b"INFOICMT":
            return content[12:].rstrip(b"\0").decode(errors="replace")
        place += 8 + size + size % 2
    return ""


def transform(frame_length: int, overlap: int) -> ShortTimeFFT:
    """Two-sided STFT with a square-root Hann window.

    At overlap 2 the window is its own dual (Griffin and Lim 1984): unchanged frames come back
    exactly, changed ones join without clicks. It can be inverted at any overlap of 2 or more.
    """
    window = np.sqrt(hann(frame_length, sym=False))
    return ShortTimeFFT(window, frame_length // overlap, fs=1, fft_mode="twosided")


def stft(audio: np.ndarray, frame_length: int, overlap: int) -> np.ndarray:
    """Spectra ``(M, F)`` complex128 of all frames wholly inside audio ``(S,)``; F = frame_length."""
    hop = frame_length // overlap
    if len(audio) < frame_length:
        raise UserError(f"{len(audio)} samples given; a frame alone takes {frame_length}")
    window = transform(frame_length, overlap).win
    frames = np.lib.stride_tricks.sliding_window_view(audio, frame_length)[::hop]
    return np.fft.fft(frames * window)


def istft(spectra: np.ndarray, overlap: int) -> np.ndarray:
    """Audio ``((M - 1) * hop + F,)`` float64 of spectra ``(M, F)``; inverse of `stft`.

    The first and last F - hop samples have fewer frames than the rest and fade.
    """
    count, frame_length = spectra.shape
    sft = transform(frame_length, overlap)
    hop = sft.hop
    frames = np.fft.ifft(spectra).real * sft.dual_win.real
    audio = np.zeros((count - 1) * hop + frame_length)
    for index, frame in enumerate(frames):
        audio[index * hop : index * hop + frame_length] += frame
    return audio
