from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from local.demo.server import DemoServer
from tests.sdks import openai


@pytest.fixture
def sdk() -> Iterator[openai.OpenAI]:
    """The OpenAI SDK, which holds each answer of a demo server to its types."""
    # In a `with` all requests share one event loop, as they do in a server: batches run between them.
    with TestClient(DemoServer("secret", delay=0.0).app()) as transport:
        yield openai.OpenAI(
            api_key="secret",
            base_url="http://testserver/v1",
            http_client=transport,
            max_retries=0,
            _strict_response_validation=True,
        )
