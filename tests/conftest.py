"""Fixtures of every suite. Its one rule: no test can reach, or be changed by, the AWS account of whoever runs it."""

import gc
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.examples import OF_EVERY_RUN
from tests.fakes import say_what_was_used
from tests.groups import GroupScheduling, group_of, place_of
from tests.quick.aws import (
    read_an_item_once,
    read_models_once,
    register_handlers_quickly,
    write_attributes_as_they_are,
    write_texts_once,
)
from tests.quick.collection import begin_apart
from tests.quick.tls import read_certificates_of_httpx_once, read_no_certificates
from tests.quick.xdist import tell_once

# A slow machine is no reason to fail; in CI the same examples run every time. `thorough` tries ten thousand of each.
settings.register_profile("dev", deadline=None, max_examples=OF_EVERY_RUN)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="try every line of docs/faults.md, not a few")
    parser.addoption(
        "--soak", type=float, metavar="SECONDS", help="how long faults come at random (60 with --all-faults)"
    )
    parser.addoption(
        "--outage", type=float, metavar="SECONDS", help="how long the bus takes nothing (60 with --all-faults)"
    )
    parser.addoption("--seed", type=int, default=1, help="of what comes at random in a soak")
    parser.addoption("--write-page", action="store_true", help="write docs/faults.md anew from its table")


def pytest_configure(config: pytest.Config) -> None:
    tell_once(config)
    begin_apart(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are collected, and live as long as the run: the garbage collector need not look at them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # what tests make is gone at once, or with the next thousands of objects


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest. The order is the same wherever the collection began."""
    items.sort(key=lambda item: (place_of(group_of(item.nodeid)), item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Share the tests among workers by their groups."""
    return GroupScheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def no_aws_account() -> Iterator[None]:
    """Credentials that are good for emulators only, a region, and none of the caller's AWS settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(autouse=True, scope="session")
def quick() -> Iterator[None]:
    """What is the same for each client and each answer is worked out once."""
    with pytest.MonkeyPatch.context() as patch:
        read_models_once(patch)
        register_handlers_quickly(patch)
        write_attributes_as_they_are(patch)
        read_an_item_once(patch)
        write_texts_once(patch)
        read_no_certificates(patch)
        read_certificates_of_httpx_once(patch)
        yield


@pytest.fixture(autouse=True, scope="session")
def moto_says_what_was_used() -> None:
    """Of whatever has been done in moto's DynamoDB."""
    say_what_was_used()
