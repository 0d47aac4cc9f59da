"""The project's chores; `python -m nox --list` names them.

uv links files from its cache, so that an environment with torch takes a second after the first.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"  # the first with `requires`
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]

# Each plugin under plugins/, with the plugins that it builds on.
FAMILIES = {
    "sequential": [],
    "resnet": ["sequential"],
    "mobilenet": ["sequential"],
    "squeezenet": ["sequential"],
    "googlenet": ["sequential"],
    "vit": ["sequential"],
    "swin": ["sequential", "mobilenet"],
    "recurrent": ["sequential"],
    "yolo": ["sequential"],
    "onnx": ["sequential"],
    "train": ["sequential"],
    "sweep": ["sequential", "train"],
}

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

# What stands in written files, whose lines are as long as ruff has them by default.
WRITTEN = [
    *Path("plugins").glob("*/src/*/written.py"),
    *Path("plugins").glob("*/src/*/written/*.py"),
]

EXAMPLE = "docs/examples/prunecore-experts"  # the plugin that docs/plugins.md goes through


def install(session: nox.Session, families: list[str], *groups: str) -> None:
    """Install the core and some plugins as a user gets them, not as editable copies."""
    plugins = [f"./plugins/prunecore-{family}" for family in families]
    everything = set(families) == set(FAMILIES)
    tools = [option for group in groups for option in ("--group", group)]
    session.install(".[all]" if everything else ".", *plugins, *tools)
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # torch is compiled once, not at every start


def run_tests(session: nox.Session, *arguments: str) -> None:
    """Run tests side by side, one process a core."""
    session.env["OMP_NUM_THREADS"] = "1"
    session.run("pytest", "-n=auto", "--dist=worksteal", *arguments, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, types and the direction of imports of everything."""
    install(session, list(FAMILIES), "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("ruff", "format", "--check", "--line-length=88", *map(str, WRITTEN))
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests_core(session: nox.Session) -> None:
    """Run the core's tests with no plugin installed."""
    install(session, [], "test")
    run_tests(session, "tests", "--ignore=tests/integration")


@nox.session
@nox.parametrize("family", list(FAMILIES), ids=list(FAMILIES))
def tests_plugin(session: nox.Session, family: str) -> None:
    """Run one plugin's tests with it alone, and what it builds on."""
    install(session, [*FAMILIES[family], family], "test")
    run_tests(session, f"plugins/prunecore-{family}/tests")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/site; a warning is an error."""
    session.install("--group", "docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def example(session: nox.Session) -> None:
    """Run the example plugin's tests, and prune a network with it, with what it builds on alone."""
    install(session, ["sequential"], "test")
    session.install(EXAMPLE)
    session.run("pytest", f"{EXAMPLE}/tests", *session.posargs)
    session.run("python", f"{EXAMPLE}/prune.py")


@nox.session
def parts(session: nox.Session) -> None:
    """Install and uninstall one family: a network of it prunes with it and without."""
    families = ["sequential", "squeezenet"]
    session.install(".", *(f"./plugins/prunecore-{family}" for family in families))
    job = ["prune", "squeezenet1_1", "--level=50", "--input-shape=3,64,64", "--force"]
    job.append(f"--output={session.create_tmp()}")
    for family in reversed(families):
        session.run("prunecore", *job)
        session.run("uv", "pip", "uninstall", f"prunecore-{family}")
    said = session.run("prunecore", *job, success_codes=[1], silent=True)
    if "pip install prunecore-sequential" not in str(said):
        session.error(f"Without a plugin that knows its layers, it says only: {said}")


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every distribution, look into each, and prune where only the wheels are installed."""
    built = Path("build/distributions").absolute()
    shutil.rmtree(built, ignore_errors=True)
    for project in (".", *(f"plugins/prunecore-{family}" for family in FAMILIES)):
        session.run("uv", "build", "--quiet", f"--out-dir={built}", project)
    session.install(*map(str, built.glob("*.whl")))  # by their paths: none is looked up
    elsewhere = Path("benchmarks/elsewhere.py").absolute()
    with session.chdir(session.create_tmp()):
        session.run("prunecore", "--help", silent=True)
        session.run("prunecore", "plugins", "--check", silent=True)
        session.run("prunecore", "prune", "resnet18", "--level=50", "--force")
        session.run("python", str(elsewhere), "resnet18_50.py")
    session.install("--group", "test")
    session.env["DISTRIBUTIONS"] = str(built)
    session.run("pytest", "tests/test_distributions.py", "-m=wheels", *session.posargs)


@nox.session(requires=["lint", "docs", "tests_core", "tests_plugin", "parts", "wheels", "example"])
def tests(session: nox.Session) -> None:
    """Run every check: style, types and pages, each part's tests, then those of all parts."""
    install(session, list(FAMILIES), "test", "demo", "bench")
    run_tests(session, "tests/integration")


@nox.session(python=PYTHONS)
def minimums(session: nox.Session) -> None:
    """Run all tests on each Python: on the oldest with the oldest that it says it works with."""
    if session.python == PYTHONS[0]:
        session.env["UV_RESOLUTION"] = "lowest-direct"
    install(session, list(FAMILIES))
    session.env["UV_RESOLUTION"] = "highest"  # of what only the tests need, old ones do not count
    session.install("--group", "test", "--group", "demo", "--group", "bench")
    run_tests(session, "-W=default::DeprecationWarning")  # old libraries give such of others


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take too long for every day."""
    install(session, list(FAMILIES), "test")
    run_tests(session, "-m=slow")


@nox.session
def random(session: nox.Session) -> None:
    """Cut 10,000 networks that nobody chose, and check each."""
    install(session, list(FAMILIES), "test")
    run_tests(session, "-m=random")


@nox.session
def accelerator(session: nox.Session) -> None:
    """Run the tests of networks on an accelerator, and measure there, where the machine has one."""
    install(session, list(FAMILIES), "test", "bench")
    session.run("pytest", "-m=accelerator", *session.posargs)
    session.run("python", "benchmarks/speed.py", "--device=cuda")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Run 20,000 command lines with hostile flags and files: each ends with a line or two."""
    install(session, list(FAMILIES), "test")
    run_tests(session, "-m=fuzz")


@nox.session
def hostile(session: nox.Session) -> None:
    """Read 100,000 hostile weights files: each is refused in a sentence or two, or loads."""
    install(session, list(FAMILIES), "test")
    run_tests(session, "-m=hostile")


@nox.session
def kill(session: nox.Session) -> None:
    """Kill 1,000 jobs at random moments: no set is half, mixed or lost."""
    install(session, list(FAMILIES), "test")
    run_tests(session, "-m=kill")


@nox.session
def models(session: nox.Session) -> None:
    """Prune every model of torchvision for images and videos, and write docs/models.md."""
    install(session, list(FAMILIES))
    session.run("python", "benchmarks/models.py", *(session.posargs or ["--write"]))


@nox.session
def timm(session: nox.Session) -> None:
    """Prune a small model of each of timm's families, and write docs/timm.md."""
    install(session, list(FAMILIES), "timm")
    session.run("python", "benchmarks/timm_models.py", *(session.posargs or ["--write"]))


@nox.session
def packages(session: nox.Session) -> None:
    """Prune small networks of packages that people install, and write docs/packages.md."""
    install(session, list(FAMILIES), "packages")
    session.install("--no-deps", "ultralytics>=8.4,<9")
    session.env["YOLO_CONFIG_DIR"] = session.create_tmp()
    session.run("python", "benchmarks/packages.py", *(session.posargs or ["--write"]))


@nox.session
def yolo(session: nox.Session) -> None:
    """Prune networks of ultralytics, and train one of the pruned ones there."""
    install(session, list(FAMILIES), "test", "yolo")
    session.install("--no-deps", "ultralytics>=8.4,<9")
    session.env["YOLO_CONFIG_DIR"] = session.create_tmp()
    run_tests(session, "plugins/prunecore-yolo/tests", "-m=yolo")


@nox.session
def demo(session: nox.Session) -> None:
    """Train a small network on handwritten digits, prune it, and use the written file."""
    install(session, list(FAMILIES), "demo")
    session.run("python", "demo/run.py", *session.posargs)


@nox.session
def quality(session: nox.Session) -> None:
    """Measure accuracy after pruning, side by side with Torch-Pruning, and write its tables."""
    install(session, list(FAMILIES), "demo", "bench")
    session.run("python", "benchmarks/accuracy/quality.py", *(session.posargs or ["--write"]))


@nox.session
def adaptation(session: nox.Session) -> None:
    """Measure `adapt` and `compare` on subsets beside a full sweep, and write their table."""
    install(session, list(FAMILIES), "demo")
    session.run("python", "benchmarks/accuracy/adaptation.py", *(session.posargs or ["--write"]))


@nox.session
def photographs(session: nox.Session) -> None:
    """Measure a network with ImageNet's weights after pruning, and write its table."""
    install(session, list(FAMILIES), "bench", "photographs")
    session.run("python", "benchmarks/accuracy/photographs.py", *(session.posargs or ["--write"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed beside other tools, and what else pruning takes, and write docs/speed.md."""
    install(session, list(FAMILIES), "bench")
    for other in ("speed", "kirigami"):
        session.run("python", f"benchmarks/{other}.py", *(session.posargs or ["--write"]))
    write = () if session.posargs else ("--write",)
    for measured in ("memory", "large_weights", "scaling", "start"):
        session.run("python", f"benchmarks/{measured}.py", *write)
