"""The house keeps its floors: imports run downwards only, and heavy libraries stay out of the command line's start."""

import ast
from pathlib import Path

FLOORS = [
    "cli",
    "serving",
    "api",
    "reports",
    "dynamic",
    "runs",
    "geometry",
    "engines",
    "benchmarks",
    "analysis",
    "merging",
    "planning",
    "checkpoints",
    "tiny",
    "thinking",
    "folders",
    "toml",
    "escaping",
    "worker",
    "portable",
    "encodings",
    "errors",
    "words",
    "interrupt",
]
ROOMS = {
    "merging": ["adapter", "streaming", "recipes", "coefficients", "methods", "arithmetic"],
    "engines": ["vllm", "local", "remote", "weights", "memory", "base"],
    "dynamic": ["explain", "choosing", "evaluation", "training", "head", "probing", "estimators", "base"],
    "serving": [
        "vllm",
        "upstream",
        "front",
        "opening",
        "app",
        "running",
        "router",
        "chat",
        "service",
        "load",
        "backend",
        "playground",
        "known",
        "levels",
        "metrics",
        "wire",
    ],
    "cli": ["main", "verbs", "running", "config", "options", "rendering"],
}
"""Rooms of a floor, and files among them, from the top: imports run down here, too."""
LISTS = ("cli/verbs", "merging/methods")
"""Folders of one file a piece, all alike, which may be as many as there are."""
SOURCE = Path(__file__).parent.parent / "src" / "mull"


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def test_imports_run_downwards_only():
    upwards = []
    for path in SOURCE.rglob("*.py"):
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for line, module in imports(path):
            parts = module.split(".")
            known = parts[0] == "mull" and len(parts) > 1 and here in FLOORS and parts[1] in FLOORS
            if known and FLOORS.index(parts[1]) < FLOORS.index(here):
                upwards.append(f"{path.relative_to(SOURCE)}:{line} imports {module}")
    assert upwards == []


def test_imports_between_rooms_run_downwards_only():
    upwards = []
    for floor, rooms in ROOMS.items():
        for path in (SOURCE / floor).rglob("*.py"):
            here = path.relative_to(SOURCE / floor).parts[0].removesuffix(".py")
            for line, module in imports(path):
                parts = module.split(".")
                if parts[:2] != ["mull", floor] or len(parts) < 3 or parts[2] not in rooms:
                    continue
                if here in rooms and rooms.index(parts[2]) < rooms.index(here):
                    upwards.append(f"{path.relative_to(SOURCE)}:{line} imports {module}")
    assert upwards == []


def test_no_folder_is_crowded():
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    sizes = {str(folder.relative_to(SOURCE)): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > 13 and name not in LISTS} == {}


def test_analysis_and_merging_know_no_engine_and_checkpoints_no_model_library():
    for folder, banned in {
        "analysis": ("mull.engines", "torch", "transformers"),
        "merging": ("mull.engines", "transformers"),
        "checkpoints": ("transformers",),
        "engines": ("mull.benchmarks",),
    }.items():
        for path in (SOURCE / folder).rglob("*.py"):
            found = [module for _, module in imports(path) if module.startswith(banned)]
            assert not found, f"{path.relative_to(SOURCE)} imports {found}"


def test_every_floor_is_known():
    folders = {path.parent.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py") if path.parent != SOURCE}
    assert folders <= set(FLOORS)


def test_tests_stand_in_the_rooms_of_what_they_test():
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path("training")}
    assert [str(folder) for folder in folders if not (SOURCE / folder).is_dir()] == []
