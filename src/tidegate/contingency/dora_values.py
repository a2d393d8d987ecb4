"""What the fields of a DORA report take: choices, moments, durations, amounts, codes; and how each is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tidegate.contingency.moments import moment_of, moment_text
from tidegate.core.errors import BadInput

CURRENCIES = frozenset(
    re.findall(
        r"[A-Z]{3}",
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD "
        "CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ "
        "GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR "
        "LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN "
        "PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
        "TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG ",
    )
)
MEMBERS = frozenset(
    re.findall(r"[A-Z]{2}", "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK")
)
EEA = MEMBERS | {"IS", "LI", "NO"}
_SPAN = re.compile(r"\d{2,3}:([01]\d|2[0-3]):[0-5]\d")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def is_lei(code: str) -> bool:
    """Say whether a code is a Legal Entity Identifier: 18 characters and two check digits (ISO 17442, ISO 7064)."""
    if not re.fullmatch(r"[A-Z0-9]{18}\d\d", code):
        return False
    return int("".join(str(int(char, 36)) for char in code)) % 97 == 1


def written(number: str, name: str, kind: str, choices: tuple[str, ...], value: Any) -> Any:
    """Give a value as its report writes it. Raises BadInput, naming the field."""
    try:
        return _KINDS[kind](value, choices)
    except (ValueError, BadInput) as error:
        raise BadInput(f"field {number} ({name}) must be {error}") from None


def _text(value: Any, choices: tuple[str, ...]) -> str:
    text = str(value).strip()
    if isinstance(value, list | dict | bool) or not text:
        raise ValueError("a text")
    return text


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    text = str(value).strip().lower()
    text = {"true": "yes", "false": "no"}.get(text, text) if "yes" in choices else text
    if text not in choices:
        raise ValueError(f"one of: {'; '.join(choices)}. It is {str(value)[:60]!r}")
    return text


def _choices(value: Any, choices: tuple[str, ...]) -> list[str]:
    listed = value if isinstance(value, list) else [part for part in str(value).split(";") if part.strip()]
    return list(dict.fromkeys(_choice(one, choices) for one in listed))


def _moment(value: Any, choices: tuple[str, ...]) -> str:
    return moment_text(moment_of("it", str(value)))


def _yesno(value: Any, choices: tuple[str, ...]) -> bool:
    found = {"yes": True, "true": True, "no": False, "false": False}.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"yes or no, not {str(value)[:40]!r}")
    return found


def _whole(value: Any, choices: tuple[str, ...]) -> int:
    text = str(value).replace(",", "").replace("_", "")
    if not text.isdecimal():
        raise ValueError(f"a whole number, not {str(value)[:40]!r}")
    return int(text)


def _number(value: Any) -> float:
    try:
        found = float(str(value).replace("_", ""))
    except ValueError:
        raise ValueError(f"a number, not {str(value)[:40]!r}") from None
    if not 0 <= found < 1e15:
        raise ValueError(f"a number from 0 on, not {str(value)[:40]!r}")
    return found


def _percent(value: Any, choices: tuple[str, ...]) -> float:
    found = _number(str(value).rstrip("% "))
    if found > 100:
        raise ValueError(f"at most 100, not {value}")
    return int(found * 10 + 0.5) / 10  # half up, to one decimal


def _money(value: Any, choices: tuple[str, ...]) -> float:
    return round(_number(value), 3)


def _span(value: Any, choices: tuple[str, ...]) -> str:
    if not _SPAN.fullmatch(str(value)):
        raise ValueError(f"a duration as DD:HH:MM, not {str(value)[:40]!r}")
    return str(value)


def _lei(value: Any, choices: tuple[str, ...]) -> str:
    if not is_lei(str(value)):
        raise ValueError(f"an LEI of 20 characters whose check digits hold, not {str(value)[:40]!r}")
    return str(value)


def _email(value: Any, choices: tuple[str, ...]) -> str:
    if not _EMAIL.fullmatch(str(value)):
        raise ValueError(f"an e-mail address, not {str(value)[:60]!r}")
    return str(value)


def _currency(value: Any, choices: tuple[str, ...]) -> str:
    if str(value) not in CURRENCIES:
        raise ValueError(f"a currency's code as in EUR (ISO 4217), not {str(value)[:40]!r}")
    return str(value)


def _countries(value: Any, choices: tuple[str, ...]) -> list[str]:
    listed = value if isinstance(value, list) else re.split(r"[;,\s]+", str(value).strip())
    for code in listed:
        if not re.fullmatch(r"[A-Z]{2}", str(code)):
            raise ValueError(f"countries' codes as in FR;DE (ISO 3166), not {str(code)[:40]!r}")
    return [str(code) for code in listed]


_KINDS: dict[str, Callable[[Any, tuple[str, ...]], Any]] = {
    "text": _text,
    "choice": _choice,
    "choices": _choices,
    "moment": _moment,
    "yesno": _yesno,
    "whole": _whole,
    "percent": _percent,
    "money": _money,
    "span": _span,
    "lei": _lei,
    "email": _email,
    "currency": _currency,
    "countries": _countries,
}
