"""A sandbox that relays bytes and does nothing else: what is left for a proxy of one process per request to save.

It reads of the event only its body, checks no key, frames, meters and publishes nothing, and waits for ever.
"""

import json
import os
import re
import socket
from pathlib import Path

from bench.servers.bare_function import connect, serve

_ADDRESS = re.compile(r"http://([^/]+)/")
_LAST = b"0\r\n\r\n"


def main(runtime_api: str, servers_file: Path) -> None:
    """Relay between the Runtime API and the first server of a servers file, over one connection each."""
    address = _ADDRESS.search(servers_file.read_text())
    assert address is not None
    upstream = connect(address[1])

    def answer(api: socket.socket, event: bytes) -> None:
        body = json.loads(event)["body"].encode()
        upstream.sendall(b"POST / HTTP/1.1\r\nhost: upstream\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        # The HTTP chunks of the one side are passed on to the other as they are.
        data = upstream.recv(65536).partition(b"\r\n\r\n")[2]
        while True:
            api.sendall(data)
            if data.endswith(_LAST):
                return
            data = upstream.recv(65536)
            assert data, "the upstream server has gone"

    serve(runtime_api, answer)


if __name__ == "__main__":
    main(os.environ["AWS_LAMBDA_RUNTIME_API"], Path(os.environ["SERVERS_FILE"]))
