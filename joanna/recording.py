"""Recordings of all formats that libsndfile and ffmpeg read, in blocks and to their real end."""

import contextlib
import math
import os
import re
import shlex
import struct
import subprocess
import threading
import warnings
from collections.abc import Callable
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from joanna.errors import UserError

_BLOCK = 4096  # frames read at a time; a broken end costs at most as many
_JOINED = 256  # blocks in one array: the memory of blocks is given back only when all are freed
_HEAD = 65536  # bytes that hold the header of a file
_MAX_FRAMES = 2**35  # libsndfile states more for a file of unknown length
# kbit/s of layer III by their number, of MPEG 2 and of MPEG 1
_KILOBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
# first bytes of files in which a frame of an mp3 is chance; the last ones are of mp4, mkv, wma and aac
_OTHER_FORMATS = (
    b"RIF[FX]|RF64|riff|FORM|caff|fLaC|OggS|\\.snd|....ftyp|\x1aE\xdf\xa3|0&\xb2u|\xff[\xf0\xf1\xf8\xf9]"
)
_SIZE_ERROR = 4096  # bytes by which programs err in the size of a file
# in the log of libsndfile: the size that a file states, and the one it has
_SIZES = re.compile(r"(?:RIFF|RIFX|FORM|riff|Riff size|Data Size) *: (\d+) \(should be (\d+)\)")


class Recording:
    """A recording that is open for reading.

    `rate` is in Hz; `seconds` is the length of what the file holds, infinite until its end is reached
    if it states none; `notes` are sentences on what is missing.
    """

    keeps_silence = False  # at its ends, when it is loaded

    def __init__(self, path: Path, name: str):
        """Open a recording, `name` in messages; UserError if it cannot be read."""
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(path.open("rb"))
            opened = _open_sounds(file, path, name)
            for close in (opened.close, *(sound.close for sound in opened.sounds)):
                closing.callback(close)
            self._closing = closing.pop_all()
        self._sounds, self._frames = opened.sounds, opened.frames
        self._unread, self._failure = opened.unread, opened.failure
        first, self._path, self._position, self.notes = self._sounds[0], path, 0, []
        self.rate, self.channels = first.samplerate, first.channels
        if any((sound.samplerate, sound.channels) != (self.rate, self.channels) for sound in self._sounds):
            self._closing.close()
            raise UserError(f"{name}: its rate or its channels change on the way; {_conversion(path)}")
        known = 0 < self.rate and self._frames < _MAX_FRAMES
        self.seconds = self._frames / self.rate if known else math.inf
        self.notes += _missing(first, self.seconds)
        self._drop(opened.before)
        self._position, self._checked = 0, False

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    @property
    def ended(self) -> bool:
        """Whether all of it is read."""
        return not self._sounds or self._position >= self._frames

    def skip(self, frames: int) -> None:
        """Leave out the first frames, before anything is read."""
        while self._sounds and frames >= self._sounds[0].frames:
            passed = self._sounds.pop(0).frames
            self._position, frames = self._position + passed, frames - passed
        sound = self._sounds[0] if self._sounds else None
        if not sound or sound.frames >= _MAX_FRAMES or not sound.seekable():
            self._drop(frames)
            return
        try:
            self._position += sound.seek(frames)
        except RuntimeError:  # of libsndfile, where a file is cut off or damaged
            self._sounds, self._checked, self.seconds = [], True, (self._position + frames) / self.rate
            self.notes.append("cut off or damaged before start")

    def _drop(self, frames):
        for _ in self._blocks(self._position + frames):
            pass

    def _blocks(self, end):
        """The blocks up to a position."""
        while self._sounds and self._position < end:
            yield self._next_block(end - self._position)

    def read(self, count: float) -> np.ndarray:
        """The next `count` frames ``(N, C)`` float32 in -1 to 1; fewer at the end."""
        parts = [np.zeros((0, self.channels), np.float32)]
        blocks = self._blocks(min(self._position + count, self._frames))
        while joined := [*islice(blocks, _JOINED)]:
            parts.append(np.concatenate(joined))
        if self.ended and not self._checked:
            self._check_end()
        return np.concatenate(parts)

    def _next_block(self, limit):
        """A block of at most `limit` frames, empty at the end of a sound."""
        block = np.full((math.ceil(min(limit, _BLOCK)), self.channels), np.nan, np.float32)
        try:
            block = self._sounds[0].read(out=block)
        except RuntimeError:  # of libsndfile, where a file is cut off or damaged
            block = block[~np.isnan(block[:, 0])]
        self._position += len(block)
        if not len(block):
            self._sounds.pop(0)
        return block

    def _check_end(self):
        self._checked = True
        found, unread = self._position / self.rate, self._unread()
        if found < self.seconds - 0.1 and self.seconds < math.inf:
            self.notes.append(f"cut off or damaged: read {found:.1f} of {self.seconds:.1f} s")
        elif unread > _SIZE_ERROR:
            self.notes.append(
                f"damaged, or of several parts: read {found:.1f} s, but not the last {unread / 1e6:.2f} MB "
                f"of the file; {_conversion(self._path)}"
            )
        elif failure := self._failure():
            self.notes.append(f"cut off or damaged: read {found:.1f} s ({failure})")
        self.seconds = found


