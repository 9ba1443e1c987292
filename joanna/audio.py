"""Audio files: load as mono or stereo, resample, match loudness, save; the metadata of clips.

Audio is ``(S,)``, or in stereo ``(S, 2)``, left and right.
"""

import io
import json
import math
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from joanna.errors import UserError
from joanna.recording import Recording

SILENCE = 1e-4  # peak of silent audio, of full scale: -80 dB
_SILENT_LEVEL = 1e-3  # of the loudest part: -60 dB, as librosa.effects.trim
_LEVEL_SECONDS, _MIN_SILENCE = 0.02, 0.1  # of the parts compared; of what is trimmed at least
_PART = 2048  # samples whose level counts as one in `loudness`
_BLOCK = 2**24  # samples computed in float64 at a time: all of an hour would take gigabytes
_FILTER = 10  # samples of the lower rate that the filter of `resample_poly` reaches at either side
_MAX_AMPLITUDE = 2.0**32  # of full scale; some programs write floats in the range of integers
_RATES = 1000, 768000  # lowest and highest sample rate of a recording, Hz
_MIN_PEAK = 0.01  # of full scale; quieter audio would lose much to the 16 bits of the clips
_MIN_MIX_POWER = 0.1  # relative to uncorrelated channels; with less, the channels cancel each other
_SILENT_CHANNEL = 1e-4  # of the power of the loudest: -40 dB
_OFFSET = 0.01  # of the audio's RMS; less comes from where it is cut
# endings of the recordings in a folder, and of those that only ffmpeg reads
SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
FFMPEG_SUFFIXES = set(".m4a .m4b .aac .wma .mp4 .mov .mkv .webm .ape .wv .amr .ac3".split())
PLAIN_NAME = r"\w[\w. -]{0,99}"  # of a file or folder; cannot lead elsewhere


def title(path: str) -> str:
    """Name of a recording without its ending, or of a folder, whose name may have dots."""
    suffixes = SUFFIXES | FFMPEG_SUFFIXES
    return Path(path).stem if Path(path).suffix.lower() in suffixes else Path(path).name


class Loaded(NamedTuple):
    """Audio of a recording."""

    audio: np.ndarray  # (S,) or (S, 2) float32 in -1 to 1
    notes: list[str]  # sentences on what was changed, left out or missing
    seconds: float  # length of the recording
    silence: float  # seconds of it that are left out, after `start`


def load_audio(
    path: Path,
    sample_rate: int,
    setting: str = "source",
    start: float = 0.0,
    limit: float = math.inf,
    stereo: bool = False,
) -> Loaded:
    """Load a recording without the silence at its beginning and end; empty if it ends before `start`.

    Args:
        path: a recording of any rate and number of channels in a format that libsndfile or ffmpeg reads.
        sample_rate: sample rate of the result, Hz.
        setting: setting that holds the path, for messages.
        start: seconds left out at the beginning.
        limit: most samples of the result; no more is read.
        stereo: whether the result has two channels; those of a mono recording are equal.

    Raises:
        UserError: the file is missing, unreadable, empty or silent, or contains NaN or Inf.
    """
    name = f"{setting} {path}"
    if not path.is_file():
        raise UserError(f"{name}: no such file; put a recording there or set '{setting}'")
    with Recording(path, name) as recording:
        return load_recording(recording, name, sample_rate, start, limit, stereo)


