"""What an estate file may not hold, and that it is refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.core.errors import BadInput
from tidegate.exposure.reading import parse_estate, read_estate

HEAD = (
    "components:\n  edr: {vendor: V1, privilege: kernel}\n"
    "groups:\n  A: {alive: 1, devices: [{count: 2, components: [edr]}]}\n"
)

BAD = {
    "circle": (HEAD + "services:\n  S: {needs: T}\n  T: {needs: {all: [A, S]}}\n", 7, "circle: S -> T -> S"),
    "itself": (HEAD + "services:\n  S: {needs: S}\n", 6, "circle: S -> S"),
    "unknown need": (HEAD + "services:\n  S:\n    needs:\n      all: [A, B]\n", 8, "'B'"),
    "unknown component": (
        "groups:\n  A:\n    devices:\n    - count: 1\n      components: [x]\nservices: {S: A}\n",
        5,
        "'x'",
    ),
    "unknown vendor": ("vendors: [V2]\n" + HEAD + "services: {S: A}\n", 3, "'V1'"),
    "k above n": (HEAD.replace("alive: 1", "alive: 3") + "services: {S: A}\n", 4, "more than its 2 devices"),
    "at_least above n": (HEAD + "services:\n  S: {needs: {at_least: 2, of: [A]}}\n", 6, "more than the 1"),
    "at_least 0": (HEAD + "services:\n  S: {needs: {at_least: 0, of: [A]}}\n", 6, "at least 1"),
    "negative count": (HEAD.replace("count: 2", "count: -2") + "services: {S: A}\n", 4, "at least 0"),
    "count of a half": (HEAD.replace("count: 2", "count: 1.5") + "services: {S: A}\n", 4, "whole number"),
    "count beyond counting": (HEAD.replace("count: 2", "count: 2_000_000_001") + "services: {S: A}\n", 4, "at most"),
    "too many in all": (
        HEAD.replace("}]}", "}, {count: 2_000_000_000}]}") + "services: {S: A}\n",
        1,
        "2,000,000,002 devices",
    ),
    "alive true": (HEAD.replace("alive: 1", "alive: true") + "services: {S: A}\n", 4, "whole number"),
    "alive 120%": (HEAD.replace("alive: 1", "alive: 120%") + "services: {S: A}\n", 4, "from 0% to 100%"),
    "twice": (HEAD + "services:\n  S: A\n  S: A\n", 7, "twice"),
    "twice inside": (HEAD + "services:\n  S: {needs: A, needs: A}\n", 6, "twice"),
    "needs a number of": (HEAD + "services:\n  S: {needs: {at_least: 1}}\n", 6, "with of:"),
    "needs all and any": (HEAD + "services:\n  S: {needs: {all: [A], any: [A]}}\n", 6, "must be a name"),
    "empty list": (HEAD + "services:\n  S: {needs: {all: []}}\n", 6, "empty list"),
    "unknown key": (HEAD + "services:\n  S: {needs: A, value: 3}\n", 6, "no key 'value'"),
    "privilege": (HEAD.replace("kernel", "root") + "services: {S: A}\n", 2, "kernel, system, user"),
    "fails above 1": (HEAD.replace("kernel", "kernel, fails: 1.5") + "services: {S: A}\n", 2, "from 0 to 1"),
    "fails a text": (HEAD.replace("kernel", 'kernel, fails: "0.1"') + "services: {S: A}\n", 2, "a number"),
    "services a list": (HEAD + "services: [S]\n", 5, "must be a mapping"),
    "no services": (HEAD, 1, "no services"),
    "no devices": ("groups:\n  A: {devices: []}\nservices: {S: A}\n", 2, "no devices"),
    "devices and select": (HEAD.replace("alive: 1", "select: a=b") + "services: {S: A}\n", 4, "either"),
    "select without inventory": ("groups:\n  A: {select: site=ATL}\nservices: {S: A}\n", 2, "inventory"),
    "not YAML": ("services: {S: [}\n", 1, "no YAML"),
    "holds itself": ("services: &a {S: {all: [*a]}}\n", 1, "holds itself"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_refused_with_the_line(case: str, tmp_path: Path) -> None:
    text, line, words = BAD[case]
    file = tmp_path / "estate.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as error:
        read_estate(file)
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "3", "a: !!python/object:os.system {}", "\x00", "\ufeff"])
def test_what_is_no_estate_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_estate(text)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_estate(tmp_path / "none.yaml")


def test_names_are_texts_whatever_yaml_would_make_of_them() -> None:
    """Norway, the octal 010 and "on" are names as they stand."""
    estate = parse_estate(
        "components: {010: {vendor: NO, privilege: kernel}}\n"
        "groups: {on: {devices: [{components: [010]}]}}\nservices: {1: {needs: on}}\n"
    )
    assert list(estate.vendors) == ["NO"] and list(estate.services) == ["1"]


def test_groups_choose_devices_by_label() -> None:
    estate = parse_estate(
        "components: {edr: {vendor: V1}}\n"
        "devices:\n"
        "- {count: 5, components: [edr], labels: {service: check-in, site: ATL}}\n"
        "- {count: 3, labels: {service: check-in, site: BOS}}\n"
        "groups:\n"
        "  ATL: {alive: 60%, select: 'service=check-in,site=ATL'}\n"
        "  all: {select: service=check-in}\n"
        "services: {S: ATL}\n"
    )
    assert estate.devices_of(estate.groups["ATL"]) == 5 and estate.groups["ATL"].alive == 3
    assert estate.devices_of(estate.groups["all"]) == 8


def test_one_name_for_a_service_and_a_group() -> None:
    head = "groups: {check-in: {devices: [{count: 1}]}}\n"
    estate = parse_estate(head + "services: {check-in: check-in, T: 'service:check-in'}\n")
    assert str(estate.services["check-in"].needs.kind.value) == "group"  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="both a service and a group"):
        parse_estate(head + "services: {check-in: check-in, T: check-in}\n")
