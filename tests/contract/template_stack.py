"""`template.yaml` as AWS gets it: loops expanded, translated by SAM, the parameters put in and the conditions decided.

What only AWS can know stays a text: `!GetAtt Bus.Arn` reads "${Bus.Arn}", `!Ref Bus` reads "${Bus}".
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from samtranslator.yaml_helper import (  # pyright: ignore[reportMissingTypeStubs]
    intrinsics_multi_constructor,  # pyright: ignore[reportUnknownVariableType]
)

from tests.contract.template_loops import expand

ROOT = Path(__file__).parents[2]
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "111111111111",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "stack",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:111111111111:stack/stack/0a1b2c3d-0000-0000-0000-000000000000",
    "AWS::URLSuffix": "amazonaws.com",
}

Json = dict[str, Any]


class NoManagedPolicies:
    """The template writes its policies out: nothing has to be asked of IAM."""

    def load(self) -> dict[str, str]:
        return {}


class Loader(yaml.CSafeLoader):
    """Reads a template as SAM does, short forms such as `!Ref` included, but with libyaml: in a tenth of the time."""


yaml.add_multi_constructor("!", intrinsics_multi_constructor, Loader)  # pyright: ignore[reportUnknownArgumentType]


@dataclass(frozen=True)
class Stack:
    """The resources and outputs that a deployment with certain parameters would have."""

    resources: Mapping[str, Json]
    outputs: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def of_type(self, type: str) -> dict[str, Json]:
        """Logical id → properties of every resource of `type`."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == type
        }

    def statements(self, function: str) -> list[Json]:
        """Every statement of the role of `function`."""
        role = self.of_type("AWS::Lambda::Function")[function]["Role"]
        properties = self.of_type("AWS::IAM::Role")[role.removeprefix("${").removesuffix(".Arn}")]
        assert not properties.get("ManagedPolicyArns"), "managed policies grant more than is written here"
        return [s for policy in properties["Policies"] for s in policy["PolicyDocument"]["Statement"]]

    def permissions(self, function: str) -> set[tuple[str, str]]:
        """What `function` may do: (action, resource) pairs."""
        return {
            (action, resource)
            for statement in self.statements(function)
            for action in as_list(statement["Action"])
            for resource in as_list(statement["Resource"])
        }


def as_list(value: Any) -> list[Any]:
    """IAM writes a list of one as the one."""
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def parameters_of_template() -> Json:
    """The parameters as declared."""
    return source()["Parameters"]


def source() -> Json:
    """The template as written, its loops expanded. The caller may change it."""
    return copy.deepcopy(_expanded())


def written() -> Json:
    """The template as written, with its loops."""
    return cast("Json", yaml.load((ROOT / "template.yaml").read_text(), Loader))


@cache
def _mappings() -> Json:
    return written()["Mappings"]


@cache
def _expanded() -> Json:
    return expand(written())


@cache
def deployed(**overrides: str) -> Stack:
    """The stack that a deployment with these parameters makes."""
    template = source()
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/functions"
    template["Resources"]["ProxyFunction"]["Properties"]["Code"] = {"S3Bucket": "bucket", "S3Key": "functions"}
    for layer in ("SharedLayer", "TokensLayer"):
        template["Resources"][layer]["Properties"]["ContentUri"] = f"s3://bucket/{layer}"
    parameters = {name: declared["Default"] for name, declared in template["Parameters"].items()} | overrides
    translated = _translated(template, parameters)
    resolver = Resolver(translated.get("Conditions", {}), PSEUDO_PARAMETERS | parameters)
    return Stack(
        resolver.existing(translated["Resources"]),
        {name: output["Value"] for name, output in resolver.existing(translated["Outputs"]).items()},
        parameters,
    )


def _translated(template: Json, parameters: Json) -> Json:
    """The template as SAM's translator makes it. To load that takes half a second, so it is loaded on first use."""
    from samtranslator.translator.transform import (  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
        transform,
    )

    loader: Any = NoManagedPolicies()
    return transform(template, dict(parameters), loader)


class Resolver:
    """Evaluates the intrinsic functions that the template uses; an unknown one is an error."""

    ABSENT = object()

    def __init__(self, conditions: Json, parameters: Mapping[str, Any]) -> None:
        self._conditions = conditions
        self._parameters = parameters

    def existing(self, entries: Json) -> dict[str, Json]:
        """Those whose condition holds, resolved."""
        return {
            name: self.resolve({key: value for key, value in entry.items() if key != "Condition"})
            for name, entry in entries.items()
            if "Condition" not in entry or self._holds({"Condition": entry["Condition"]})
        }

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            resolved = [self.resolve(item) for item in cast("list[Any]", value)]
            return [item for item in resolved if item is not self.ABSENT]
        if not isinstance(value, dict):
            return value
        mapping = cast("Json", value)
        if len(mapping) == 1:
            name, argument = next(iter(mapping.items()))
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name, argument)
        resolved_items = {key: self.resolve(item) for key, item in mapping.items()}
        return {key: item for key, item in resolved_items.items() if item is not self.ABSENT}

    def _call(self, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                return self.ABSENT if argument == "AWS::NoValue" else self._parameters.get(argument, f"${{{argument}}}")
            case "Fn::GetAtt":
                return f"${{{'.'.join(as_list(argument))}}}"
            case "Fn::If":
                return self.resolve(argument[1] if self._holds({"Condition": argument[0]}) else argument[2])
            case "Fn::Sub":
                return self._sub(*as_list(argument))
            case "Fn::FindInMap":  # of a parameter: the others are answered with the loops
                table, row, column = self.resolve(argument)
                return _mappings()[table][row][column]
            case "Fn::Split":
                return self.resolve(argument[1]).split(argument[0])
            case "Fn::Select":
                return _part(self.resolve(argument[1]), int(argument[0]))
            case _:
                raise NotImplementedError(f"teach the resolver {function}")

    def _sub(self, text: str, variables: Json | None = None) -> str:
        known = {**self._parameters, **self.resolve(variables or {})}
        return re.sub(r"\$\{([\w:.]+)\}", lambda match: str(known.get(match[1], match[0])), text)

    def _holds(self, expression: Json) -> bool:
        name, argument = next(iter(expression.items()))
        if name == "Condition":
            return self._holds(self._conditions[argument])
        if name == "Fn::Equals":
            return str(self.resolve(argument[0])) == str(self.resolve(argument[1]))
        if name == "Fn::Not":
            return not self._holds(argument[0])
        assert name == "Fn::And", f"teach the resolver {name}"
        return all(self._holds(part) for part in argument)


def _part(parts: list[str], number: int) -> str:
    """One part of a text that was split; of a text that only AWS knows "${Rule.Arn[2]}"."""
    return parts[number] if number < len(parts) else f"{parts[0].removesuffix('}')}[{number}]}}"
