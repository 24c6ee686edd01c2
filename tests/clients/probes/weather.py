"""The tool that the probes offer, and the question that asks for it. The demo server calls it for Paris."""

ASKED = "What is the weather in Rome? Use the tool get_weather."
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"
