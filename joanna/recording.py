"""Recordings of all formats that libsndfile reads, in blocks and to their real end."""

import contextlib
import math
import os
import re
import shlex
import threading
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from joanna.errors import UserError

_BLOCK = 4096  # frames read at a time; a broken end costs at most as many
_HEAD = 65536  # bytes that hold the header of a file
_MAX_FRAMES = 2**35  # libsndfile states more for a file of unknown length
_SIZE_ERROR = 4096  # bytes by which programs err in the size of a file
# in the log of libsndfile: the size that a file states, and the one it has
_SIZES = re.compile(r"(?:RIFF|RIFX|FORM|riff|Riff size|Data Size) *: (\d+) \(should be (\d+)\)")


class Recording:
    """A recording that is open for reading.

    `rate` is in Hz; `seconds` is the length of what the file holds, infinite until its end is reached
    if it states none; `notes` are sentences on what is missing.
    """

    def __init__(self, path: Path, name: str):
        """Open a recording, `name` in messages; UserError if it cannot be read."""
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(path.open("rb"))
            sounds, frames = _open_sounds(file, path, name)
            for sound in sounds:
                closing.callback(sound.close)
            self._closing = closing.pop_all()
        self.rate, self.channels = sounds[0].samplerate, sounds[0].channels
        if any((sound.samplerate, sound.channels) != (self.rate, self.channels) for sound in sounds):
            self._closing.close()
            raise UserError(f"{name}: its rate or its channels change on the way; {_conversion(path)}")
        self.seconds = frames / self.rate if 0 < self.rate and frames < _MAX_FRAMES else math.inf
        self._sounds, self._position, self.notes = sounds, 0, _missing(sounds[0], self.seconds)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    @property
    def ended(self) -> bool:
        """Whether all of it is read."""
        return not self._sounds

    def skip(self, frames: int) -> None:
        """Leave out the first frames, before anything is read."""
        while self._sounds and frames >= self._sounds[0].frames:
            passed = self._sounds.pop(0).frames
            self._position, frames = self._position + passed, frames - passed
        sound = self._sounds[0] if self._sounds else None
        if sound and sound.frames < _MAX_FRAMES and sound.seekable():
            with contextlib.suppress(RuntimeError):  # of libsndfile; reading finds no more
                self._position += sound.seek(frames)
            return
        while self._sounds and frames > 0:
            frames -= len(self._next_block(frames))

    def read(self, count: float) -> np.ndarray:
        """The next `count` frames ``(N, C)`` float32 in -1 to 1; fewer at the end."""
        blocks, end = [np.zeros((0, self.channels), np.float32)], self._position + count
        while self._sounds and self._position < end:
            blocks.append(self._next_block(end - self._position))
        return np.concatenate(blocks)

    def _next_block(self, limit):
        """A block of at most `limit` frames, empty at the end of a sound."""
        try:
            block = self._sounds[0].read(math.ceil(min(limit, _BLOCK)), dtype="float32", always_2d=True)
        except RuntimeError:  # of libsndfile, where a file is cut off or damaged
            block = np.zeros((0, self.channels), np.float32)
        self._position += len(block)
        if not len(block):
            self._sounds.pop(0)
            if not self._sounds:
                self._check_end()
        return block

    def _check_end(self):
        found = self._position / self.rate
        if found < self.seconds - 0.1 and self.seconds < math.inf:
            self.notes.append(f"cut off or damaged: read {found:.1f} of {self.seconds:.1f} s")
        self.seconds = found


def _missing(sound, seconds):
    """A sentence if the file of a sound of `seconds` is shorter than its header states."""
    for stated, found in (map(int, sizes) for sizes in _SIZES.findall(sound.extra_info)):
        # a program that writes to a pipe states about 2 GiB or 4 GiB
        piped = abs(stated - 2**31) < 2**16 or stated > 2**32 - 2**16
        if stated - found > _SIZE_ERROR and not piped:
            return [f"cut off: holds {seconds:.1f} of {seconds * stated / found:.1f} s"]
    return []


def _conversion(path):
    """Advice for a file that cannot be read."""
    wav = Path(path.name).with_suffix(".converted.wav" if path.suffix == ".wav" else ".wav")
    return f"convert it to wav, for example: ffmpeg -i {shlex.quote(path.name)} {shlex.quote(str(wav))}"


