"""Check `damage`: what is broken is refused by agent, driver and interpreter, and none of them dies of it (RCA-2)."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.core.errors import TidegateError
from tidegate.core.wire import plain
from tidegate.gate.damage import Variant, archives
from tidegate.gate.driving import Step, drive
from tidegate.gate.jobs import Job
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial
from tidegate.trust.payload import describe_payload, verify_payload

MOST_SHOWN = 10
ARCHIVES = 40
_CRASHED = 77
"""libFuzzer's exit code for an input that the function did not survive."""
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
_UNIT = re.compile(r"Base64( begins)?: (\S{1,200})")


class DamageCheck:
    """Zeros, cuts, flipped bits, swapped and doubled parts; coverage-guided where the interpreter is Python."""

    name = "damage"
    question = "Is a damaged payload refused, without a crash?"
    order = 70
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The content, the interpreter and how much to try."""
        return [self.name, trial.candidate.digest, trial.interpreter_inputs(), plain(trial.settings.damage)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Agent, interpreter, driver, and a fuzzer."""
        self._agent(trial, seen)
        say(0.2, "damaged content in the interpreter")
        accepted = self._interpreter(trial, seen)
        say(0.6, "damaged content in the driver")
        self._driver(trial, seen, accepted)
        self._fuzz(trial, seen, say)

    def _agent(self, trial: Trial, seen: Seen) -> None:
        data, payload = trial.candidate.archive.read_bytes(), trial.candidate.manifest.payload
        place = trial.work / "damaged.tar"
        count = 0
        for what, damaged in archives(data, trial.candidate.digest, ARCHIVES):
            count += 1
            place.write_bytes(damaged)
            try:
                verify_payload(place, payload)
                seen.fail(f"the agent takes a damaged archive: {what}")
            except TidegateError:
                pass
            try:  # damaged before it was described: then its digest is right
                describe_payload(damaged)
            except TidegateError:
                pass
            except Exception as error:
                seen.fail(f"reading a damaged archive ({what}) breaks the agent: {type(error).__name__}: {error}")
        seen.figures["archives"] = count

    def _interpreter(self, trial: Trial, seen: Seen) -> list[Variant]:
        variants, attempted = trial.damaged
        refused = crashed = shown = 0
        accepted: list[Variant] = []
        for variant in variants:
            found = attempted[variant.name]
            wrong = ""
            if found.crashed:
                crashed += 1
                wrong = f"does not survive it: {found.sentence}"
            elif found.ok:
                accepted.append(variant)
                wrong = "takes it as good" if variant.must_refuse else ""
            else:
                refused += 1
            if wrong and shown < MOST_SHOWN:
                shown += 1
                interpreter = trial.need_interpreter().name
                seen.fail(
                    f"content with damage ({variant.kind}): {interpreter} {wrong}", file=variant.file, line=variant.line
                )
        seen.figures |= {"variants": len(variants), "refused": refused, "taken": len(accepted), "crashes": crashed}
        return accepted

    def _driver(self, trial: Trial, seen: Seen, accepted: list[Variant]) -> None:
        variants, _ = trial.damaged
        taken = {variant.name for variant in accepted}
        chosen: dict[str, Variant] = {}
        for variant in variants:
            chosen.setdefault(variant.kind, variant)
        digests = {f"{number:064x}": variant for number, variant in enumerate(chosen.values(), start=1)}
        manifest = trial.candidate.manifest
        editions = {name: (manifest, trial.damaged_place / variant.name) for name, variant in digests.items()}
        steps = [Step("check", name) for name in editions]
        for (name, variant), came in zip(digests.items(), drive(trial, editions, steps, go_on=True), strict=False):
            del name
            if came.kind in ("broken", "died"):
                seen.fail(f"content with damage ({variant.kind}) breaks the driver: {came.said}", file=variant.file)
            elif came.kind == "ok" and variant.must_refuse and variant.name not in taken and self._interprets(trial):
                seen.fail(
                    f"the driver takes content with damage ({variant.kind})", file=variant.file, line=variant.line
                )
        seen.figures["variants in the driver"] = len(digests)

    def _interprets(self, trial: Trial) -> bool:
        return trial.candidate.manifest.driver in ("yara", "clamav")

    def _fuzz(self, trial: Trial, seen: Seen, say: Say) -> None:
        driver, seconds = trial.candidate.manifest.driver, trial.settings.damage.fuzz_s
        chosen = next((each for each in trial.settings.interpreter if each.driver == driver and each.fuzz), None)
        if chosen is None or not seconds:
            return
        if importlib.util.find_spec("atheris") is None:
            seen.note("no coverage-guided run: atheris is not installed; the seeded variants alone were tried")
            return
        say(0.8, f"coverage-guided run of {chosen.fuzz}")
        places = [((trial.base / place).resolve(), str((trial.base / place).resolve())) for place in chosen.read]
        path = ":".join(str(Path(p).parent if Path(p).is_file() else p) for _, p in places)
        words = (sys.executable, "-m", "tidegate.gate.inside.fuzz", chosen.fuzz, str(seconds), "/payload")
        own = trial.runner.limits
        limits = replace(own, cpu_s=max(own.cpu_s, 2 * seconds + 30), wall_s=max(own.wall_s, 2 * seconds + 60))
        ran = trial.runner.run(
            Job(words, (*places, (trial.candidate.content, "/payload")), b"", {"PYTHONPATH": path}, limits)
        )
        runs = next((line.split()[-1] for line in ran.stderr.splitlines() if "number_of_executed_units" in line), "0")
        seen.figures["coverage-guided runs"] = int(runs)
        if not ran.ok:
            said = f"{ran.stdout.decode(errors='replace')}\n{ran.stderr}".splitlines()
            places = [line.strip() for line in said if line.strip().startswith("File ") and ", line " in line]
            lines = [line.strip() for line in said if _ERROR.match(line.strip())]
            lines = [f"{lines[0]} ({places[-1]})" if places else lines[0]] if lines else []
            what = lines[0] if lines and ran.code == _CRASHED else f"{ran.sentence} {ran.last_line}"
            unit = next((found for line in said if (found := _UNIT.match(line))), None)
            shown = f"; in base64 it {'begins' if unit[1] else 'is'} {unit[2]}" if unit else ""
            seen.fail(f"a made-up input breaks {chosen.fuzz}: {what[:300]}{shown}")
