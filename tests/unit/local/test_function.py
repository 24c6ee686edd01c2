from pathlib import Path

import pytest

from local.lambda_.function import Function

CONFIGURATION = {
    "FunctionName": "openai-proxy-ProxyFunction-1",
    "FunctionArn": "arn:aws:lambda:eu-west-1:000000000000:function:openai-proxy-ProxyFunction-1",
    "Handler": "proxy.handler.handler",
    "Runtime": "python3.13",
    "Timeout": 900,
    "MemorySize": 256,
    "Environment": {"Variables": {"EVENT_BUS_NAME": "bus", "AWS_REGION": "mars-1", "SERVERS_FILE": "/opt/x.yaml"}},
    "LoggingConfig": {"LogFormat": "JSON", "LogGroup": "/logs/proxy"},
}


def test_sandbox_has_the_environment_of_the_deployed_function():
    function = Function.from_configuration(CONFIGURATION)
    overrides = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "SERVERS_FILE": "/local.yaml"}
    environment = function.sandbox_environment(Path("/build/Proxy"), Path("/build/Layer/python"), overrides)
    assert environment["EVENT_BUS_NAME"] == "bus"
    assert environment["SERVERS_FILE"] == "/local.yaml", "overrides come last"
    assert environment["AWS_REGION"] == "eu-west-1", "a function cannot set what Lambda reserves"
    assert environment["_HANDLER"] == "proxy.handler.handler"
    assert environment["LAMBDA_TASK_ROOT"] == "/build/Proxy"
    assert environment["PYTHONPATH"] == "/build/Layer/python"
    assert environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "openai-proxy-ProxyFunction-1"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environment["AWS_LAMBDA_LOG_GROUP_NAME"] == "/logs/proxy"
    assert environment["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert environment["TZ"] == ":UTC"
    assert function.timeout == 900.0


def test_optional_parts_have_lambdas_defaults():
    required = {name: CONFIGURATION[name] for name in CONFIGURATION if name not in ("Environment", "LoggingConfig")}
    function = Function.from_configuration(required)
    assert function.environment == {}
    assert function.log_group == "/aws/lambda/openai-proxy-ProxyFunction-1"
    assert function.log_format == "Text"


def test_incomplete_configuration_is_refused():
    with pytest.raises(KeyError, match="Handler"):
        Function.from_configuration({name: CONFIGURATION[name] for name in CONFIGURATION if name != "Handler"})
