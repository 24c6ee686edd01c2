"""The playground: a page to try the proxy in a browser, where its owner has switched it on. It holds no key.

Its one rule: only files of this package are served, each found by its exact name; no part of a request ever becomes a
file path.

The page names its files below `/playground/{version}/`, a digest of all of them, so a browser keeps them for good and
asks for the page alone when it comes again. While a deployment is under way, a sandbox may be asked for the version of
another one: it answers with its own file, which the browser is then told not to keep.
"""

import gzip
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from proxy.endpoints.responder import Response
from proxy.request.parse import InferenceRequest

_FOLDER = Path(__file__).parent / "playground_files"
_BELOW = "/playground/"
_VERSIONED = re.compile(r"/playground/([0-9a-f]{16})/(?=.)")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
)
"""What a model writes cannot run, load or send anything, even if it got past the page's own cleaning."""

_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


_CHECKED_EACH_TIME = {"cache-control": "no-cache"}
_KEPT = {"cache-control": "public, max-age=31536000, immutable"}


class _File(NamedTuple):
    content_type: str
    etag: str
    packed: bytes
    """In gzip: most of it is text that shrinks to a third."""


class Playground:
    """Serves the page at `/` and `/playground/`, and the page's files below that. A file is read when it is first asked
    for.
    """

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}
        self._version = ""
        self._files: dict[Path, _File] = {}

    def serve(self, request: InferenceRequest, response: Response) -> bool:
        """Answer `request` if it asks for a file of the playground. False: it does not."""
        if request.method not in ("GET", "HEAD"):
            return False
        if not self._paths:
            self._paths = self._found()
            self._version = _version(self._paths.values())
        versioned = _VERSIONED.match(request.path)
        path = self._paths.get(_VERSIONED.sub(_BELOW, request.path))
        if path is None or (versioned and path.suffix == ".html"):
            return False
        file = self._files[path] = self._files.get(path) or self._read(path)
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        etag = f'"{file.etag}{"-gz" if takes_gzip else ""}"'
        caching = _KEPT if versioned and versioned[1] == self._version else _CHECKED_EACH_TIME
        headers = {**_HEADERS, **caching, "etag": etag}
        if etag in request.headers.get("if-none-match", ""):
            response.start(304, headers)
        else:
            encoding = {"content-encoding": "gzip"} if takes_gzip else {}
            response.start(200, {**headers, **encoding, "content-type": file.content_type})
            if request.method == "GET":
                response.write(file.packed if takes_gzip else gzip.decompress(file.packed))
        response.end()
        return True

    def _found(self) -> dict[str, Path]:
        """Every path that leads to a file."""
        files = (file for file in self._folder.rglob("*") if file.suffix in _TYPES)
        found = {_BELOW + file.relative_to(self._folder).as_posix(): file for file in files}
        index = found.pop(_BELOW + "index.html")
        return {**found, "/": index, _BELOW: index, _BELOW[:-1]: index}

    def _read(self, path: Path) -> _File:
        content = path.read_bytes()
        if path.suffix == ".html":
            content = content.replace(_BELOW.encode(), f"{_BELOW}{self._version}/".encode())
        packed = gzip.compress(content, compresslevel=6, mtime=0)
        return _File(_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:20], packed)


def _version(files: Iterable[Path]) -> str:
    """A digest of all files: modules name each other, so they change together."""
    digest = hashlib.sha256()
    for file in sorted(set(files)):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
