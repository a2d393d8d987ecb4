"""All commands, by group, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError

from tidegate import __version__
from tidegate.cli.options import COMMON
from tidegate.core.errors import BadInput, TidegateError
from tidegate.core.printable import one_line

app = App(
    name="tidegate",
    help="Runs every update as a randomized trial, within a budget of harm that you declare.",
    version=__version__,
    print_error=False,
    exit_on_error=False,
    result_action="return_value",
    default_parameter=COMMON,
)

for _path, _name, _help in (
    ("tidegate.cli.demo:demo", "demo", "Show the main job: a good release to everyone, a faulty one contained."),
    ("tidegate.cli.init:init", "init", "Make a control plane: keys, signed repository, log."),
    ("tidegate.cli.serve:serve", "serve", "Run the control plane."),
    ("tidegate.cli.status:status", "status", "Show devices, releases and rollouts at a glance."),
    ("tidegate.cli.plan:plan", "plan", "Forecast a rollout: can it be done, how long it takes, the ways out."),
    ("tidegate.cli.simulate:simulate", "simulate", "Play a scenario on a made-up fleet, many times."),
    ("tidegate.cli.signal:signal", "signal", "Say that a device is down, whatever it reports itself."),
    ("tidegate.cli.enrol:enrol", "enrol", "Enrol this machine, or a directory standing for one, as a device."),
    ("tidegate.cli.session:login", "login", "Log in as a named operator, here or from another machine."),
    ("tidegate.cli.session:logout", "logout", "End your session."),
    (
        "tidegate.cli.conformance:conformance",
        "conformance",
        "What others demand, what answers it, and the evidence here.",
    ),
    ("tidegate.cli.compare:compare", "compare", "Compare rollout policies on one scenario, or several scenarios."),
):
    app.command(_path, name=_name, help=_help)
for _path, _name, _help in (
    ("tidegate.cli.tokens:app", "token", "Enrolment tokens."),
    ("tidegate.cli.agent:app", "agent", "Run the device's agent."),
    ("tidegate.cli.keys:app", "keys", "Signing keys: create, list, rotate, revoke; sign and hand in changes."),
    ("tidegate.cli.emergency:app", "emergency", "Stop releases with release keys alone, without any server."),
    ("tidegate.cli.releases:app", "release", "Create, sign and list releases."),
    ("tidegate.cli.gate:app", "gate", "Try a release before any device sees it; sign what was seen."),
    ("tidegate.cli.evidence:app", "evidence", "Attestations of a release: verify, show, hand in; their policy."),
    ("tidegate.cli.rollouts:app", "rollout", "Start, watch and steer rollouts."),
    ("tidegate.cli.devices:app", "device", "List devices, revoke one; ask why one has or has not been updated."),
    ("tidegate.cli.inventory:app", "inventory", "Labels and devices by the million: bring in, count, write out."),
    ("tidegate.cli.operators:app", "operator", "Named accounts of operators, and what each may do."),
    ("tidegate.cli.approve:app", "approve", "Grant or refuse what another operator asked for."),
    ("tidegate.cli.tls:app", "tls", "TLS for trials: a certificate authority of your own, and certificates."),
    ("tidegate.cli.policy:app", "policy", "What one operator may not do alone, and what devices must prove."),
    ("tidegate.cli.exposure:app", "exposure", "Which services fall if a vendor fails, and what would change that."),
    ("tidegate.cli.backup:app", "backup", "Back up a control plane, verify a backup, restore one."),
    ("tidegate.cli.bench:app", "bench", "Load a control plane with devices that speak the real protocol."),
    ("tidegate.cli.ledger:app", "ledger", "Verify the ledger, prove an entry, watch it grow."),
    ("tidegate.cli.contingency:app", "contingency", "Check contingency plans; pack them for when everything is down."),
    ("tidegate.cli.drill:app", "drill", "Try contingency plans with a clock: on a real test fleet, or at a table."),
    ("tidegate.cli.incident:app", "incident", "Incidents: the record, the legal clocks, the reports."),
    ("tidegate.cli.loss:app", "loss", "What an outage costs, with ranges, and what a budget, a cap or a vendor saves."),
    ("tidegate.cli.notice:app", "notice", "Public notices: drafted from the record, approved by name, then published."),
    ("tidegate.cli.recovery_queue:app", "recovery", "Schedule the repair of devices that need hands, and work it off."),
    ("tidegate.cli.timeline:app", "timeline", "A signed account of who was exposed to what, when; and its check."),
):
    app.command(_path, name=_name, help=_help)


def run(tokens: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 the answer is no, 2 usage or bad input."""
    try:
        code = app(tokens)
    except CycloptsError as error:
        _say(str(error) + " (see --help)")
        sys.exit(2)
    except BadInput as error:
        _say(str(error))
        sys.exit(2)
    except TidegateError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone (as `| head` does): no error, and nothing more to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _say(sentence: str) -> None:
    print(f"tidegate: {one_line(sentence)}", file=sys.stderr)
