"""Prints which callback works where, as docs/matrix.md has it."""

from tests.contract.matrix import table

print(table())
