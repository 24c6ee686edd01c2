"""Breakers, compared with a plain count of failures in a row, on a clock that the test moves."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.servers import Server, parse_servers
from proxy.upstream.breaker import Breakers

SERVERS = parse_servers(
    "one: {url: 'http://a.test/v1', token: t, model: m, breaker: {failures: 1, seconds: 30}}\n"
    "three: {url: 'http://b.test/v1', token: t, model: m, breaker: {failures: 3, seconds: 7}}\n"
    "never: {url: 'http://c.test/v1', token: t, model: m, breaker: {failures: 0}}\n"
)
steps = st.lists(
    st.tuples(
        st.sampled_from(sorted(SERVERS)), st.sampled_from(["failed", "succeeded"]), st.sampled_from([0, 1, 7, 30])
    ),
    max_size=12,
)


class Plain:
    """A server's failures in a row, and until when it is kept out."""

    def __init__(self, server: Server) -> None:
        self.most, self.seconds = server.breaker
        self.in_a_row, self.until = 0, 0.0

    def failed(self, now: float) -> None:
        self.in_a_row += 1
        if self.most and self.in_a_row >= self.most:
            self.until = now + self.seconds

    def succeeded(self, _now: float) -> None:
        self.in_a_row, self.until = 0, 0.0


@given(steps)
def test_only_failures_in_a_row_keep_a_server_out_and_a_success_heals(taken: list[Any]) -> None:
    now = 1000.0
    breakers, plain = Breakers(lambda: now), {name: Plain(server) for name, server in SERVERS.items()}
    for name, what, seconds in taken:
        getattr(breakers, what)(SERVERS[name])
        getattr(plain[name], what)(now)
        for each, server in SERVERS.items():
            assert breakers.out_for(server) == max(0.0, plain[each].until - now)
        now += seconds
