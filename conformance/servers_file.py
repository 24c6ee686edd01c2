"""The entries of openai_servers.yaml through which a deployment reaches the fault server. Pure."""

_TOKEN = "conformance-provider-token"  # noqa: S105 (what the fault server is sent, and nobody checks)


def entries(url: str, name: str = "conformance", nowhere: str = "http://127.0.0.1:1") -> str:
    """YAML: the server under test, and beside it one that is impatient, one that retries, one that is not there."""
    return f"""\
{name}:
  url: {url}/v1
  token: {_TOKEN}
  model: conformance-default
  retries: 0
  breaker: {{failures: 0}}
  aliases: {{{name}-alias: conformance-default}}
{name}-impatient:
  url: {url}/v1
  token: {_TOKEN}
  model: conformance-default
  retries: 0
  breaker: {{failures: 0}}
  timeouts: {{first_byte: 2, idle: 2, total: 5}}
{name}-retrying:
  url: {url}/v1
  token: {_TOKEN}
  model: conformance-default
  retries: 1
  breaker: {{failures: 0}}
{name}-down:
  url: {nowhere}/v1
  token: {_TOKEN}
  model: conformance-default
  retries: 0
  breaker: {{failures: 0}}
  fallbacks: [{name}]
"""
