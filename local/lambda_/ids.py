"""Ids in the forms of AWS. They are no secrets, and asking the kernel for randomness would slow every request down."""

import random


def hex_id(digits: int) -> str:
    """`digits` random hexadecimal digits."""
    return f"{random.getrandbits(4 * digits):0{digits}x}"


def uuid4() -> str:
    """A random UUID, version 4."""
    digits = hex_id(30)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:]}"
