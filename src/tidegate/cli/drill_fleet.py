"""The real fleet of a drill: the demo's stage, with real agents and a real control plane, and what is asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidegate.cli.demo_content.releases import demo_manifest_parts, good_release
from tidegate.cli.demo_stage import COMPONENT, Stage
from tidegate.cli.pipe import Pipe
from tidegate.cli.release_files import SpeedOptions, create_draft
from tidegate.cli.releases import sign_with, submit
from tidegate.contingency.drill import Drill
from tidegate.core.errors import Refused

MAX_HARMED = 2
OBSERVE_S = 10
PATIENCE_S = 60.0
LOOK_S = 0.1


class Fleet:
    """A stage with a fleet that serves, and what drills do to it."""

    def __init__(self, stage: Stage, drill: Drill) -> None:
        """Start everything, and roll out a good release. The drill's clock does not run yet."""
        self.stage, self.drill = stage, drill
        self.office = stage.start_server()
        self.pipe: Pipe | None = None
        self.seq = 0

    def begin(self, devices: int) -> None:
        """Enrol a fleet and give it a good release."""
        direct = self.office.devices_url
        self.pipe = Pipe(direct)
        self.office.devices_url = self.pipe.url
        self.stage.enrol_devices(devices, self.office)
        self.stage.start_agents()
        self.release(good_release(self.stage.path / "good"), "2026.1")
        self.finish(self.roll_out())
        self.drill.say(f"{devices} devices run a good release, each with an agent of its own.")

    def end(self) -> None:
        """Let go of what is not the stage's."""
        if self.pipe is not None:
            self.pipe.close()

    def release(self, payload: Path, version: str) -> str:
        """Make, sign and hand in a release; give its digest."""
        self.seq += 1
        parts, directory = demo_manifest_parts(), self.stage.path / f"release-{self.seq}"
        draft = create_draft(
            payload,
            directory,
            component=COMPONENT,
            version=version,
            seq=self.seq,
            driver=parts.driver,
            health=parts.health,
            notes="drill",
        )
        sign_with(self.office, draft, directory, self.stage.offline, SpeedOptions.for_trial(3600))
        return str(submit(self.office, draft, directory, "drill")["digest"])

    def roll_out(self) -> str:
        """Start a rollout of the newest release; give its name."""
        body: dict[str, Any] = {
            "component": COMPONENT,
            "release": str(self.seq),
            "max_harmed": MAX_HARMED,
            "placebo_per_treated": 1.0,
            "observe_s": OBSERVE_S,
        }
        return str(self.office.post("/api/v1/rollouts", body, "drill")["rollout"])

    def look(self, rollout: str) -> dict[str, Any]:
        """Give where a rollout stands."""
        return self.office.get(f"/api/v1/rollouts/{rollout}", devices=1)

    def wait(self, what: str, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait until something holds. Raises Refused where it never does."""
        deadline = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > deadline:
                raise Refused(f"the drill waited {patience_s:.0f} s in vain until {what}")
            time.sleep(LOOK_S)

    def finish(self, rollout: str) -> dict[str, Any]:
        """Wait for a rollout's end; give where it stands then."""
        self.wait("a rollout ended", lambda: self.look(rollout)["phase"] in ("halted", "closed"))
        return self.look(rollout)

    def serving(self) -> int:
        """Ask each device itself whether what it protects works; give how many say yes."""
        return sum(device.serves() for device in self.stage.devices)

    def running(self, digest: str) -> int:
        """Count the devices that run a release and serve."""
        return sum(
            device.serves() for device in self.stage.devices if (has := device.installed()) and digest.startswith(has)
        )

    def returned(self, rollout: str, digest: str) -> bool:
        """Say whether the devices that went back run a release again."""
        back = {one["device_id"] for one in self.look(rollout)["where"] if one["standing"] == "reverted"}
        mine = [device.installed() for device in self.stage.devices if device.device_id in back]
        return all(one is not None and digest.startswith(one) for one in mine)

    @property
    def devices(self) -> int:
        """How many there are."""
        return len(self.stage.devices)
