"""Wav files byte by byte: every variant a program may have written, and what breaks them."""

import struct

import numpy as np

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / RATE)
_GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk; its header may lie about its size."""
    declared = len(data) if size is None else size
    return name + struct.pack("<I", declared) + data + b"\0" * (len(data) % 2)


def head(tag: int, channels: int, bits: int, rate: int = RATE, more: bytes = b"") -> bytes:
    """A format chunk."""
    block = channels * ((bits + 7) // 8)
    fields = tag, channels, rate, rate * block % 2**32, block % 2**16, bits
    return chunk(b"fmt ", struct.pack("<HHIIHH", *fields) + more)


def wav(*chunks: bytes, size: int | None = None, riff: bytes = b"RIFF") -> bytes:
    """A file of chunks; its header may lie about its size."""
    body = b"WAVE" + b"".join(chunks)
    return riff + struct.pack("<I", len(body) if size is None else size) + body


def samples(bits: int, channels: int = 1, real: bool = False) -> bytes:
    """The tone in every channel, as PCM or float."""
    tone = np.repeat(TONE[:, None], channels, axis=1)
    if real:
        return tone.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.round(tone * 127 + 128).astype("u1").tobytes()
    whole = np.round(tone * (2 ** (bits - 1) - 1)).astype("<i8")
    return whole.view("u1").reshape(-1, 8)[:, : bits // 8].tobytes()


def readable() -> dict[str, bytes]:
    """Variants that hold the tone, by name."""
    fmt, data = head(1, 1, 16), chunk(b"data", samples(16))
    found = {
        "odd chunks first": wav(
            chunk(b"LIST", b"INFOabc"), fmt, chunk(b"bext", bytes(603)), chunk(b"junk", b"abc"), data
        ),
        "chunks after": wav(
            fmt, data, chunk(b"LIST", b"INFOISFT\5\0\0\0hello\0"), chunk(b"id3 ", bytes(9))
        ),
        "written to a pipe": wav(fmt, chunk(b"data", samples(16), 2**32 - 1), size=2**32 - 1),
        "the data's size too long": wav(fmt, chunk(b"data", samples(16), 100_000)),
        "bytes after the end": wav(fmt, data) + bytes(1000),
        "RF64": wav(
            chunk(b"ds64", struct.pack("<QQQI", len(samples(16)) + 80, len(samples(16)), len(TONE), 0)),
            fmt,
            chunk(b"data", samples(16), 2**32 - 1),
            size=2**32 - 1,
            riff=b"RF64",
        ),
    }
    for bits in (8, 16, 24, 32):
        for channels in (1, 2, 3, 6, 8):
            data = chunk(b"data", samples(bits, channels))
            found[f"PCM {bits}, {channels} channels"] = wav(head(1, channels, bits), data)
        more = struct.pack("<HHI", 22, bits, 3) + struct.pack("<H", 1) + _GUID
        data = chunk(b"data", samples(bits, 2))
        found[f"PCM {bits}, extensible"] = wav(head(0xFFFE, 2, bits, more=more), data)
    for bits in (32, 64):
        data = chunk(b"data", samples(bits, real=True))
        found[f"float {bits}"] = wav(head(3, 1, bits), data)
        more = struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", 3) + _GUID
        found[f"float {bits}, extensible"] = wav(head(0xFFFE, 1, bits, more=more), data)
    return found


def unreadable() -> dict[str, bytes]:
    """Files that are to be refused, by name."""
    fmt, data = head(1, 1, 16), chunk(b"data", samples(16))
    short = chunk(b"data", samples(16)[:900], 2**32 - 16)
    beyond = np.full(100, 1e300).tobytes()
    return {
        "empty": b"",
        "a header alone": b"RIFF",
        "no chunks": wav(),
        "no data": wav(fmt),
        "no samples": wav(fmt, chunk(b"data", b"")),
        "data before the format": wav(data, fmt),
        "4 GB declared, 1 KB there": wav(fmt, short, size=2**32 - 8),
        "cut in the middle": wav(fmt, data)[:1000],
        "A-law": wav(head(6, 1, 8), chunk(b"data", bytes(4000))),
        "mu-law": wav(head(7, 1, 8), chunk(b"data", bytes(4000))),
        "ADPCM": wav(head(2, 1, 4), chunk(b"data", bytes(4000))),
        "float 16": wav(head(3, 1, 16), chunk(b"data", samples(16, real=True))),
        "no channels": wav(head(1, 0, 16), data),
        "65535 channels": wav(head(1, 65535, 16), data),
        "no rate": wav(head(1, 1, 16, rate=0), data),
        "a rate of 1 Hz": wav(head(1, 1, 16, rate=1), data),
        "a rate of 2 GHz": wav(head(1, 1, 16, rate=2 * 10**9), data),
        "NaN": wav(head(3, 1, 32), chunk(b"data", np.full(100, np.nan, "<f4").tobytes())),
        "beyond float": wav(head(3, 1, 64), chunk(b"data", beyond)),
        "silence": wav(fmt, chunk(b"data", bytes(3200))),
        "an mp3": b"ID3\4\0\0\0\0\0\0" + bytes(1000),
        "a text": b"not a recording\n" * 100,
    }


def mutated(rng) -> bytes:
    """A variant with some bytes altered, sizes lied about, or its end cut off, by a `random.Random`."""
    data = bytearray(rng.choice(_ALL))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        what = rng.randrange(5)
        place = rng.randrange(min(len(data), 120) if rng.random() < 0.8 else len(data))
        if what == 0:
            data[place] = rng.randrange(256)
        elif what == 1:
            data[place : place + 4] = rng.choice(_SIZES)
        elif what == 2:
            del data[place : place + rng.choice((1, 2, 8, 100))]
        elif what == 3:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8, 100))))
        else:
            del data[place:]
    return bytes(data)


_ALL = [*readable().values(), *unreadable().values()]
_SIZES = [
    struct.pack("<I", size) for size in (0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1)
]
