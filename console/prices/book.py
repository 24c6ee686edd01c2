"""The price book of a command: the owner's two files, as its options name them."""

import argparse
from pathlib import Path

from openai_proxy.pricing.price_book import PriceBook, PriceBookError, load_price_book
from openai_proxy.servers import ServersFileError

from console.errors import ConsoleError


def add_book_options(command: argparse.ArgumentParser) -> None:
    """The files that a price book is made of."""
    command.add_argument(
        "--prices", type=Path, default=Path("prices.yaml"), metavar="FILE", help="your own prices; default: prices.yaml"
    )
    add_servers_file(command)


def add_servers_file(command: argparse.ArgumentParser) -> None:
    """The file that says which prices a server has."""
    file = Path("openai_servers.yaml")
    command.add_argument("--servers-file", type=Path, default=file, metavar="FILE", help=f"default: {file}")


def chosen_book(options: argparse.Namespace) -> PriceBook:
    """The price book of the files that are named. Raises ConsoleError."""
    try:
        return load_price_book(options.prices, options.servers_file)
    except (PriceBookError, ServersFileError) as error:
        raise ConsoleError(str(error)) from error
