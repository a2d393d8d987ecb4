"""What a rollout means for services: limits and lanes written into it, and what it could take down all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidegate.cli.office import OfficeClient
from tidegate.cli.show import out
from tidegate.core.errors import BadInput
from tidegate.core.wire import plain
from tidegate.exposure.estate import DeviceClass, Estate
from tidegate.exposure.inventory import classes_of
from tidegate.exposure.lanes import bound_rules, rules_of, worst_case
from tidegate.exposure.reading import read_estate

COMPONENTS = "components"
"""The label that may name further components of a device, with ; between."""


def server_inventory(office: OfficeClient) -> list[DeviceClass]:
    """Ask the control plane for its devices: their labels, what is installed, and what a label `components` names."""
    found = office.get("/api/v1/inventory")
    page = found
    while page["next"] is not None:
        page = office.get("/api/v1/inventory", after=page["next"])
        found["classes"] += page["classes"]
    return classes_of(
        {
            "count": row["count"],
            "labels": {label: value for label, value in row["labels"].items() if label != COMPONENTS},
            "components": [*row["components"], *row["labels"].get(COMPONENTS, "").replace(";", " ").split()],
        }
        for row in found["classes"]
    )


def exposure_of(
    office: OfficeClient, estate: Path | None, lanes: str, body: dict[str, Any], approved_by: list[str]
) -> dict[str, Any] | None:
    """Write limits, lanes and who approved into a rollout's request; give what people should know before it starts.

    Raises:
        BadInput: for --lanes auto without an estate, or with one whose groups choose no devices by label.
    """
    if estate is None:
        if lanes == "auto" or approved_by:
            raise BadInput(
                "--lanes auto and --approved-by need --estate FILE: it says which services need which devices"
            )
        return None
    found = read_estate(estate, server_inventory(office))
    rules = rules_of(found) if lanes == "auto" else None
    outlook: dict[str, Any] = {"lanes": lanes, "unbound": [], "unavoidable": {}}
    if rules is not None:
        limits, bound = bound_rules(found, rules)
        if not limits and not bound and not rules.unavoidable:
            raise BadInput(f"{estate}: no group chooses its devices by label (select:), so no rollout can respect it")
        body["limits"], body["lanes"] = plain(limits), plain(bound)
        outlook["unbound"], outlook["unavoidable"] = list(rules.unbound), rules.unavoidable
        outlook["limits"] = {limit.name: limit.at_most for limit in limits}
        outlook["lanes_of"] = {one.service: [lane.name for lane in one.lanes] for one in bound}
    risk = worst_case(found, _reach(found, body["scope"]), body["max_harmed"], rules)
    outlook["could_fall"] = risk
    body["at_risk"] = {name: found.services[name].approver for name in risk}
    body["approved_by"] = approved_by
    return outlook


def _reach(estate: Estate, scope: dict[str, str]) -> dict[str, int]:
    """Count the devices of each group that are in scope; of groups that list devices by number, all."""
    return {
        name: sum(
            estate.classes[row].count
            for row in group.members
            if not group.select or all(estate.classes[row].labels.get(k) == v for k, v in scope.items())
        )
        for name, group in estate.groups.items()
    }


def say_exposure(outlook: dict[str, Any]) -> None:
    """Say what holds, and what could fall."""
    for name, most in outlook.get("limits", {}).items():
        out(f"Group {name}: at most {most:,} of its devices in flight at once, over all rollouts.")
    for service, lanes in outlook.get("lanes_of", {}).items():
        out(f"Service {service}: never two at once of {', '.join(lanes)}.")
    for name in outlook["unbound"]:
        out(f"Group {name} lists its devices by number, so no rollout can respect it; choose them by label (select:).")
    for name in outlook["could_fall"]:
        ways = "; ".join(outlook["unavoidable"].get(name, ())) or "with --lanes auto it could not"
        out(f"Service {name} could fall with this release, in the worst case: {ways}.")
    if not outlook["could_fall"]:
        out("No service falls with this release, whatever it does.")
