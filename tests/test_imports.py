import ast
import graphlib
import runpy
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "mprnet"
# Modules of optional packages, which the project works without.
EXTRAS = {"huggingface_hub", "pillow_heif", "rawpy"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def all_imported(path: Path) -> set[str]:
    """The modules that a file imports, at its top or inside of a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports."""
    return {name for name in all_imported(path) if name in MODULES}


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Modules of which each imports the next one, the last one being the first again; None if there are none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_no_file_imports_itself_by_way_of_others():
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert graph["mprnet.model.weights"] >= {"mprnet.model.network", "mprnet.errors"}
    assert circle(graph) is None


def test_no_package_imports_itself_by_way_of_others():
    packages: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        package = name.split(".")[1:2]
        if len(name.split(".")) > 2:
            imports = {other.split(".")[1] for other in imported(path) if len(other.split(".")) > 2}
            packages.setdefault(package[0], set()).update(imports - set(package))
    assert packages["apps"] >= {"training", "evaluation", "inference"}
    assert circle(packages) is None


@pytest.mark.parametrize("most", [250])
def test_files_are_short(most):
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > most} == {}
    assert sorted(lengths.values())[len(lengths) // 2] < 110


def test_the_dependencies_of_the_hub_are_complete():
    """All packages that hubconf.py and the modules behind it import, except those of extras."""
    remaining, seen, names = [ROOT / "hubconf.py", PACKAGE / "__init__.py"], set(), set()
    while remaining:
        path = remaining.pop()
        if path not in seen:
            seen.add(path)
            names |= {name.partition(".")[0] for name in all_imported(path)}
            remaining += [MODULES[name] for name in imported(path)]
    names -= sys.stdlib_module_names | {"mprnet", *EXTRAS}
    assert names >= {"torch", "PIL", "yaml"}
    assert sorted(runpy.run_path(str(ROOT / "hubconf.py"))["dependencies"]) == sorted(names)