def _missing(sound, seconds):
    """A sentence if the file of a sound of `seconds` is shorter than its header states."""
    log = sound.extra_info
    if re.search(r"^RIF[FX] ", log, re.MULTILINE) and re.search(r"^data : \d+$", log, re.MULTILINE):
        return []  # the data are whole
    for stated, found in (map(int, sizes) for sizes in _SIZES.findall(log)):
        # a program that writes to a pipe states about 2 GiB or 4 GiB
        piped = abs(stated - 2**31) < 2**16 or stated > 2**32 - 2**16
        if stated - found > _SIZE_ERROR and not piped:
            return [f"cut off: holds {seconds:.1f} of {seconds * stated / found:.1f} s"]
    return []


def _conversion(path):
    """Advice for a file that cannot be read."""
    wav = path.with_suffix(".converted.wav" if path.suffix == ".wav" else ".wav")
    return f"replace it by a wav, for example: ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(wav))}"


class _Opened(NamedTuple):
    """The sounds of a file in a row, one or of a chained ogg several."""

    sounds: list[Any]
    frames: int  # that the file states
    before: int = 0  # frames before the first one
    unread: Callable[[], int] = lambda: 0  # bytes of the file that were not read, at the end
    close: Callable[[], None] = lambda: None
    failure: Callable[[], str] = lambda: ""  # what is wrong, at the end


def _open_sounds(file, path, name):
    """Open the sounds of a file; UserError if neither libsndfile nor ffmpeg reads it."""
    try:
        return _open_with_libsndfile(file, path)
    except (RuntimeError, ValueError, TypeError) as error:  # LibsndfileError is a RuntimeError
        reason = str(getattr(error, "error_string", error)).rstrip(".")
    try:
        sound = _Decoded(path)
        return _Opened([sound], sound.frames, failure=sound.failure)
    except OSError as error:
        advice = (
            f"ffmpeg, which reads m4a, aac, wma, videos and more, cannot be started ({error.strerror}): "
            "install it, for example with 'apt install ffmpeg' or 'brew install ffmpeg', or export the "
            "recording as wav"
        )
    except RuntimeError as error:
        reason, advice = f"{reason}; {error}", "choose another file, or export it again, as wav"
    raise UserError(f"{name}: not a readable recording ({reason}); {advice}")


