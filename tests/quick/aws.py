"""What botocore and moto work out anew for each client and each answer, worked out once: half of a test with moto.

Its one rule: what a test sees stays the same; each function here gives what the library's own gives.
"""

import argparse
import functools
import gettext
from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore import hooks, loaders, useragent
from botocore.utils import EVENT_ALIASES, merge_dicts
from moto.core.serialize import BaseJSONSerializer
from moto.dynamodb.models.dynamo_type import Item, serializer
from moto.dynamodb.models.utilities import find_nested_key


def read_models_once(patch: pytest.MonkeyPatch) -> None:
    """Every session of boto3 lists all services and reads the model of one."""
    patch.setattr("botocore.session.create_loader", functools.cache(loaders.create_loader))
    patch.setattr(
        loaders.JSONFileLoader, "load_file", staticmethod(functools.cache(loaders.JSONFileLoader().load_file))
    )


def register_handlers_quickly(patch: pytest.MonkeyPatch) -> None:
    """Every session registers some 140 handlers: it looks at each one's signature, and translates each event's name."""
    takes_keywords: Callable[[Any], Any] = functools.cache(hooks.accepts_kwargs)
    names: dict[str, str] = {}
    begin: Callable[..., None] = hooks.EventAliaser.__init__

    def with_known_names(self: Any, event_emitter: Any, event_aliases: Any = None) -> None:
        begin(self, event_emitter, event_aliases)
        if event_aliases is None or event_aliases == EVENT_ALIASES:
            self._alias_name_cache = names

    def of_function(handler: Any) -> Any:
        # A bound method keeps its object: what is kept here is the function.
        return takes_keywords(getattr(handler, "__func__", handler))

    patch.setattr(hooks, "accepts_kwargs", of_function)
    patch.setattr(hooks.EventAliaser, "__init__", with_known_names)


def write_attributes_as_they_are(patch: pytest.MonkeyPatch) -> None:
    """Moto looks for ten members under several names in each value of DynamoDB, which it has as it must be written."""
    write_structure: Callable[..., None] = BaseJSONSerializer._serialize_type_structure  # pyright: ignore[reportPrivateUsage]

    def as_it_is(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if key and shape.name == "AttributeValue" and _is_written(value):
            serialized[self.get_serialized_name(shape, key)] = value
        else:
            write_structure(self, serialized, value, shape, key)

    patch.setattr(BaseJSONSerializer, "_serialize_type_structure", as_it_is)


def read_an_item_once(patch: pytest.MonkeyPatch) -> None:
    """Moto reads a whole item again for each attribute that a projection names."""

    def project(self: Item, projection_expressions: list[list[str]]) -> Any:
        whole, result = self.to_regular_json(), dict[str, Any]()
        for expression in projection_expressions:
            merge_dicts(result, find_nested_key(expression, whole))
        written: Any = serializer.serialize(result)
        return Item(self.hash_key, self.range_key, attrs=written["M"])

    patch.setattr(Item, "project", project)


def write_texts_once(patch: pytest.MonkeyPatch) -> None:
    """A parser of arguments looks for translations on the disk; a call of AWS says who asks, sign by sign."""
    patch.setattr(argparse, "_", functools.cache(gettext.gettext))
    name = "sanitize_user_agent_string_component"
    patch.setattr(useragent, name, functools.cache(getattr(useragent, name)))


def _is_written(value: Any) -> bool:
    """Whether it is a value as JSON has it: not an object of moto's, nothing binary in it."""
    if not isinstance(value, dict) or len(cast("dict[str, Any]", value)) != 1:
        return False
    ((kind, inner),) = cast("dict[str, Any]", value).items()
    if kind in ("S", "N", "BOOL", "NULL"):
        return isinstance(inner, str | bool)
    if kind in ("SS", "NS"):
        return all(isinstance(each, str) for each in inner)
    if kind in ("L", "M"):
        return all(_is_written(each) for each in (inner if kind == "L" else inner.values()))
    return False
