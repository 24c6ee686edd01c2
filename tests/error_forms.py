"""Errors in forms of their own, as servers put them into the place of a piece of an answer."""

from typing import Any


def own_forms(said: str) -> list[dict[str, Any]]:
    """One error as servers put it into the place of a piece of their answer, without OpenAI's `error`."""
    return [
        {"Error": {"Message": said, "Code": "Throttling"}},
        {"ERROR": said},
        {"errors": [{"message": said}]},
        {"fault": {"faultstring": said, "detail": {"errorcode": "steps.quota"}}},
        {"fault": {"faultstring": said, "type": "policies.ratelimit.QuotaViolation"}},
        {"exception": said},
        {"failure": said},
        {"err": said, "id": "r-1"},
        {"error_code": 17, "message": said},
        {"error_code": 336003, "error_msg": said, "id": "as-1"},
        {"errorType": "Sandbox.Timedout", "errorMessage": said},
        {"detail": said},
        {"detail": [{"loc": ["body"], "msg": said}]},
        {"message": said},
        {"Message": said, "request_id": "r-1"},
        {"__type": "ThrottlingException", "message": said},
        {"type": "server_error", "message": said, "param": None},
        {"status": "error", "message": said},
        {"status": "UNAVAILABLE", "message": said},
        {"code": "Throttling", "message": said},
        {"ok": False, "msg": said},
        {"success": False, "message": said},
        {"type": "about:blank", "title": said, "status": 503},
        {"type": "response.error", "message": said},
        {"id": "", "object": "", "created": 0, "choices": [], "error_code": 17, "error_msg": said},
        {"id": "", "object": "", "choices": None, "base_resp": {"status_code": 1004, "status_msg": said}},
    ]
