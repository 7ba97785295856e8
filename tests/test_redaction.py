from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.errors import SecretError
from wonder_ray.redaction import SECRET_BYTES_MAX, SECRET_CHARS_MIN, Redactor

VALUE = 'p@ss "word" \\ ä/+ 17'
MASK = "[secret:db]"
# Anything that a form of a secret could be told from: no surrogates, which no text that leaves a process holds.
characters = st.characters(exclude_categories=["C", "Z"])
secrets = st.text(characters | st.just(" "), min_size=SECRET_CHARS_MIN + 1, max_size=60).map(lambda value: f"{value.strip():x<9}")


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    for value in values:
        redactor.add("db", value)
    return redactor


@given(secrets, st.text(max_size=20), st.text(max_size=20))
def test_a_secret_is_hidden_wherever_it_stands_in_a_text(value: str, before: str, behind: str) -> None:
    hidden = knowing(value).text(f"{before}{value}{behind}")
    assert value not in hidden.replace(MASK, "")
    assert MASK in hidden


@given(secrets)
def test_a_secret_is_hidden_in_the_ways_that_it_usually_travels(value: str) -> None:
    redactor = knowing(value)
    data = value.encode()
    for form in (
        json.dumps({"key": value}),
        json.dumps({"key": value}, ensure_ascii=False),
        repr(value),
        html.escape(value),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        data.hex(),
        data.hex().upper(),
        f"postgresql://me:{quote(value, safe='')}@db",
    ):
        assert MASK in redactor.text(form), form


@given(secrets, st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_is_hidden_wherever_it_begins_in_a_base64_text(value: str, before: bytes, behind: bytes) -> None:
    redactor = knowing(value)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert MASK in redactor.text(encode(before + value.encode() + behind).decode())


def test_the_lines_of_a_secret_are_hidden_one_by_one() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
    redactor = knowing(key)
    assert redactor.text("MIIEvQIBADANBg") == redactor.text("  kqhkiG9w0BAQEF").strip() == MASK
    assert redactor.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"
    assert redactor.text(key.strip()) == MASK


def test_values_are_hidden_in_keys_and_numbers_too() -> None:
    redactor = knowing("12345678", VALUE)
    value = {VALUE: [f"a {VALUE}", 12345678, 5, 0.12345678, True, None], "b": {"c": 99912345678}}
    assert redactor.value(value) == {MASK: [f"a {MASK}", MASK, 5, f"0.{MASK}", True, None], "b": {"c": f"999{MASK}"}}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
    )
)
def test_a_value_without_secrets_stays_as_it_is(value: object) -> None:
    redactor = knowing("quite-another-value")
    assert redactor.value(value) == value
    assert not redactor.touches(json.dumps(value).encode())


@given(secrets, st.sampled_from(["...", "…", " [17 characters cut]", "\n[17 characters cut]\n", "... (9 characters)"]), st.data())
def test_what_remains_of_a_secret_that_was_cut_is_hidden(value: str, cut: str, data: st.DataObject) -> None:
    value = value.translate(dict.fromkeys(map(ord, ".… "), "x"))  # else the place of the cut is a matter of opinion
    size = data.draw(st.integers(6, len(value) - 1))
    redactor = knowing(value)
    assert value[:size] not in redactor.text(f"it is {value[:size]}{cut}rest").replace(MASK, "")
    assert value[-size:] not in redactor.text(f"start{cut}{value[-size:]} and so on").replace(MASK, "")


def test_the_longer_of_two_secrets_goes_first() -> None:
    redactor = Redactor()
    redactor.add("short", "12345678")
    redactor.add("long", "0123456789")
    assert redactor.text("0123456789 12345678") == "[secret:long] [secret:short]"


def test_nothing_is_done_before_the_first_secret() -> None:
    redactor = Redactor()
    text = "a text"
    assert not redactor.is_needed
    assert redactor.text(text) is text
    assert not redactor.touches(b"anything")


@pytest.mark.parametrize("value", ["", "x" * (SECRET_CHARS_MIN - 1), "x" * (SECRET_BYTES_MAX + 1)])
def test_what_cannot_be_hidden_is_refused_and_not_quoted(value: str) -> None:
    redactor = Redactor()
    with pytest.raises(SecretError) as caught:
        redactor.add("db", value)
    assert not value or value not in str(caught.value)
    assert not redactor.is_needed
