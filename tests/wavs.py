"""Wav files as bytes: readable variants, unreadable files, and random mutations of both."""

import random
import struct

import numpy as np

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / RATE)
_GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk; `size` declares a wrong size."""
    declared = len(data) if size is None else size
    return name + struct.pack("<I", declared) + data + b"\0" * (len(data) % 2)


def format_chunk(tag: int, channels: int, bits: int, rate: int = RATE, more: bytes = b"") -> bytes:
    """A format chunk; `more` extends it."""
    block = channels * ((bits + 7) // 8)
    fields = tag, channels, rate, rate * block % 2**32, block % 2**16, bits
    return chunk(b"fmt ", struct.pack("<HHIIHH", *fields) + more)


def extensible(tag: int, channels: int, bits: int) -> bytes:
    """An extensible format chunk, mono or stereo."""
    mask = 3 if channels == 2 else 0
    return format_chunk(0xFFFE, channels, bits, more=struct.pack("<HHIH", 22, bits, mask, tag) + _GUID)


def wav(*chunks: bytes, size: int | None = None, riff: bytes = b"RIFF") -> bytes:
    """A wav file of chunks; `size` declares a wrong size."""
    body = b"WAVE" + b"".join(chunks)
    return riff + struct.pack("<I", len(body) if size is None else size) + body


def tone_bytes(bits: int, channels: int = 1, floating: bool = False) -> bytes:
    """The tone in every channel, as PCM or float."""
    tone = np.repeat(TONE[:, None], channels, axis=1)
    if floating:
        return tone.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.round(tone * 127 + 128).astype("u1").tobytes()
    integers = np.round(tone * (2 ** (bits - 1) - 1)).astype("<i8")
    return integers.view("u1").reshape(-1, 8)[:, : bits // 8].tobytes()


def readable() -> dict[str, bytes]:
    """Name -> wav that contains the tone."""
    fmt, pcm = format_chunk(1, 1, 16), tone_bytes(16)
    data = chunk(b"data", pcm)
    variants = {
        "unknown chunks before the data": wav(
            chunk(b"LIST", b"INFOabc"), fmt, chunk(b"bext", bytes(603)), chunk(b"junk", b"abc"), data
        ),
        "chunks after the data": wav(
            fmt, data, chunk(b"LIST", b"INFOISFT\5\0\0\0hello\0"), chunk(b"id3 ", bytes(9))
        ),
        "written to a pipe": wav(fmt, chunk(b"data", pcm, 2**32 - 1), size=2**32 - 1),
        "declared data size too long": wav(fmt, chunk(b"data", pcm, 100_000)),
        "trailing bytes": wav(fmt, data) + bytes(1000),
        "RF64": wav(
            chunk(b"ds64", struct.pack("<QQQI", len(pcm) + 80, len(pcm), len(TONE), 0)),
            fmt,
            chunk(b"data", pcm, 2**32 - 1),
            size=2**32 - 1,
            riff=b"RF64",
        ),
    }
    variants |= wrong_headers()
    for bits in (8, 16, 24, 32):
        for channels in (1, 2, 3, 6, 8):
            data = chunk(b"data", tone_bytes(bits, channels))
            variants[f"PCM {bits}, {channels} channels"] = wav(format_chunk(1, channels, bits), data)
        data = chunk(b"data", tone_bytes(bits, 2))
        variants[f"PCM {bits}, extensible"] = wav(extensible(1, 2, bits), data)
    for bits in (32, 64):
        data = chunk(b"data", tone_bytes(bits, floating=True))
        variants[f"float {bits}"] = wav(format_chunk(3, 1, bits), data)
        variants[f"float {bits}, extensible"] = wav(extensible(3, 1, bits), data)
    return variants


def wrong_headers() -> dict[str, bytes]:
    """Name -> wav whose data are whole, and whose header is wrong, as programs write it."""
    fmt, pcm = format_chunk(1, 1, 16), tone_bytes(16)
    whole = wav(fmt, chunk(b"data", pcm))
    sizes = {0x7FFFF024: 0x7FFFF000, 0x80000024: 0x80000000, 0xFFFFFFF7: 0xFFFFFFD3, 0: 0, 2**32 - 1: 0}
    variants = {
        f"piped, sizes {riff:x} and {data:x}": wav(fmt, chunk(b"data", pcm, data), size=riff)
        for riff, data in sizes.items()
    }
    for excess in (8, 36, 1):
        variants[f"RIFF size {excess} too large"] = wav(
            fmt, chunk(b"data", pcm), size=len(whole) - 8 + excess
        )
    for name, position, field in (("byte rate", 16, struct.pack("<I", 1)), ("block align", 20, b"\7\0")):
        altered = fmt[:position] + field + fmt[position + len(field) :]
        variants[f"wrong {name}"] = wav(altered, chunk(b"data", pcm))
    variants["half a sample at the end"] = wav(fmt, b"data" + struct.pack("<I", len(pcm) + 1) + pcm + b"x")
    return variants


def unreadable() -> dict[str, bytes]:
    """Name -> file that must be refused."""
    fmt, data = format_chunk(1, 1, 16), chunk(b"data", tone_bytes(16))
    huge = np.full(100, 1e300).tobytes()
    return {
        "empty": b"",
        "only four bytes": b"RIFF",
        "no chunks": wav(),
        "no data": wav(fmt),
        "no samples": wav(fmt, chunk(b"data", b"")),
        "data before the format": wav(data, fmt),
        "ADPCM": wav(format_chunk(2, 1, 4), chunk(b"data", bytes(4000))),
        "float 16": wav(format_chunk(3, 1, 16), chunk(b"data", tone_bytes(16, floating=True))),
        "no channels": wav(format_chunk(1, 0, 16), data),
        "65535 channels": wav(format_chunk(1, 65535, 16), data),
        "rate 0": wav(format_chunk(1, 1, 16, rate=0), data),
        "rate 1 Hz": wav(format_chunk(1, 1, 16, rate=1), data),
        "rate 2 GHz": wav(format_chunk(1, 1, 16, rate=2 * 10**9), data),
        "NaN": wav(format_chunk(3, 1, 32), chunk(b"data", np.full(100, np.nan, "<f4").tobytes())),
        "beyond float32": wav(format_chunk(3, 1, 64), chunk(b"data", huge)),
        "silence": wav(fmt, chunk(b"data", bytes(3200))),
        "mp3": b"ID3\4\0\0\0\0\0\0" + bytes(1000),
        "text": b"not a recording\n" * 100,
    }


def mutated(rng: random.Random) -> bytes:
    """A file of either kind with bytes or sizes altered, inserted or removed."""
    data = bytearray(rng.choice(_ALL))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        mutation = rng.randrange(5)
        start = rng.randrange(min(len(data), 120) if rng.random() < 0.8 else len(data))
        if mutation == 0:
            data[start] = rng.randrange(256)
        elif mutation == 1:
            data[start : start + 4] = rng.choice(_SIZES)
        elif mutation == 2:
            del data[start : start + rng.choice((1, 2, 8, 100))]
        elif mutation == 3:
            data[start:start] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8, 100))))
        else:
            del data[start:]
    return bytes(data)


_ALL = [*readable().values(), *unreadable().values()]
_SIZES = [struct.pack("<I", size) for size in (0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1)]
