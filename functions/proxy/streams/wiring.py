"""Builds the resumable streams of a sandbox from its environment."""

import functools
from collections.abc import Callable, Mapping

from proxy.aws.client import Aws
from proxy.aws.s3 import S3, Bucket
from proxy.aws.sigv4 import Credentials
from proxy.http.transport import HttpTransport
from proxy.records.records import Records
from proxy.streams.streams import Streams
from proxy.streams.table import StreamsTable
from proxy.streams.written import Settings


def from_environ(
    environ: Mapping[str, str],
    region: str,
    transport: HttpTransport,
    credentials: Callable[[], Credentials],
    records: Records,
) -> Streams:
    """Built when the first stream is asked for. Raises KeyError and ValueError for a setting that cannot be used."""
    endpoint = environ.get("AWS_ENDPOINT_URL")
    timeout = 5.0 if endpoint else 1.0  # an emulator is slower

    def table(own: HttpTransport) -> StreamsTable:
        aws = Aws(own.post, credentials, region, endpoint)
        objects = Bucket(S3(own, credentials, region, endpoint), environ["CACHE_BUCKET"])
        return StreamsTable(aws, environ["STREAMS_TABLE"], objects, timeout, environ.get("STREAMS_QUEUE", ""))

    @functools.cache
    def another() -> StreamsTable:
        return table(transport.sibling())

    settings = Settings(float(environ["STREAM_KEPT_SECONDS"]), let_stop=transport.let_stop)
    if secret := environ.get("STREAM_WEBHOOK_SECRET"):
        from proxy.streams.signature import Signer  # noqa: PLC0415  # few stacks tell a webhook

        aws = Aws(transport.post, credentials, region, endpoint)
        settings = settings._replace(sign=Signer(lambda: aws.get_secret(secret)))
    return Streams(table(transport), another, records, settings)
