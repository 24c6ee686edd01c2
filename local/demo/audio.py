"""The demo server's audio: it speaks a tone for a text, and "hears" which bytes of a file have arrived."""

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from local.demo.answers import count_tokens, tokenize
from local.demo.multipart import Upload
from local.demo.replies import Body, Events, Json, Raw, RefusedError, Reply

_RATE = 8000
_SECONDS_PER_TOKEN = 0.1
_LONGEST_SECONDS = 60.0
_PIECE = 4096
_BYTES_PER_TOKEN = 1000
_BYTES_PER_SECOND = 16_000


def speak(body: Body, demo: Body) -> Reply:
    """`POST /audio/speech`: a WAV file whatever format is asked for, or its pieces as events (`stream_format: sse`)."""
    text = str(body["input"])
    sound = tone(text)
    pieces = (sound[start : start + _PIECE] for start in range(0, len(sound), _PIECE))
    if body.get("stream_format") == "sse":
        return Events(_speech_events(pieces, _usage(count_tokens([text]), 0, len(sound), demo)))
    return Raw(pieces, "audio/wav")


def tone(text: str) -> bytes:
    """A WAV file (8 kHz, 8 bits): a tone that depends on the text, for a tenth of a second for each of its tokens."""
    period = 20 + zlib.crc32(text.encode()) % 60
    wave = bytes(round(127.5 + 100 * math.sin(2 * math.pi * step / period)) for step in range(period))
    samples = int(_RATE * min(_LONGEST_SECONDS, _SECONDS_PER_TOKEN * max(1, count_tokens([text]))))
    sound = (wave * (samples // period + 1))[:samples]
    head = struct.pack("<IHHIIHH", 16, 1, 1, _RATE, _RATE, 1, 8)
    return b"RIFF" + struct.pack("<I", 36 + samples) + b"WAVEfmt " + head + b"data" + struct.pack("<I", samples) + sound


def transcribe(body: Body, demo: Body) -> Reply:
    """`POST /audio/transcriptions` in every format but `diarized_json`; streamed as events."""
    upload = _file(body)
    text = heard(upload.name, upload.content)
    usage = _usage(count_tokens([str(body.get("prompt") or "")]), len(upload.content), 0, demo, text)
    if usage and str(body["model"]).startswith("whisper"):
        usage = _in_seconds(upload)
    if body.get("stream") == "true":
        return Events(_transcript_events(text, usage))
    return _transcript(body, upload, text, usage)


def translate(body: Body, demo: Body) -> Reply:
    """`POST /audio/translations`: as `transcribe`, never streamed and, as OpenAI's, without usage in tokens."""
    upload = _file(body)
    return _transcript(body, upload, heard(upload.name, upload.content), {})


def heard(name: str, content: bytes) -> str:
    """The transcript of a file, which says what bytes have arrived: so nothing is lost unnoticed."""
    return f"This is the demo server. It was sent {name}: {len(content)} bytes, {hashlib.sha256(content).hexdigest()}."


def _file(body: Body) -> Upload:
    upload = body["file"]
    if not isinstance(upload, Upload):
        raise RefusedError(400, "'file' is not a file.", "file")
    return upload


def _transcript(body: Body, upload: Upload, text: str, usage: dict[str, Any]) -> Reply:
    seconds = _seconds(upload)
    match body.get("response_format", "json"):
        case "json":
            return Json({"text": text, **usage})
        case "verbose_json":
            timed = _in_seconds(upload) if usage else {}
            whole = {"task": "transcribe", "language": "english", "duration": float(seconds), "text": text}
            return Json({**whole, "segments": [_segment(text, seconds)], **timed})
        case "text":
            return Raw(iter([f"{text}\n".encode()]), "text/plain; charset=utf-8")
        case "srt":
            subtitles = f"1\n00:00:00,000 --> {_clock(seconds, ',')}\n{text}\n\n"
            return Raw(iter([subtitles.encode()]), "text/plain; charset=utf-8")
        case "vtt":
            subtitles = f"WEBVTT\n\n00:00:00.000 --> {_clock(seconds, '.')}\n{text}\n\n"
            return Raw(iter([subtitles.encode()]), "text/plain; charset=utf-8")
        case other:
            raise RefusedError(400, f"The demo server has no response_format '{other}'.", "response_format")


def _seconds(upload: Upload) -> int:
    return max(1, -(-len(upload.content) // _BYTES_PER_SECOND))


def _in_seconds(upload: Upload) -> dict[str, Any]:
    """OpenAI's `usage` of the models that charge by the second."""
    return {"usage": {"type": "duration", "seconds": _seconds(upload)}}


def _segment(text: str, seconds: int) -> dict[str, Any]:
    certain = {"temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    return {"id": 0, "seek": 0, "start": 0.0, "end": float(seconds), "text": text, "tokens": [], **certain}


def _clock(seconds: int, point: str) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}000"


def _transcript_events(text: str, usage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for token in tokenize(text):
        yield {"type": "transcript.text.delta", "delta": token}
    yield {"type": "transcript.text.done", "text": text, **usage}


def _speech_events(pieces: Iterator[bytes], usage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
    yield {"type": "speech.audio.done", **usage}


def _usage(text_tokens: int, bytes_in: int, bytes_out: int, demo: Body, said: str = "") -> dict[str, Any]:
    """OpenAI's `usage` in tokens: a thousand bytes of sound are one."""
    if not demo.get("usage", True):
        return {}
    heard_tokens, spoken = -(-bytes_in // _BYTES_PER_TOKEN), -(-bytes_out // _BYTES_PER_TOKEN)
    output_tokens = count_tokens([said]) if said else spoken
    return {
        "usage": {
            "type": "tokens",
            "input_tokens": text_tokens + heard_tokens,
            "input_token_details": {"text_tokens": text_tokens, "audio_tokens": heard_tokens},
            "output_tokens": output_tokens,
            "total_tokens": text_tokens + heard_tokens + output_tokens,
        }
    }
