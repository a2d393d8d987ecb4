"""Backstage's catalogue (catalog-info.yaml): dependsOn, owner; k of n by an annotation, else everything is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tidegate.core.errors import BadInput
from tidegate.exposure.imports.result import PRIVILEGES, Imported, Json, at_least_of, needs_of, part, read_bytes, word

READ = ("component", "resource", "api", "system")
PREFIX = "tidegate.dev/"
AT_LEAST, VENDOR, PRIVILEGE, VALUE = (PREFIX + key for key in ("at-least", "vendor", "privilege", "value-per-h"))


def read_backstage(paths: Sequence[Path]) -> Imported:
    """Read catalogue files, each with one entity or several. Raises BadInput where one is no YAML."""
    found, entities = Imported(), dict[str, Json]()
    for path in paths:
        try:
            documents = list(yaml.safe_load_all(read_bytes(path)))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BadInput(f"{path}: no YAML: {' '.join(str(error).split())}") from error
        for place, entity in enumerate(documents, 1):
            _take(entity, f"{path.name} document {place}", entities, found)
    names = _names(entities)
    for ref in entities:
        _service(ref, entities, names, found)
    return found


def _take(entity: Any, where: str, entities: dict[str, Json], found: Imported) -> None:
    if entity is None:
        return
    if not isinstance(entity, dict) or not isinstance(entity.get("metadata"), dict):
        found.miss(where, "is no entity: it has no metadata")
        return
    kind, name = word(entity, "kind").lower(), word(entity["metadata"], "name")
    if kind not in READ or not name:
        found.miss(where, f"kind {word(entity, 'kind') or '(none)'} {name} says nothing of what needs what")
        return
    ref = f"{kind}:{(word(entity['metadata'], 'namespace') or 'default').lower()}/{name.lower()}"
    if ref in entities:
        found.miss(where, f"{ref} stands twice; the first is taken")
        return
    entities[ref] = entity


def _names(entities: dict[str, Json]) -> dict[str, str]:
    """Call each by its name, or by its whole reference where several share one."""
    plain = {ref: word(entity["metadata"], "name") for ref, entity in entities.items()}
    several = {name for name in plain.values() if list(plain.values()).count(name) > 1}
    return {ref: ref.replace(":", "-", 1) if name in several else name for ref, name in plain.items()}


def _service(ref: str, entities: dict[str, Json], names: dict[str, str], found: Imported) -> None:
    entity, name = entities[ref], names[ref]
    spec = part(entity, "spec")
    annotations = part(entity["metadata"], "annotations")
    inner = [
        _need(one, "component", entities, names, name, found)
        for key in ("dependsOn", "consumesApis")
        for one in (spec.get(key) or [] if isinstance(spec.get(key) or [], list) else [])
        if isinstance(one, str)
    ]
    inner += [f"service:{names[other]}" for other in _parts(ref, entities)]
    vendor, privilege = word(annotations, VENDOR), word(annotations, PRIVILEGE)
    if privilege and privilege not in PRIVILEGES:
        found.miss(name, f"{PRIVILEGE} {privilege!r} is not one of {', '.join(PRIVILEGES)}")
        privilege = ""
    own: list[str] = []
    if vendor or not inner:
        found.component(name, vendor, privilege)
        own = [f"component:{name}"]
    least = at_least_of(word(annotations, AT_LEAST), len(inner), name, found)
    service: Json = {"needs": needs_of(own, inner, least)}
    if word(spec, "owner"):
        service["owner"] = word(spec, "owner")
    if value := word(annotations, VALUE):
        try:
            service["value_per_h"] = float(value)
        except ValueError:
            found.miss(name, f"{VALUE} {value!r} is no number")
    found.estate["services"][name] = service
    found.count("entities")


def _parts(ref: str, entities: dict[str, Json]) -> list[str]:
    """A system needs its parts: what names it in spec.system."""
    if not ref.startswith("system:"):
        return []
    own = ref.partition(":")[2]
    found = []
    for other, entity in entities.items():
        spec = part(entity, "spec")
        named = word(spec, "system").lower().removeprefix("system:")
        if named and (named if "/" in named else f"default/{named}") == own:
            found.append(other)
    return found


def _need(text: str, kind: str, entities: dict[str, Json], names: dict[str, str], name: str, found: Imported) -> str:
    """Resolve a reference [kind:][namespace/]name; what is not in the catalogue counts as unknown."""
    prefix, colon, rest = text.lower().partition(":")
    where = rest if colon else prefix
    where = where if "/" in where else f"default/{where}"
    kinds = [prefix] if colon else [kind, "api", "resource"]
    for one in kinds:
        if f"{one}:{where}" in entities:
            return f"service:{names[f'{one}:{where}']}"
    found.miss(name, f"depends on {text!r}, which is not in the catalogue; it counts as unknown")
    found.component(text.replace(":", "-"))
    return f"component:{text.replace(':', '-')}"
