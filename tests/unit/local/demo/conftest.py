from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from local.demo.server import DemoServer
from tests.sdks import openai

URL = "http://testserver/v1"


@pytest.fixture
def transport() -> Iterator[TestClient]:
    """Speaks HTTP with a demo server, whose token is `secret`."""
    # In a `with` all requests share one event loop, as they do in a server: batches run between them.
    with TestClient(DemoServer("secret", delay=0.0).app()) as client:
        yield client


@pytest.fixture
def sdk(transport: TestClient) -> openai.OpenAI:
    """The OpenAI SDK, which holds each answer of a demo server to its types."""
    return openai.OpenAI(
        api_key="secret", base_url=URL, http_client=transport, max_retries=0, _strict_response_validation=True
    )
