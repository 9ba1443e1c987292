"""Audio files: load as mono, resample, match loudness, save; the metadata of clips."""

import io
import json
import re
import shlex
import warnings
from pathlib import Path

import numpy as np

from joanna.errors import UserError

SILENCE = 1e-4  # peak of silent audio, of full scale: -80 dB
_STREAM_SIZE = 2**32 - 1  # size in the header of a wav that was written to a pipe
_SILENT_LEVEL = 1e-3  # of the loudest part: -60 dB, as librosa.effects.trim
_PART = 2048  # samples whose level counts as one in `loudness`
_MAX_AMPLITUDE = 2.0**32  # of full scale; some programs write floats in the range of integers
_RATES = 1000, 768000  # lowest and highest sample rate of a recording, Hz
_MIN_PEAK = 0.01  # of full scale; quieter audio would lose much to the 16 bits of the clips
_MIN_MIX_POWER = 0.01  # relative to uncorrelated channels; with less, the channels cancel each other
PLAIN_NAME = r"\w[\w. -]{0,99}"  # of a file or folder; cannot lead elsewhere


def load_audio(path: Path, sample_rate: int, setting: str = "source") -> tuple[np.ndarray, list[str]]:
    """Load a recording as mono audio.

    Args:
        path: PCM (8, 16, 24, 32 bit) or float wav with any rate and number of channels; with the
            optional package soundfile also flac, ogg, mp3 and other formats of libsndfile.
        sample_rate: sample rate of the result, Hz.
        setting: setting that holds the path, for messages.

    Returns:
        Audio ``(S,)`` float32 in -1 to 1, and sentences on the conversions made.

    Raises:
        UserError: the file is missing, unreadable, truncated, empty or silent, or contains NaN or Inf.
    """
    if not path.is_file():
        raise UserError(f"{setting} {path}: no such file; put a recording there or set '{setting}'")
    data, name = path.read_bytes(), f"{setting} {path}"
    read = _read_wav if data[:4] in (b"RIFF", b"RIFX", b"RF64") else _read_with_soundfile
    samples, rate = read(data, name)
    del data  # half a gigabyte per hour
    if samples.size == 0:
        raise UserError(f"{name}: contains no samples; choose another recording")
    lowest, highest = _RATES
    if not lowest <= rate <= highest:
        raise UserError(f"{name}: sample rate {rate} Hz; expected {lowest} to {highest} Hz: export it again")
    audio, notes = _mix_down(samples)
    del samples
    if not (np.abs(audio) < _MAX_AMPLITUDE).all():
        raise UserError(f"{name}: contains NaN, Inf or values far beyond full scale; export it again")
    if rate != sample_rate:
        audio = resample(audio, rate, sample_rate)
        notes.append(f"resampled from {rate} Hz to {sample_rate} Hz")
    peak = np.abs(audio).max()
    if peak < SILENCE:
        raise UserError(f"{name}: silent (peak below -80 dB); choose another recording")
    if not _MIN_PEAK < peak <= 1:
        audio = audio * (0.99 / peak)
        notes.append(f"peak scaled from {peak:.3g} to 0.99 of full scale")
    return audio.astype(np.float32), notes


def _mix_down(samples):
    """Mono audio ``(S,)`` float64 in -1 to 1 from samples ``(S,)`` or ``(S, C)`` of any type; notes."""
    scale, offset = 1.0, 0.0
    if samples.dtype == np.uint8:
        scale, offset = 128.0, 128.0
    elif np.issubdtype(samples.dtype, np.integer):
        scale = -float(np.iinfo(samples.dtype).min)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are refused later
        if samples.ndim == 1 or samples.shape[1] == 1:
            return (samples.reshape(-1).astype(np.float64) - offset) / scale, []
        audio = (samples.mean(axis=1, dtype=np.float64) - offset) / scale
        count = samples.shape[1]
        powers = [np.mean(np.square((samples[:, index] - offset) / scale)) for index in range(count)]
        if np.mean(np.square(audio)) < _MIN_MIX_POWER * sum(powers) / count**2:
            loudest = int(np.argmax(powers))
            note = f"the channels cancel each other: used channel {loudest + 1} of {count} only"
            return (samples[:, loudest] - offset) / scale, [note]
    return audio, [f"mixed {count} channels down to mono"]


