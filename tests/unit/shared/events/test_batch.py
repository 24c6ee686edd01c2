"""What a consumer tells Lambda of its batch."""

from openai_proxy.events.batch import again


def test_each_message_that_comes_again_is_named_once_and_in_its_order() -> None:
    """A message may fail for several entries that are made of it."""
    assert again(iter(["b", "a", "b"])) == {"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]}
    assert again([]) == {"batchItemFailures": []}
