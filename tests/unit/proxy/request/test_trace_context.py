"""What is taken for a trace context, and what is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.request.trace_context import w3c_headers, w3c_trace_id, xray_context

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "parent", "sampled"),
    [
        (f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1", "53995c3f42cd8ad8", True),
        (f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0;Lineage=a87bd80c:0|68fd508a:5", "53995c3f42cd8ad8", False),
        (f"Root={ROOT};Sampled=?", None, False),
        (f"Root={ROOT};Parent=no", None, False),
        (f"Root={ROOT}", None, False),
    ],
)  # fmt: skip
def test_a_header_of_lambda(header: str, parent: str | None, sampled: bool) -> None:
    context = xray_context(header)
    assert context is not None
    assert (context.header, context.trace_id, context.parent, context.sampled) == (header, ROOT, parent, sampled)


@pytest.mark.parametrize(
    "header",
    [None, "", "Root=1-a-b;Sampled=1", f"Root={ROOT.upper()}", f"Root={ROOT};x=\n", f"Root={ROOT};x={'y' * 500}", ROOT],
)
def test_what_would_cost_the_event_is_no_header(header: str | None) -> None:
    assert xray_context(header) is None


def test_w3c_headers_pass_as_they_are() -> None:
    state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE, tenant@vendor=a b/c"
    assert w3c_headers({"traceparent": PARENT, "tracestate": state, "x": "y"}) == {
        "traceparent": PARENT,
        "tracestate": state,
    }
    assert w3c_trace_id({"traceparent": PARENT}) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "parent",
    [
        PARENT.upper(),
        PARENT.replace("00-", "ff-", 1),
        PARENT + "-x",
        f"{PARENT},{PARENT}",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT[:-1],
        "",
    ],
)
def test_no_traceparent_no_trace(parent: str) -> None:
    assert w3c_headers({"traceparent": parent, "tracestate": "a=b"}) == {}
    assert w3c_trace_id({"traceparent": parent}) is None


@pytest.mark.parametrize(
    "state", ["a", "A=b", "a=b=c", "a=\u00e9", "a=" + "b" * 300, ",".join(f"k{n}=v" for n in range(33)), "a=b\x7f"]
)
def test_an_unfit_state_costs_only_itself(state: str) -> None:
    assert w3c_headers({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}


def state_of(length: int, members: int) -> str:
    """A state of so many characters, in so many members."""
    sizes = [8] * (members - 1)
    sizes.append(length - sum(sizes) - len(sizes))
    return ",".join(f"k{place:02}=" + "v" * (size - 4) for place, size in enumerate(sizes))


@pytest.mark.parametrize(
    ("length", "members", "fits"), [(512, 32, True), (513, 32, False), (400, 33, False), (258, 1, True)]
)
def test_the_longest_state_and_the_most_members_pass(length: int, members: int, fits: bool) -> None:
    state = state_of(length, members)
    assert (len(state), state.count(",") + 1) == (length, members)
    assert ("tracestate" in w3c_headers({"traceparent": PARENT, "tracestate": state})) == fits


@pytest.mark.parametrize(("length", "fits"), [(500, True), (501, False)])
def test_the_longest_header_that_an_event_may_have_passes(length: int, fits: bool) -> None:
    header = f"Root={ROOT};x=".ljust(length, "y")
    context = xray_context(header)
    assert (context and context.header) == (header if fits else None)


def test_blanks_around_members_and_empty_ones_are_no_fault() -> None:
    state = "a=b\t, ,\tc=d ,"
    assert w3c_headers({"traceparent": PARENT, "tracestate": state})["tracestate"] == state
    assert w3c_headers({"traceparent": PARENT, "tracestate": ""}) == {"traceparent": PARENT}


@settings(deadline=None)
@given(st.text(max_size=600), st.text(max_size=600))
def test_nothing_else_gets_through(parent: str, state: str) -> None:
    found = w3c_headers({"traceparent": parent, "tracestate": state})
    assert all(len(value) <= 512 and value.isascii() and value.isprintable() for value in found.values())
    context = xray_context(parent)
    assert context is None or len(context.header) <= 500
