"""How `toolace-edge models` shows models: a line or an object each, and what to do with one that was added."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolace_edge.cli.output import echo, to_json
from toolace_edge.errors import ModelError

if TYPE_CHECKING:
    from toolace_edge.manifest import Manifest
    from toolace_edge.model_facts import ModelFacts
    from toolace_edge.registry import Entry


def everything() -> tuple[list[Entry], list[dict[str, str]]]:
    """The bundled models and the store's, and what is wrong with those that cannot be read."""
    from toolace_edge import registry
    from toolace_edge.store import Store

    store, damaged = Store.default(), []
    entries = list(registry.bundled().values())
    for name in store.names():
        try:
            entry = registry.stored(name, store)
            if not entry.path.exists():
                raise ModelError(f"{entry.path} is gone.")
            entries.append(entry)
        except ModelError as error:
            damaged.append({"name": name, "problem": str(error)})
    return entries, damaged


def size_bytes(entry: Entry) -> int:
    return entry.manifest.size_bytes if entry.manifest else entry.size_bytes


def row_json(entry: Entry) -> dict[str, Any]:
    facts = {"name": entry.name, "kind": entry.kind, "size_bytes": size_bytes(entry), "path": str(entry.path)}
    kept = entry.manifest
    if kept is None:
        return {**facts, "origin": "bundled"}
    return {**facts, "origin": "store", "format": kept.format, "source": kept.source, "licence": kept.licence}


def facts_json(entry: Entry, facts: ModelFacts) -> dict[str, Any]:
    """What `show` prints, in its order. The store's word on format and licence goes before the file's own."""
    kept = entry.manifest
    return {
        "name": entry.name,
        "kind": entry.kind,
        "path": str(entry.path),
        "size_bytes": size_bytes(entry),
        "architecture": facts.architecture,
        "context": facts.n_ctx,
        "quantization": facts.quantization,
        "format": (kept.format if kept else None) or facts.format,
        "calibration": facts.calibration or None,
        "licence": (kept.licence if kept else None) or facts.licence,
        "source": kept.source if kept else facts.source,
        "revision": kept.revision if kept else None,
        "added": kept.added if kept else None,
        "link": kept.link if kept else None,
        "files": [{"path": str(file), "sha256": sha256.lower()} for file, sha256 in entry.hashes.items()],
    }


def print_catalogue(as_json: bool) -> None:
    from toolace_edge.catalogue import BASE, CATALOGUE

    if as_json:
        return echo(to_json({"base": BASE, "models": [asdict(entry) for entry in CATALOGUE]}))
    for entry in CATALOGUE:
        licence = entry.licence or "licence not known"
        echo(f"{entry.repo:42} {entry.kind:10} {entry.format:8} {licence:18} {entry.note}")
    echo(f"All were made from {BASE}, whose licence counts too. Fetch one: toolace-edge models pull REPO")
    return None


def print_stored(manifest: Manifest, path: Path, as_json: bool, more: dict[str, Any]) -> None:
    """What is in the store now, and what to do with it."""
    if as_json:
        facts = {"name": manifest.name, "kind": manifest.kind, "format": manifest.format, "licence": manifest.licence}
        return echo(to_json({**facts, "size_bytes": manifest.size_bytes, "path": str(path), **more}))
    echo(f"{manifest.name} is in the store ({manifest.kind}, {manifest.size_bytes / 1e6:.1f} MB).")
    form = f" --format {manifest.format}" if manifest.format else ""
    if manifest.kind == "checkpoint":
        echo("It is a checkpoint, which no engine runs: convert it first.")
        echo(f"  toolace-edge convert gguf {path} {manifest.name}-Q8_0.gguf --kind Q8_0{form}")
    elif manifest.format is None:
        echo("Neither its file nor the catalogue says how it writes calls; name that with --format:")
        echo(f'  toolace-edge run "set a timer for 10 minutes" --model {manifest.name} --format toolace')
    else:
        echo(f'  toolace-edge run "set a timer for 10 minutes" --model {manifest.name}')
    return None