def load_recording(
    recording: Recording,
    name: str,
    sample_rate: int,
    start: float = 0.0,
    limit: float = math.inf,
    stereo: bool = False,
) -> Loaded:
    """Load a recording that is open, `name` in messages; see `load_audio`."""
    rate, (lowest, highest) = recording.rate, _RATES
    if not lowest <= rate <= highest:
        raise UserError(f"{name}: sample rate {rate} Hz; expected {lowest} to {highest} Hz: export it again")
    recording.skip(round(start * rate))
    # with more at the end, for the resampler
    samples, silence = _read_sound(recording, limit * rate / sample_rate + rate // 10)
    notes, seconds = list(recording.notes), recording.seconds
    if silent := [f"{length:.1f} s at the {end}" for end, length in silence.items() if length]:
        notes.append(f"left out silence: {', '.join(silent)}")
    if not seconds:
        raise UserError(f"{name}: contains no samples; choose another recording")
    if start >= seconds:
        return Loaded(np.zeros(0, np.float32), notes, seconds, 0.0)
    audio, changes = _two_channels(samples) if stereo else _mix_down(samples)
    del samples
    if not _peak(audio) < _MAX_AMPLITUDE:  # nor is NaN
        raise UserError(f"{name}: contains NaN, Inf or values far beyond full scale; export it again")
    changes += _remove_offsets(audio, rate)
    if rate != sample_rate:
        audio = resample(audio, rate, sample_rate)
        missing = f"; it has nothing above {rate / 2:g} Hz" if rate < sample_rate else ""
        changes.append(f"resampled from {rate} Hz to {sample_rate} Hz{missing}")
    audio = audio[: int(min(limit, len(audio)))]
    peak = _peak(audio)
    if peak < SILENCE:
        part, remedy = (f" from start {start:g} on", "lower start, or ") if start else ("", "")
        raise UserError(f"{name}: silent{part} (peak below -80 dB); {remedy}choose another recording")
    if not _MIN_PEAK < peak <= 1:
        audio = audio * (0.99 / peak)
        changes.append(f"peak scaled from {peak:.3g} to 0.99 of full scale")
    return Loaded(audio, notes + changes, seconds, sum(silence.values()))


def _read_sound(recording, count):
    """The next `count` frames ``(N, C)`` without the silence around them; its seconds at either end.

    More is read for what is left out at the beginning, and to see whether silence at the end is a pause.
    Of a recording that keeps its silence nothing is left out.
    """
    rate, before, after = recording.rate, 0, 0
    samples = recording.read(count)
    if recording.keeps_silence:
        return samples, {}
    while silent := _leading_silence(samples, rate):
        before += silent
        samples = np.concatenate([samples[silent:], recording.read(silent)])
    if silent := _leading_silence(samples[::-1], rate):
        more, read = recording.read(10 * rate), 0
        while len(more) and _leading_silence(more, rate) == len(more):
            read += len(more)
            more = recording.read(10 * rate)
        if not len(more):
            after, samples = silent + read, samples[: len(samples) - silent]
    return samples, {"beginning": before / rate, "end": after / rate}


def _silent_parts(samples, rate):
    """Frames in each part of 20 ms of samples ``(S, C)``, and which of the parts are silent ``(K,)``."""
    size = round(_LEVEL_SECONDS * rate)
    parts = samples[: len(samples) // size * size].reshape(-1, size, samples.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are refused later
        levels = parts.std(axis=1).max(axis=1)  # around the mean: a constant is no sound
        loudest = levels.max(initial=0)
        if not np.isfinite(loudest):
            return size, np.zeros(len(levels), bool)
        return size, levels <= (np.inf if loudest < SILENCE / 2 else _SILENT_LEVEL * loudest)


def _leading_silence(samples, rate):
    """Frames of samples ``(S, C)`` before the first sound; 0 if it is less than 0.1 s."""
    size, silent = _silent_parts(samples, rate)
    if silent.all():
        return len(samples) if len(silent) else 0
    frames = size * int(np.argmin(silent))
    return frames if frames >= _MIN_SILENCE * rate else 0


def _remove_offsets(audio, rate):
    """Subtract from each channel of audio the mean of its sound, where it is audible; sentences on it."""
    offsets = [_remove_offset(channel, rate) for channel in np.atleast_2d(audio.T)]
    shown = [f"{offset:.2g}" for offset in offsets if offset]
    return [f"removed a constant offset of {' and '.join(dict.fromkeys(shown))} of full scale"][: len(shown)]


def _remove_offset(audio, rate):
    """The offset of audio ``(S,)`` that is removed, 0 if it is not audible."""
    size, silent = _silent_parts(audio[:, None], rate)
    parts = audio[: len(silent) * size].reshape(-1, size)
    heard = audio if silent.all() else parts[~silent]
    offset = float(heard.mean(dtype=np.float64)) if len(audio) else 0.0
    if abs(offset) <= _OFFSET * np.sqrt(_variance(audio)):
        return 0.0
    audio[len(parts) * size :] -= offset
    parts -= np.where(silent, parts.mean(axis=1), offset)[:, None]  # a pause may be without the offset
    return offset


@np.errstate(invalid="ignore", over="ignore")  # NaN and Inf are refused later
def _two_channels(samples):
    """Stereo audio ``(S, 2)`` float32 of samples ``(S, C)``, and sentences on the channels."""
    if not len(samples):
        return np.zeros((0, 2), np.float32), []
    count = samples.shape[1]
    used = _with_sound(_powers(samples))[:2] if count > 2 else np.arange(count)
    audio = samples if count == 2 else np.repeat(samples[:, used], 3 - len(used), axis=1)
    names = f"channel{'s' * (len(used) > 1)} {' and '.join(map(str, used + 1))}"
    notes = [f"used {names} of {count}"] if count > 2 else []
    if len(used) == 1:
        notes.append("mono, so both channels are equal")
    elif _cancel(audio.mean(axis=1), _powers(audio)):
        audio[:, 1] *= -1
        notes.append("the channels cancel each other: inverted one of them")
    return audio, notes


def _mix_down(samples):
    """Mono audio ``(S,)`` float32 of samples ``(S, C)``, and sentences on the channels."""
    count = samples.shape[1]
    if count == 1 or not len(samples):
        return samples[:, 0], []
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are refused later
        powers = _powers(samples)
        used = _with_sound(powers)
        audio = samples[:, used].mean(axis=1)
        cancelled = _cancel(audio, powers[used])
    if cancelled:
        used = np.array([powers.argmax()])
        audio = samples[:, used[0]].copy()
    reason = "the channels cancel each other: " if cancelled else ""
    silent = "" if cancelled or len(used) == count else "; the others are silent"
    if len(used) == 1:
        return audio, [f"{reason}used channel {used[0] + 1} of {count}{silent}"]
    of = f" of {count}" if silent else ""
    return audio, [f"mixed {len(used)}{of} channels down to mono{silent}"]


def _peak(audio):
    return max(audio.max(initial=0), -audio.min(initial=0))


def _variance(audio):
    """Variance of audio ``(S,)``, in float64."""
    mean = audio.mean(dtype=np.float64) if len(audio) else 0.0
    parts = (audio[start : start + _BLOCK] for start in range(0, len(audio), _BLOCK))
    return sum(np.square(part - mean, dtype=np.float64).sum() for part in parts) / max(1, len(audio))


def _powers(samples):
    return np.array([_variance(channel) for channel in samples.T])


def _with_sound(powers):
    """Indices of the channels that have sound, or of all; `powers` are those of each."""
    used = np.flatnonzero(~(powers <= _SILENT_CHANNEL * powers.max()))
    return used if len(used) else np.arange(len(powers))


def _cancel(mix, powers):
    """Whether the channels cancel each other in their mix."""
    return _variance(mix) < _MIN_MIX_POWER * powers.sum() / len(powers) ** 2


def resample(audio: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Audio ``(S, ...)`` at `rate` Hz -> ``(ceil(S * target_rate / rate), ...)`` at `target_rate` Hz."""
    from scipy.signal import resample_poly  # takes half a second to import

    divisor = np.gcd(rate, target_rate)
    up, down = target_rate // divisor, rate // divisor
    step = _BLOCK // down * down
    around = -(-_FILTER * max(up, down) // (up * down)) * down
    resampled = np.empty((-(-len(audio) * up // down), *audio.shape[1:]), audio.dtype)
    for start in range(0, len(audio), step):
        first, stop = max(0, start - around), min(len(audio), start + step)
        part = resample_poly(audio[first : stop + around].astype(np.float64), up, down)
        target = resampled[start // down * up : -(-stop * up // down)]
        target[:] = part[(start - first) // down * up :][: len(target)]
    return resampled


def mid(audio: np.ndarray) -> np.ndarray:
    """Mono audio ``(S,)``: the mean of the channels."""
    return audio if audio.ndim == 1 else audio.mean(axis=1)


def rms(audio: np.ndarray, counted: np.ndarray | None = None) -> float:
    """Root mean square of audio ``(S,)``, or of those of its samples that are `counted` ``(S,)``."""
    total = 0.0
    for start in range(0, len(audio), _BLOCK):
        part = audio[start : start + _BLOCK]
        part = part if counted is None else part[counted[start : start + _BLOCK]]
        total += np.square(part, dtype=np.float64).sum()
    return float(np.sqrt(total / (audio.size if counted is None else np.count_nonzero(counted))))


def sounding(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Which frames of samples have sound ``(M,)``: all but those 60 dB below the loudest.

    `blocks` ``(N, F)`` hold the frames. Those without sound are digital silence, dither and the ends of
    fades. The noise of an old recording is 30 to 40 dB below the loudest frame.
    """
    rows = (frames.reshape(len(frames), -1) for frames in blocks if len(frames))
    power = np.concatenate([np.einsum("ij,ij->i", frames, frames) for frames in rows])
    return power >= _SILENT_LEVEL**2 * power.max()


def loudness(audio: np.ndarray) -> float:
    """Root mean square of those parts of audio ``(S,)`` that have sound."""
    audio = audio.ravel()
    whole = len(audio) // _PART * _PART
    last = np.pad(audio[whole:], (0, _PART + whole - len(audio)))
    counted = np.repeat(sounding(part.reshape(-1, _PART) for part in (audio[:whole], last)), _PART)
    return rms(audio, counted[: len(audio)])


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
        digests; seed, the digest of the seed-source or None; name and take of the clip; together, the methods
        and sequence lengths generated with it, which clips of earlier versions lack.

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