def _read_wav(data, name):
    """Samples ``(S,)`` or ``(S, C)`` in their stored type, and the sample rate, of a wav's bytes."""
    from scipy.io import wavfile

    declared = int.from_bytes(data[4:8], "little")
    if data[:4] == b"RIFF" and declared == _STREAM_SIZE:
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    elif data[:4] == b"RIFF" and declared + 8 > len(data):
        raise UserError(
            f"{name}: truncated wav, {len(data)} of {declared + 8} bytes; copy or export it again"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Reached EOF")
            warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # scipy raises exceptions of many types on broken files
        reason = f" ({error})" if type(error) is ValueError else ""
        raise UserError(
            f"{name}: not a readable wav file{reason}; expected a complete PCM or float wav"
        ) from None
    return samples, rate


def _read_with_soundfile(data, name):
    """Samples ``(S, C)`` float32 and the sample rate of a recording's bytes, in any format but wav."""
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


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Audio ``(S,)`` at `rate` Hz -> ``(ceil(S * target_rate / rate),)`` at `target_rate` Hz."""
    from scipy.signal import resample_poly  # takes half a second to import

    divisor = np.gcd(rate, target_rate)
    return resample_poly(audio, target_rate // divisor, rate // divisor)


def rms(audio: np.ndarray) -> float:
    """Root mean square of audio ``(S,)``."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def sounding(frames: np.ndarray) -> np.ndarray:
    """Which frames ``(M, F)`` of samples have sound ``(M,)``: all but those 60 dB below the loudest.

    Those are digital silence, dither and the ends of fades. The noise of an old recording is 30 to 40 dB
    below the loudest frame.
    """
    power = np.einsum("ij,ij->i", frames, frames)
    return power >= _SILENT_LEVEL**2 * power.max()


def loudness(audio: np.ndarray) -> float:
    """Root mean square of those parts of audio ``(S,)`` that have sound."""
    parts = np.pad(audio, (0, -len(audio) % _PART)).reshape(-1, _PART)
    return rms(audio[np.repeat(sounding(parts), _PART)[: len(audio)]])


def match_loudness(audio: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale audio ``(S,)`` to the loudness of the reference, or to a peak of 0.99 if it would clip.

    Silence is returned unchanged.
    """
    own = loudness(audio)
    if not own:
        return audio
    return audio * min(loudness(reference) / own, 0.99 / np.abs(audio).max())


def wav_bytes(audio: np.ndarray, sample_rate: int, comment: str = "") -> bytes:
    """Encode audio ``(S,)``, clipped to -1 to 1, as a 16-bit PCM wav with a comment, if any (ICMT)."""
    from scipy.io import wavfile

    file = io.BytesIO()
    wavfile.write(file, sample_rate, np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))
    data = file.getvalue()
    if comment:
        text = comment.encode() + b"\0"
        text += b"\0" * (len(text) % 2)
        info = b"INFOICMT" + len(text).to_bytes(4, "little") + text
        data += b"LIST" + len(info).to_bytes(4, "little") + info
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    return data


def read_comment(path: Path) -> str:
    """Comment of a wav that `wav_bytes` encoded, or an empty string."""
    data, position = path.read_bytes(), 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        content = data[position + 8 : position + 8 + size]
        if data[position : position + 4] == b"LIST" and content[:8] == b"INFOICMT":
            return content[12:].rstrip(b"\0").decode(errors="replace")
        position += 8 + size + size % 2
    return ""


def read_clip_metadata(path: str) -> dict:
    """Read the metadata that generate.py writes into its clips.

    Returns:
        settings, with the random-seed of the training; random-seed of the generation; weights, their
        digests; seed, the digest of the seed-source or None; name and take of the clip.

    Raises:
        UserError: the file is missing or is not such a clip.
    """
    types = {"settings": dict, "random-seed": int, "weights": list, "name": str, "take": int, "seed": object}
    try:
        metadata = json.loads(read_comment(Path(path)))
        fits = all(isinstance(metadata[key], kind) for key, kind in types.items())
        if fits and re.fullmatch(PLAIN_NAME, metadata["name"]):
            return metadata
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected a clip that generate.py wrote. "
            "To learn from a recording: source=PATH"
        ) from None
    except (ValueError, TypeError, KeyError, RecursionError):  # no JSON, or another structure
        pass
    raise UserError(
        f"{path}: holds no metadata of a clip; expected a clip that generate.py wrote. "
        f"To learn from it: source={shlex.quote(path)}"
    )
