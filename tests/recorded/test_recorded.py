"""Results of public functions are those that were recorded; CONTRIBUTING.md says when to record them again."""

import json

import pytest

from tests.recorded.packages import RECORDS
from tests.recorded.recording import differences, plain, stored

CASES = [(package, name) for package, records in RECORDS.items() for name in records]
SHOWN = 20  # lines of a difference


@pytest.mark.parametrize(("package", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_result_is_the_recorded_one(tmp_path, package, name):
    found = json.loads(json.dumps(plain(RECORDS[package][name](tmp_path), tmp_path)))
    lines = differences(stored(package).get(name), found)
    told = "\n".join(lines[:SHOWN])
    assert not lines, f"{len(lines)} differences from tests/recorded/{package}.json, {name}:\n{told}"


def test_every_stored_record_is_made_by_a_function():
    assert {(package, name) for package in RECORDS for name in stored(package)} == set(CASES)


@pytest.mark.parametrize(
    ("stored", "found", "differs"),
    [
        ({"a": 1.0}, {"a": 1.0005}, False),
        ({"a": 1.0}, {"a": 1.002}, True),
        ({"a": 7}, {"a": 8}, True),
        ([100.0, 0.01], [100.0, 0.09], False),
        ([100.0, 0.01], [100.0, 0.2], True),
        ({"a": 1}, {"a": 1, "b": 1}, True),
        ({"a": 1, "b": 1}, {"a": 1}, True),
        ([1, 2], [1, 2, 3], True),
        (True, 1, True),
        (None, 0, True),
        ("covers 9.4 % of 3", "covers 9.5 % of 3", False),
        ("an error of 1.5e-10", "an error of 1.6e-10", False),
        ("an error of 1.5e-10", "an error of 4.5e-10", True),
        ("covers 9.4 % of 3", "covers 9.6 % of 3", True),
        ("covers 9.4 % of 3", "covers 9.4 % of 4", True),
        ("a word", "another word", True),
    ],
)
def test_a_difference_is_found_beyond_the_tolerance(stored, found, differs):
    assert bool(differences(stored, found)) == differs