def _open_sounds(file, path, name) -> tuple[list[Any], int]:
    """The sounds of a file in a row, one or of a chained ogg several, and the frames that it states."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its libsndfile is missing
        try:
            wav = _PlainWav(file)
            return [wav], wav.frames
        except Exception:  # scipy raises exceptions of many types
            raise UserError(
                f"{name}: not a PCM or float wav, and soundfile, which reads other formats, cannot be "
                f"loaded ({error}); install it, or {_conversion(path)}"
            ) from None
    head, size = file.read(_HEAD), path.stat().st_size
    links = _ogg_links(file, size) if head[:4] == b"OggS" else [_Bytes(file, 0, size, _with_length(head))]
    start, frame, frames = _first_mp3_frame(file, size)
    is_mp3 = re.match(b"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", frame)  # MPEG 2.5, 2 or 1, layer III
    try:
        sounds = [] if is_mp3 else [soundfile.SoundFile(link) for link in links]
        if is_mp3 or sounds[0].format == "MP3":  # it may begin with the rest of a frame
            sounds = [soundfile.SoundFile(_pipe(_Bytes(file, start, size, frame)))]
        else:
            frames = sum(sound.frames for sound in sounds)
    except (RuntimeError, ValueError, TypeError) as error:  # LibsndfileError is a RuntimeError
        reason = getattr(error, "error_string", error)
        raise UserError(f"{name}: not a readable recording ({reason}); {_conversion(path)}") from None
    return sounds, frames


class _Bytes:
    """Bytes `start` to `stop` of a file as a file, with `head` in place of the first ones."""

    def __init__(self, file: BinaryIO, start: int, stop: int, head: bytes = b""):
        self._file, self._start, self._size, self._head = file, start, stop - start, head
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        count = min(count, max(0, self._size - self._position))
        data = self._head[self._position :][:count]
        self._file.seek(self._start + self._position + len(data))
        data += self._file.read(count - len(data))
        self._position += len(data)
        return data


def _ogg_links(file, size):
    """The streams of a chained ogg (RFC 3533), of which libsndfile reads the first alone."""
    starts, position, was_first = [0], 0, True
    while True:
        file.seek(position)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            break
        is_first = bool(header[5] & 2)  # page of a stream; multiplexed streams have theirs in a row
        if is_first and not was_first:
            starts.append(position)
        position, was_first = position + 27 + header[26] + sum(file.read(header[26])), is_first
    return [_Bytes(file, *link) for link in pairwise([*starts, size])]


def _with_length(head):
    """The head of a file, with a length where it states none, as libsndfile would read nothing."""
    if head[:4] == b"fLaC" and len(head) > 26 and not int.from_bytes(head[21:26], "big") & (2**36 - 1):
        return head[:21] + bytes([head[21] | 15]) + b"\xff" * 4 + head[26:]
    if head[:4] in (b"RIFF", b"RIFX"):  # of a program that was stopped while it recorded
        return head.replace(b"data" + bytes(4), b"data" + b"\xff" * 4, 1)
    return head


def _first_mp3_frame(file, size):
    """Position and first bytes of an mp3 after its tags, and the frames that it states, if for all of it.

    The bytes state no length, which would end the reading of joined files.
    """
    position = 0
    while True:
        file.seek(position)
        head, length = file.read(4096), 0
        if head[:3] != b"ID3":
            break
        for byte in head[6:10]:  # its size, 7 bits in each
            length = 128 * length + byte
        position += 10 + length
    frames, tag = _MAX_FRAMES, re.search(b"(?:Xing|Info)...(.)(....)(....)", head, re.DOTALL)
    if tag and tag[1][0] & 3 == 3 and int.from_bytes(tag[3], "big") > size - position - _SIZE_ERROR:
        frames = int.from_bytes(tag[2], "big") * (1152 if head[1] & 8 else 576)
    return position, head.replace(b"Xing", b"____").replace(b"Info", b"____"), frames


def _pipe(file):
    """A descriptor that a file can be read from but not searched.

    Of such an mp3 libsndfile reads all. Of another one it reads as much as it estimates from the first
    frames, and soundfile seeks after each block, which damages the sound.
    """
    reader, writer = os.pipe()

    def feed():
        with contextlib.suppress(OSError, ValueError), open(writer, "wb") as pipe:  # it may be closed
            while data := file.read(_HEAD):
                pipe.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return reader


class _PlainWav:
    """A PCM or float wav read by scipy, with the methods of soundfile's SoundFile."""

    format, extra_info = "WAV", ""

    def __init__(self, file: BinaryIO):
        from scipy.io import wavfile

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # on chunks it does not know
            self.samplerate, samples = wavfile.read(file)
        samples = samples.reshape(len(samples), -1)
        if samples.dtype == np.uint8:
            samples = (samples - 128.0) / 128
        elif np.issubdtype(samples.dtype, np.integer):
            samples = samples / -float(np.iinfo(samples.dtype).min)
        self._samples, self._position = samples.astype(np.float32), 0
        self.frames, self.channels = samples.shape

    def seekable(self) -> bool:
        return True

    def seek(self, frames: int) -> int:
        self._position = frames
        return frames

    def read(self, count: int, **options: object) -> np.ndarray:
        block = self._samples[self._position :][:count]
        self._position += len(block)
        return block

    def close(self) -> None:
        pass
