"""Tools of installed packages: the entry point of the group `toolace_edge.tools` that a user names, and no other.

    [project.entry-points."toolace_edge.tools"]
    clock = "clock_tools:tools"          # a function, a list of functions, or a module

Nothing is imported before its name is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from toolace_edge.errors import ToolError
from toolace_edge.functions import from_function
from toolace_edge.sources.python_file import Function, functions_of

GROUP = "toolace_edge.tools"


def load_plugin(name: str) -> tuple[Function, ...]:
    """The tools of one entry point. Raises ToolError."""
    found = [one for one in entry_points(group=GROUP) if one.name == name]
    if not found:
        names = ", ".join(sorted({one.name for one in entry_points(group=GROUP)})) or "none"
        raise ToolError(
            f"No installed package has a plugin {name!r:.80}. There are: {names}.", hint="Install it first."
        )
    if len({one.value for one in found}) > 1:
        owners = " and ".join(sorted(one.dist.name if one.dist else one.value for one in found))
        raise ToolError(f"{owners} both have a plugin {name!r:.80}.", hint="Uninstall one of them.")
    return _functions(_imported(found[0]), found[0])


def _imported(entry: EntryPoint) -> object:
    try:
        loaded: object = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a package may raise anything as it is imported
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        raise ToolError(
            f"The plugin {entry.name} ({entry.value}) cannot be imported: {said}.", hint="Tell its maker."
        ) from error
    return loaded


def _functions(loaded: object, entry: EntryPoint) -> tuple[Function, ...]:
    where = f"The plugin {entry.name} ({entry.value})"
    if isinstance(loaded, ModuleType):
        return functions_of(loaded, where)
    found = tuple(loaded) if isinstance(loaded, list | tuple) else (loaded,)
    for one in found:
        if not callable(one):
            raise ToolError(f"{where} gives {type(one).__name__}, which is no function.", hint="Tell its maker.")
        from_function(one)
    if not found:
        raise ToolError(f"{where} gives no tools.", hint="Tell its maker.")
    return found
