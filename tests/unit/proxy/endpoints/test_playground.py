"""The playground's files as they are served: which, to whom, with which headers; and what they may not contain."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from proxy.endpoints.playground import Playground
from proxy.request.parse import InferenceRequest

from tests.fakes import RecordedResponse

FILES = Path(__file__).parents[4] / "functions/proxy/endpoints/playground_files"
OWN = [file for file in FILES.rglob("*") if file.is_file() and "vendor" not in file.parts]
PAGE = "/playground/index.html"


def ask(
    path: str, method: str = "GET", playground: Playground | None = None, **headers: str
) -> RecordedResponse | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = RecordedResponse()
    request = InferenceRequest("function_url", method, path, "", named, b"", None)
    if not (playground or Playground()).serve(request, response):
        assert not response.started
        return None
    assert response.ended
    return response


@pytest.mark.parametrize("path", ["/", "/playground", "/playground/"])
def test_the_page(path: str) -> None:
    response = ask(path)
    assert response is not None
    assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    plain = re.sub(rb"/playground/[0-9a-f]{16}/", b"/playground/", response.body)
    assert plain == (FILES / "index.html").read_bytes()


def version() -> str:
    """The version that the page names its files with."""
    page = ask("/")
    assert page is not None
    [found] = set(re.findall(r"/playground/(\w{16})/", page.body.decode()))
    return found


def test_a_browser_keeps_the_files_of_a_version_and_takes_those_of_another_for_once() -> None:
    for named, caching in (
        (version(), "public, max-age=31536000, immutable"),
        ("0" * 16, "no-cache"),
        ("", "no-cache"),
    ):
        response = ask("/playground/" + (f"{named}/" if named else "") + "vendor/marked/marked.esm.js")
        assert response is not None
        assert response.headers["cache-control"] == caching
        assert response.body == (FILES / "vendor/marked/marked.esm.js").read_bytes()


def test_a_version_is_of_all_files(tmp_path: Path) -> None:
    versions: list[str] = []
    for style in ("a {}", "b {}"):
        (tmp_path / "index.html").write_text('<link href="/playground/style.css">')
        (tmp_path / "style.css").write_text(style)
        response = ask("/", playground=Playground(tmp_path))
        assert response is not None
        versions.append(response.body.decode())
    assert versions[0] != versions[1]


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_said_of_a_file_whole(packs: bool, method: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"/playground/b.js")
    (tmp_path / "b.js").write_bytes(b"'b'")
    (tmp_path / "notes.txt").write_bytes(b"of nobody's business")
    named = hashlib.sha256(b"b.js 3\n'b'index.html 16\n/playground/b.js").hexdigest()[:16]
    page = f"/playground/{named}/b.js".encode()
    playground = Playground(tmp_path)
    accepts = {"accept_encoding": "br, gzip"} if packs else {}
    for path, content, kind, caching in (
        ("/", page, "text/html; charset=utf-8", "no-cache"),
        (page.decode(), b"'b'", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
    ):
        etag = f'"{hashlib.sha256(content).hexdigest()[:20]}{"-gz" if packs else ""}"'
        headers = {
            "content-security-policy": POLICY,
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "referrer-policy": "no-referrer",
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "cache-control": caching,
            "etag": etag,
        }
        response = ask(path, method, playground, **accepts)
        assert response is not None
        encoding = {"content-encoding": "gzip"} if packs else {}
        assert (response.status, response.headers) == (200, {**headers, **encoding, "content-type": kind})
        body = b"" if method == "HEAD" else gzip.compress(content, compresslevel=6, mtime=0) if packs else content
        assert response.body == body
        known = ask(path, method, playground, if_none_match=f'"x", {etag}', **accepts)
        assert known is not None
        assert (known.status, known.headers, known.body) == (304, headers, b"")
    assert ask("/playground/notes.txt", method, playground) is None


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"
)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/playground/app.js", "text/javascript; charset=utf-8"),
        ("/playground/style.css", "text/css; charset=utf-8"),
        ("/playground/icon.svg", "image/svg+xml"),
        ("/playground/vendor/dompurify/purify.es.mjs", "text/javascript; charset=utf-8"),
    ],
)
def test_its_files(path: str, content_type: str) -> None:
    response = ask(path)
    assert response is not None
    assert response.headers["content-type"] == content_type
    assert response.body == (FILES / path.removeprefix("/playground/")).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        *("", "//", "/index.html", "/app.js", "/favicon.ico", "/Playground/", "/v1/models", "/demo/v1/models"),
        *("/playground/v1/models", "/playground/v1/chat/completions", "/playground/app.js/", "/playground//app.js"),
        *("/playground/../playground.py", "/playground/%2e%2e/playground.py", "/playground/..%2fplayground.py"),
        *("/playground/vendor", "/playground/vendor/", "/playground/vendor/marked/LICENSE", PAGE),
        *("/playground/0123456789abcdef/", "/playground/0123456789abcdef/index.html", "/playground/0123456789abcdef"),
        *("/playground/0123456789abcdef/0123456789abcdef/app.js", "/playground/0123456789ABCDEF/app.js"),
        *("/playground/vendor/README.md", "/playground/app.js%00", "/playground/./app.js", "/playground/App.js"),
    ],
)
def test_everything_else_is_for_somebody_else(path: str) -> None:
    assert ask(path) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_it_takes_nothing(method: str) -> None:
    assert ask("/", method) is None


def test_what_the_browser_is_told() -> None:
    response = ask("/")
    assert response is not None
    rules = [rule.partition(" ") for rule in response.headers["content-security-policy"].split("; ")]
    policy = {name: value for name, _, value in rules}
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "dompurify")
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("encodings", ["gzip, br", "identity"])
def test_a_browser_that_has_a_file_is_not_sent_it_again(encodings: str) -> None:
    playground = Playground()
    first = ask("/", playground=playground, accept_encoding=encodings)
    assert first is not None
    again = ask("/", playground=playground, accept_encoding=encodings, if_none_match=first.headers["etag"])
    assert again is not None
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = ask("/", playground=playground, accept_encoding=encodings, if_none_match='"another"')
    assert other is not None
    assert (other.status, other.body) == (200, first.body)


def test_files_travel_packed_where_the_browser_can_unpack() -> None:
    packed, plain = ask("/playground/app.js", accept_encoding="gzip"), ask("/playground/app.js")
    assert packed is not None
    assert plain is not None
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


def test_head_has_the_headers_alone() -> None:
    head, whole = ask("/", "HEAD"), ask("/")
    assert head is not None
    assert whole is not None
    assert (head.status, head.headers, head.body) == (whole.status, whole.headers, b"")


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    playground = Playground(tmp_path / "there is no such folder")
    assert ask("/", "POST", playground) is None


# ---------------------------------------------------------------------------------------------------- what they contain


def test_the_libraries_are_those_that_are_recorded() -> None:
    vendor = FILES / "vendor"
    rows = re.findall(r"\| [\w@/.-]+ \| [\d.]+ \| .+? \| `(.+?)` \| `(\w{64})` \|", (vendor / "README.md").read_text())
    recorded = dict(rows)
    assert {str(path.relative_to(vendor)) for path in vendor.rglob("*.*js")} == set(recorded)
    for name, digest in recorded.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
        assert (vendor / name).with_name("LICENSE").is_file()
        assert ask(f"/playground/vendor/{name}") is not None


def imports_of(file: Path) -> dict[str, Path]:
    """The modules that a module names, by the keyword that stands before them."""
    found = re.findall(r'(from |import\()"(\./[^"]+)"', file.read_text())
    return {f"{keyword}{name}": (file.parent / name).resolve() for keyword, name in found}


def path_of(file: Path) -> str:
    return f"/playground/{file.relative_to(FILES.resolve()).as_posix()}"


def test_every_file_that_is_referred_to_is_served() -> None:
    referred: set[str] = set()
    for file in OWN:
        referred |= set(re.findall(r'(?:href|src)="(/[^"]*)"', file.read_text()))
        referred |= {path_of(module) for module in imports_of(file).values()}
    assert len(referred) > 10
    assert {path for path in referred if ask(path) is None} == set()
    own = {f"/playground/{file.name}" for file in OWN} - {PAGE}
    assert own <= referred, "a file that nobody needs"


def test_what_the_page_needs_from_the_start_is_asked_for_in_one_wave() -> None:
    needed, found = [FILES.resolve() / "app.js"], list[Path]()
    while needed:
        found.append(needed.pop())
        modules = {module for name, module in imports_of(found[-1]).items() if name.startswith("from")}
        needed += modules - {*needed, *found}
    named = re.findall(
        r'(?:modulepreload" href|<script type="module" src)="([^"]+)"', (FILES / "index.html").read_text()
    )
    assert sorted(named) == sorted(path_of(module) for module in found)


@pytest.mark.parametrize("file", OWN, ids=lambda file: str(file.name))
def test_nothing_of_it_needs_what_its_policy_forbids(file: Path) -> None:
    text = file.read_text()
    links = re.sub(r"https?://(?:www\.w3\.org/2000/svg|html\.spec\.whatwg\.org/\S+)", "", text)
    assert not re.search(r"https?://", links), "it refers to another host"
    assert not re.search(r"\.(?:inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    kept = {"sessionStorage"} if file.name == "resuming.js" else set[str]()
    assert set(re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie", text)) == kept, "who keeps what"
    if file.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
        [key] = re.findall(r'<input id="key"[^>]*>', text)
        assert 'type="password"' in key
        assert 'autocomplete="off"' in key
        assert "name=" not in key, "a field without a name is in no address"
