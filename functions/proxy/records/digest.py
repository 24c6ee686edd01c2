"""A digest by which guards recognise a request that comes again. Pure. Loaded only where guards are on.

Its one rule: only someone with the client's key can check what a digest was made of, because a short prompt is easily
guessed.
"""

import hashlib

from openai_proxy.credentials import sent_key

from proxy.call import Call

_BYTES = 8


def digest_of(call: Call) -> str | None:
    """A digest that is equal for equal requests of one key, and different for every other key; None for a request that
    costs nothing.
    """
    request = call.request
    if request is None or not (call.is_post and call.uses_tokens):
        return None
    key = hashlib.sha256((sent_key(request.headers) or "").encode(errors="surrogatepass")).digest()
    asked = f"{len(call.path)} {call.path} ".encode(errors="surrogatepass")
    found = hashlib.blake2b(asked, digest_size=_BYTES, key=key)
    found.update(request.body)
    return found.hexdigest()
