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


@settings(deadline=None)
@given(st.text(max_size=600), st.text(max_size=600))
def test_nothing_else_gets_through(parent: str, state: str) -> None:
    found = w3c_headers({"traceparent": parent, "tracestate": state})
    assert all(len(value) <= 512 and value.isascii() and value.isprintable() for value in found.values())
    context = xray_context(parent)
    assert context is None or len(context.header) <= 500