def _open_with_libsndfile(file, path):
    """Open the sounds of a file; RuntimeError, ValueError or TypeError if they cannot be read."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its libsndfile is missing
        try:
            wav = _PlainWav(file)
        except Exception:  # scipy raises exceptions of many types
            reason = (
                f"not a PCM or float wav; soundfile, which reads other formats, cannot be loaded: {error}"
            )
            raise RuntimeError(reason) from None
        return _Opened([wav], wav.frames)
    head, size = file.read(_HEAD), path.stat().st_size
    mp3 = _Mp3.find(file, size)
    try:
        if mp3 and mp3.first:
            return mp3.open(file, size)
        links, walked, failure = [_Bytes(file, 0, size, _with_length(head))], size, ""
        if head[:4] == b"OggS":
            links, walked, failure = _ogg_links(file, size)
        sounds = [soundfile.SoundFile(link) for link in links]
        if mp3 and sounds[0].format == "MP3":
            return mp3.open(file, size)
        frames = sum(sound.frames for sound in sounds)
        return _Opened(sounds, frames, unread=lambda: size - walked, failure=lambda: failure)
    except RuntimeError:
        if mp3 and not mp3.first:
            with contextlib.suppress(RuntimeError):
                return mp3.open(file, size)
        raise


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
    """The streams of a chained ogg (RFC 3533), of which libsndfile reads the first alone.

    Also returned: where they end, and what is wrong there.
    """
    starts, position, was_first, is_last = [0], 0, True, False
    while True:
        file.seek(position)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            break
        is_first = bool(header[5] & 2)  # page of a stream; multiplexed streams have theirs in a row
        if is_first and not was_first:
            starts.append(position)
        position, was_first = position + 27 + header[26] + sum(file.read(header[26])), is_first
        is_last = bool(header[5] & 4) and position <= size
    links = [_Bytes(file, *link) for link in pairwise([*starts, size])]
    return links, min(position, size), "" if is_last else "its last page is missing"


def _with_length(head):
    """The head of a file, with a length where it states none, as libsndfile would read nothing."""
    if head[:4] == b"fLaC" and len(head) > 26 and not int.from_bytes(head[21:26], "big") & (2**36 - 1):
        return head[:21] + bytes([head[21] | 15]) + b"\xff" * 4 + head[26:]
    if head[:4] in (b"RIFF", b"RIFX"):  # of a program that was stopped while it recorded
        return head.replace(b"data" + bytes(4), b"data" + b"\xff" * 4, 1)
    return head


class _Mp3(NamedTuple):
    """An mp3 without tags and other bytes before its first frame."""

    first: bool  # whether it begins with a frame, but for tags
    start: int  # of the first frame in the file
    head: bytes  # the first bytes, without the length, which would end the reading of joined files
    frames: int = _MAX_FRAMES  # stated, if for all of the file
    before: int = 0  # frames before the audio, of the encoder and the decoder

    @classmethod
    def find(cls, file: BinaryIO, size: int) -> "_Mp3 | None":
        """The mp3 in a file of `size` bytes, if it is one."""
        position = 0
        while True:
            file.seek(position)
            head, length = file.read(_HEAD), 0
            if head[:3] != b"ID3":
                break
            for byte in head[6:10]:  # its size, 7 bits in each
                length = 128 * length + byte
            position += 10 + length
        frame = next(
            filter(partial(_is_mp3_frame, head), map(re.Match.start, re.finditer(b"\xff", head))), -1
        )
        if frame < 0 or (frame and re.match(_OTHER_FORMATS, head, re.DOTALL)):
            return None
        position, head = position + frame, head[frame:]
        tag = re.search(b"(?:Xing|Info)...(.)(....)(....)", head[:256], re.DOTALL)
        plain = head[:256].replace(b"Xing", b"____").replace(b"Info", b"____")
        if not tag or tag[1][0] & 3 != 3 or int.from_bytes(tag[3], "big") < size - position - _SIZE_ERROR:
            return cls(frame == 0, position, plain)
        per_frame = 1152 if head[1] & 8 else 576
        frames, before = int.from_bytes(tag[2], "big") * per_frame, 0
        if tag[1][0] & 15 == 15:  # LAME's tag: what the encoder added before and after
            padding = int.from_bytes(head[tag.start() + 141 :][:3], "big")
            # the frame of the tag itself, and what the decoder adds
            before = per_frame + (padding >> 12) + 529
            frames -= (padding >> 12) + (padding & 4095)
        return cls(frame == 0, position, plain, frames, before)

    def open(self, file: BinaryIO, size: int) -> _Opened:
        """Open it through a pipe.

        Of an mp3 that cannot be searched libsndfile reads all. Of another one it reads as much as it
        estimates from the first frames, and soundfile seeks after each block, which damages the sound.
        """
        import soundfile

        reader, writer = os.pipe()
        content = _Bytes(file, self.start, size, self.head)

        def feed():
            with contextlib.suppress(OSError, ValueError), open(writer, "wb") as pipe:  # it may be closed
                while data := content.read(_HEAD):
                    pipe.write(data)

        def unread():
            return sum(map(len, iter(partial(os.read, reader, _HEAD), b"")))

        threading.Thread(target=feed, daemon=True).start()
        try:
            sound = soundfile.SoundFile(reader, closefd=False)
        except RuntimeError:
            os.close(reader)
            raise
        return _Opened([sound], self.frames, self.before, unread, partial(os.close, reader))


def _is_mp3_frame(head, start):
    """Whether an MPEG frame of layer III starts there, and another one after it."""
    header, sync = head[start : start + 4], b"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"
    if len(header) < 4 or not re.match(sync, header, re.DOTALL) or header[2] >> 4 in (0, 15):
        return False
    version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    if rate == 3:
        return False
    rates = [44100, 48000, 32000][rate] >> {3: 0, 2: 1, 0: 2}[version]
    kilobits = _KILOBITS[version == 3][header[2] >> 4]
    length = (144000 if version == 3 else 72000) * kilobits // rates + (header[2] >> 1 & 1)
    following = head[start + length :][:2]
    # behind other bytes a frame without another one is chance
    return (start == 0 and len(following) < 2) or bool(re.match(sync, following, re.DOTALL))


class _PlainWav:
    """A PCM or float wav read by scipy, with the methods of soundfile's SoundFile."""

    extra_info = ""

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

    def read(self, out: np.ndarray) -> np.ndarray:
        block = self._samples[self._position :][: len(out)]
        self._position += len(block)
        return block

    def close(self) -> None:
        pass


