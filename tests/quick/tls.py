"""Certificates of the system, which no test needs: each new TLS context, so each relay of a test, reads them anew."""

import functools
import os
import ssl
from collections.abc import Callable

import httpx
import httpx2
import pytest


def read_no_certificates(patch: pytest.MonkeyPatch) -> None:
    """But those that a test names in SSL_CERT_FILE or SSL_CERT_DIR. Without any, no certificate is trusted."""
    read: Callable[[ssl.SSLContext], None] = ssl.SSLContext.load_default_certs

    def read_named(self: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
            read(self, purpose)

    patch.setattr(ssl.SSLContext, "load_default_certs", read_named)


def read_certificates_of_httpx_once(patch: pytest.MonkeyPatch) -> None:
    """Every client of httpx, and so of the OpenAI SDK, reads those of certifi: 50 ms."""
    for module in (httpx._transports.default, httpx2._transports.default):  # pyright: ignore[reportPrivateUsage]
        patch.setattr(module, "create_ssl_context", functools.cache(module.create_ssl_context))
