"""The public ToolACE checkpoints: where they are, how they write calls, under which licence. Kept here, so offline.

All are Llama-3.1-8B-Instruct, fine-tuned, and are run as `toolace`: ToolACE-2-8B reaches 80 % on the Berkeley
Function-Calling Leaderboard in its Python-like lists of calls and 17 to 33 % in JSON (its format sensitivity table).
The licence is what its page, or the leaderboard, says of it; None where neither was found to say. The licence of the
base model (Llama 3.1 Community License) stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolace_edge.manifest import Kind

BASE = "meta-llama/Llama-3.1-8B-Instruct"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A repository on the Hugging Face hub. `of` is the checkpoint that a quantization was made from."""

    repo: str
    kind: Kind
    format: str
    licence: str | None
    note: str
    of: str | None = None


_FIRST, _SECOND, _LATEST = (f"Team-ACE/ToolACE-{name}" for name in ("8B", "2-Llama-3.1-8B", "2.5-Llama-3.1-8B"))

CATALOGUE = (
    CatalogueEntry(_LATEST, "checkpoint", "toolace", None, "better over several turns; BF16, convert it"),
    CatalogueEntry(_SECOND, "checkpoint", "toolace", "apache-2.0", "refines its own calls; BF16, convert it"),
    CatalogueEntry(_FIRST, "checkpoint", "toolace", "apache-2.0", "the first one; BF16, convert it"),
    CatalogueEntry("mradermacher/ToolACE-2-Llama-3.1-8B-GGUF", "gguf", "toolace", None, "several kinds", _SECOND),
    CatalogueEntry("Nekuromento/ToolACE-8B-Q8_0-GGUF", "gguf", "toolace", "apache-2.0", "Q8_0, 8.5 GB", _FIRST),
    CatalogueEntry("Nekuromento/ToolACE-8B-Q6_K-GGUF", "gguf", "toolace", "apache-2.0", "Q6_K, 6.6 GB", _FIRST),
    CatalogueEntry("Nekuromento/ToolACE-8B-Q5_K_M-GGUF", "gguf", "toolace", "apache-2.0", "Q5_K_M, 5.7 GB", _FIRST),
    CatalogueEntry("Nekuromento/ToolACE-8B-Q4_K_M-GGUF", "gguf", "toolace", "apache-2.0", "Q4_K_M, 4.9 GB", _FIRST),
    CatalogueEntry("neopolita/toolace-8b-gguf", "gguf", "toolace", None, "Q2_K to Q8_0, F16", _FIRST),
)


def known(repo: str) -> CatalogueEntry | None:
    """The entry of a repository, or of the only one whose last part is `repo`; capitals do not matter."""
    wanted = repo.lower()
    exact = [entry for entry in CATALOGUE if entry.repo.lower() == wanted]
    short = [entry for entry in CATALOGUE if entry.repo.lower().partition("/")[2] == wanted]
    return next(iter(exact or short), None)