class _Decoded:
    """What ffmpeg decodes of a file, through a pipe, with the methods of soundfile's SoundFile."""

    frames, extra_info = _MAX_FRAMES, ""  # an au from a pipe does not state its length

    def __init__(self, path: Path):
        """Start ffmpeg; OSError if that is impossible, RuntimeError if it finds no audio."""
        command = ["ffmpeg", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{path}"]
        command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
        self._process: Any = subprocess.Popen(command, stdin=nothing, stdout=pipe, stderr=pipe)
        self._error = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        with contextlib.ExitStack() as closing:
            closing.callback(self.close)
            self.samplerate, self.channels = self._read_header()
            closing.pop_all()

    def _read_header(self):
        header = self._process.stdout.read(24)
        if len(header) < 24:
            raise RuntimeError(self.failure() or "ffmpeg: no audio in it")
        _, start, _, _, rate, channels = struct.unpack(">4s5I", header)
        self._process.stdout.read(start - 24)
        return rate, channels

    def _listen(self):
        """Keep the first line of what ffmpeg reports, the most specific one; read all, or it would wait."""
        for line in self._process.stderr:
            self._error = self._error or re.sub(r"^(\[.*?\] *)+", "", line.decode(errors="replace")).strip()

    def failure(self) -> str:
        """What ffmpeg reports, once it has ended; empty if all is well."""
        self._listener.join()
        code = self._process.wait()
        if "not contain any stream" in self._error:
            return "ffmpeg: no audio in it"
        reason = self._error or (f"ended with code {code}" if code else "")
        return reason and f"ffmpeg: {reason}"

    def seekable(self) -> bool:
        return False

    def read(self, out: np.ndarray) -> np.ndarray:
        data = self._process.stdout.read(out.nbytes)
        count = len(data) // (4 * self.channels)
        out[:count] = np.frombuffer(data, ">f4", count * self.channels).reshape(count, self.channels)
        return out[:count]

    def close(self) -> None:
        self._process.kill()
        self._process.stdout.close()  # for a process that this one started
        self._listener.join()
        self._process.stderr.close()
        self._process.wait()
