"""Owns phone numbers: E.164 mobile numbers of the six countries, and no others.

Two rules hold at once: the numbering plan of `phonenumbers` says that the number can
exist, and the ranges below (mobile numbers of each country) that a code can reach a
person there.
"""

from __future__ import annotations

import re

import msgspec
import phonenumbers

COUNTRIES = ("TH", "ID", "MY", "VN", "SG", "PH")

_E164 = re.compile(r"\+[1-9][0-9]{1,14}", re.ASCII)

_MOBILE = {
    "TH": re.compile(r"\+66[689][0-9]{8}"),
    "SG": re.compile(r"\+65[89][0-9]{7}"),
    "ID": re.compile(r"\+628[0-9]{8,11}"),
    "MY": re.compile(r"\+601[0-9]{8,9}"),
    "PH": re.compile(r"\+639[0-9]{9}"),
    "VN": re.compile(r"\+84[35789][0-9]{8}"),
}
assert set(_MOBILE) == set(COUNTRIES)


class PhoneRefused(ValueError):
    """Says in one sentence, without the number, what is wrong with it."""


class Phone(msgspec.Struct, frozen=True):
    """e164: as `+66812345678`. country: one of COUNTRIES."""

    e164: str
    country: str


def parse_phone(text: str) -> Phone:
    """`text` has to be E.164 already: spaces or a trunk zero are refused.

    Raises: PhoneRefused.
    """
    if _E164.fullmatch(text) is None:
        raise PhoneRefused("not an international number as in +66812345678")
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException as error:
        raise PhoneRefused("not a number of any country") from error
    country = phonenumbers.region_code_for_country_code(number.country_code or 0)
    if country not in COUNTRIES:
        raise PhoneRefused("numbers of this country are not served")
    if not phonenumbers.is_valid_number(number):
        raise PhoneRefused("this number does not exist")
    if _MOBILE[country].fullmatch(text) is None:
        raise PhoneRefused("not a mobile number")
    return Phone(text, country)
