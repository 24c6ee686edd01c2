"""Bytes in quantity: uploads, downloads, large prompts, and clients that send or leave in their own way."""

from typing import Any

from conformance.case import Ask, Case, Part, Sees, Told
from conformance.cases.operations import AUDIO_USAGE, IMAGE_USAGE, NOTHING_USED, QUERY, USED
from conformance.cases.streams import CHAT
from conformance.chat import STREAM, USAGE, compact, echo, event, reporting
from conformance.checks import received, received_exactly
from conformance.wire import JSON, Act, Reply

_EVERY_BYTE = bytes(range(256)) + b"\r\n--conformance\r\n\r\n--\r\n\x00\xff"
_AUDIO = Part("file", _EVERY_BYTE * 40, "speech.wav", "audio/wav")
_FOUR_MB = Part("file", _EVERY_BYTE * 14_300, "a.bin", "application/octet-stream")
_IMAGES = (Part("image[]", _EVERY_BYTE, "a.png", "image/png"), Part("image[]", b"", "b.png", "image/png"))
_LARGE = "x" * 3_900_000
_LARGE_DOCUMENT = compact({"text": _LARGE * 2, "usage": USAGE})
_ATTACHMENT = 'attachment; filename="a.mp3"'
_TRANSCRIPT = (
    event({"type": "transcript.text.delta", "delta": "Hello"}),
    event({"type": "transcript.text.done", "text": "Hello", "usage": AUDIO_USAGE}),
)


def _upload(name: str, about: str, path: str, parts: tuple[Part, ...], told: Told, **fields: Any) -> Case:
    """A form that reaches the server byte for byte."""
    return Case(
        name,
        about,
        lambda request: reporting(request, **fields),
        Sees(also=(received_exactly, received(method="POST"))),
        told,
        Ask(path=path, form=parts),
    )


def _download(name: str, about: str, ask: Ask, told: Told, size: int = 40_000, **reply: Any) -> Case:
    """Bytes of every kind."""
    data = _EVERY_BYTE * (size // len(_EVERY_BYTE))
    answer = Reply((data,), content_type="audio/mpeg", headers=(("Content-Disposition", _ATTACHMENT),), **reply)
    sees = Sees(body=data, headers={"content-type": "audio/mpeg", "content-disposition": _ATTACHMENT})
    return Case(name, about, answer, sees, told, ask)


def _sent(name: str, about: str, **ask: Any) -> Case:
    """A chat request that reaches the server byte for byte, in whatever way it is sent."""
    fields: dict[str, Any] = {"messages": [], **ask.pop("fields", {})}
    return Case(name, about, echo, Sees(also=(received_exactly,)), USED, Ask(fields=fields, **ask))


_SPEECH = Ask(path="/audio/speech", fields={"input": "Hello", "voice": "alloy"})
_UNKNOWN = Told("InferenceCompleted", usage="unknown")

CASES = (
    _upload(
        "transcription",
        "an upload of every byte there is",
        "/audio/transcriptions",
        (_AUDIO, Part("language", "größe".encode())),
        USED,
        text="Hello",
        usage=AUDIO_USAGE,
    ),
    _upload("files-upload", "an upload of 4 MB", "/files", (Part("purpose", b"batch"), _FOUR_MB), NOTHING_USED),
    _upload("images-edit", "an upload of two files, one empty", "/images/edits", _IMAGES, USED, usage=IMAGE_USAGE),
    Case(
        "transcription-stream",
        "an upload that is answered by a stream",
        Reply(_TRANSCRIPT),
        Sees(body=b"".join(_TRANSCRIPT)),
        USED,
        Ask(path="/audio/transcriptions", form=(Part("stream", b"true"), _AUDIO)),
    ),
    Case(
        "transcription-without-tokens",
        "seconds in place of tokens, and not a number at that",
        Reply((b'{"text":"x","usage":{"type":"duration","seconds":1e999}}',), content_type=JSON, framing="length"),
        Sees(body=b'{"text":"x","usage":{"type":"duration","seconds":1e999}}'),
        Told("InferenceCompleted"),
        Ask(path="/audio/transcriptions", form=(_AUDIO,)),
    ),
    _download("speech", "a download of every byte there is", _SPEECH, _UNKNOWN),
    _download("speech-large", "a download of 3 MB with a length", _SPEECH, _UNKNOWN, 3_000_000, framing="length"),
    _download("speech-close-delimited", "a download that ends with the connection", _SPEECH, _UNKNOWN, framing="close"),
    _download("files-content", "a file's content", Ask("GET", f"/files/{{case}}/content?{QUERY}"), NOTHING_USED),
    _sent("large-request", "a prompt of 3.9 MB", fields={"text": _LARGE}),
    _sent("chunked-request", "a request whose body comes in chunks", fields={"text": "x" * 100_000}, chunked=True),
    _sent("expect-continue", "a client that asks for 100 Continue", headers=(("expect", "100-continue"),)),
    _sent(
        "request-as-text",
        "JSON that is called text, as browsers send it to be asked nothing",
        content_type="text/plain",
    ),
    _sent(
        "exact-request",
        "numbers, escapes and white space as the client wrote them",
        fields={"temperature": 0.1, "big": 12345678901234567890, "text": "Grüße \u2028 🌍 \x7f"},
    ),
    Case(
        "large-document",
        "an answer of 8 MB in one document",
        Reply((_LARGE_DOCUMENT,), content_type=JSON, framing="length"),
        Sees(body=_LARGE_DOCUMENT),
        USED,
        Ask(fields={"messages": []}),
    ),
    Case(
        "client-leaves",
        "a client that goes away: what the server still says is metered to its end",
        Reply((STREAM[0], Act.RELEASE, *STREAM[1:])),
        Sees(begins=STREAM[0], cut=True),
        Told(usage=(9, 3)),
        Ask(fields=CHAT.fields, leaves=True),
    ),
)
