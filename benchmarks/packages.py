"""Networks of the packages that people install, pruned by the command that a user would give.

    python benchmarks/packages.py [PACKAGE ...] [NAME ...] [--write]

Those of packages.yaml, or those that are named. Each runs in a process of its own, and its written
set is then used in another that has none of the packages. What came of a network is kept in
build/packages, so that a run that was cut off goes on: remove the folder to begin anew. The table
is printed; `--write` writes docs/packages.md of the packages whose networks have all been tried.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/packages.md"
KEPT = HERE.parent / "build/packages"
LEVEL = 30
LIMIT = 900  # seconds for one network

HEAD = f"""# Other packages

Small networks of packages that people install, made with random weights and pruned by {LEVEL} % of
their parameters by `prunecore prune MODEL --model-arg ... --input ...`; `benchmarks/packages.yaml`
has what is given for each. Of large families it is the smallest network, and of transformers a
small configuration. `prunecore-yolo` takes part for ultralytics; the others are followed by their
own forwards. `python -m nox -s packages` makes this page; a package stands here once all of its
networks have been tried.

*Exact* is what was proven, and then used in a process that has neither prunecore nor the package:
loaded strictly, run forward and backward in eval and in training mode. *Refused* is what prunecore
says that it cannot do. *Wrong* is what it wrote otherwise than it should have and what the proof
stopped, *traceback* what ended without a sentence, and *timed out* what took more than
{LIMIT // 60} minutes. *Left whole* counts the layers that keep all of their channels, with the
reason.

"""

OUTCOMES = ("exact", "refused", "wrong", "traceback", "timed out")

# What prunecore says where the fault is its own.
FAULTS = ("a fault of prunecore", "does something else when it is called", "Report it")


@dataclass(frozen=True)
class Network:
    """A network of a package, as the command line takes it.

    Attributes:
        package: its distribution's name.
        name: what it is called there.
        model: MODEL.
        arguments: `--model-arg`.
        inputs: `--input`.
        attends: whether it is left out of the count of convolutional networks.
    """

    package: str
    name: str
    model: str
    arguments: Mapping[str, Any]
    inputs: Sequence[str]
    attends: bool

    @property
    def kept(self) -> Path:
        """The file of what came of it."""
        return KEPT / f"{self.package}.{self.name}.json"

    def command(self, folder: str) -> list[str]:
        """How it is pruned into a folder."""
        return [
            *("prunecore", "prune", self.model, f"--level={LEVEL}", f"--output={folder}"),
            *(f"--model-arg={name}={json.dumps(value)}" for name, value in self.arguments.items()),
            *(f"--input={given}" for given in self.inputs),
            *("--name=" + re.sub(r"\W+", "_", self.name).strip("_"), "--json"),
        ]


def catalogue() -> list[Network]:
    """Every network of packages.yaml, with what its package says of all of its own."""
    packages = yaml.safe_load((HERE / "packages.yaml").read_text(encoding="utf-8"))
    return [
        network(package, name, {**common, **(own or {})}, common["arguments"])
        for package, common in packages.items()
        for name, own in common["networks"].items()
    ]


def network(
    package: str, name: str, given: Mapping[str, Any], common: Mapping[str, Any]
) -> Network:
    """One network, with its name in the place of `NAME`."""
    arguments = {
        key: value.replace("NAME", name) if isinstance(value, str) else value
        for key, value in {**common, **given["arguments"]}.items()
        if key not in given.get("without", ())
    }
    model = given["model"].replace("NAME", name)
    return Network(package, name, model, arguments, given["inputs"], given.get("attends", False))


def found_of(network: Network) -> dict[str, Any]:
    """What came of a network: kept from before, or found out now."""
    if not network.kept.exists():
        start = time.perf_counter()
        found = {"outcome": "timed out", "said": f"It took more than {LIMIT} s.", **tried(network)}
        found["seconds"] = time.perf_counter() - start
        KEPT.mkdir(parents=True, exist_ok=True)
        network.kept.write_text(json.dumps({**asdict(network), **found}), encoding="utf-8")
        print(f"{network.package} {network.name}: {found['outcome']} {found['said']}", flush=True)
    kept: dict[str, Any] = json.loads(network.kept.read_text(encoding="utf-8"))
    return kept


def tried(network: Network) -> dict[str, Any]:
    """Prune a network and use what was written; nothing where that takes too long."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    options: Any = {"capture_output": True, "text": True, "env": environment, "timeout": LIMIT}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(network.command(folder), cwd=HERE.parent, **options)
            if done.returncode:
                return failure(done.stderr)
            (file,) = Path(folder).glob("*.py")
            used = subprocess.run([sys.executable, HERE / "elsewhere.py", file], **options)
        except subprocess.TimeoutExpired:
            return {}
    if used.returncode:
        return {"outcome": "wrong", "said": f"Elsewhere: {used.stderr.strip().splitlines()[-1]}"}
    report = json.loads(done.stdout)
    names = ("before", "after", "left_whole", "verified")
    return {"outcome": "exact", "said": "", **{name: report[name] for name in names}}


def failure(stderr: str) -> dict[str, Any]:
    """Which of the outcomes an error is, and what it says, on one line, without paths."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if "Traceback (most recent call last):" in lines:
        return {"outcome": "traceback", "said": lines[-1]}
    start = max((i for i, line in enumerate(lines) if line.startswith("Error: ")), default=0)
    text = re.sub(r"[^\s(]*/site-packages/", "", " ".join(lines[start:]).removeprefix("Error: "))
    return {
        "outcome": "wrong" if any(fault in text for fault in FAULTS) else "refused",
        "said": text,
    }


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """The counts of all packages, and of each what works and what does not, as Markdown."""
    packages = dict.fromkeys(each["package"] for each in found)
    lines = [
        "| package | networks | " + " | ".join(OUTCOMES) + " | convolutional, exact |",
        "|---|---|" + "---|" * (len(OUTCOMES) + 1),
    ]
    for package in packages:
        of_it = [each for each in found if each["package"] == package]
        lines.append(counts(f"{package} {version(package)}", of_it))
    lines.append(counts("all", found))
    for package in packages:
        lines += ["", f"## {package}"]
        lines += section([each for each in found if each["package"] == package])
    return "\n".join(lines) + "\n"


def counts(title: str, found: Sequence[Mapping[str, Any]]) -> str:
    """A row of the first table."""
    outcomes = [each["outcome"] for each in found]
    convolve = [each["outcome"] for each in found if not each["attends"]]
    numbers = [len(found), *(outcomes.count(outcome) for outcome in OUTCOMES)]
    share = f"{convolve.count('exact')} of {len(convolve)}" if convolve else ""
    return f"| {title} | " + " | ".join(map(str, numbers)) + f" | {share} |"


def section(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tables of one package."""
    works = [each for each in found if each["outcome"] == "exact"]
    lines = []
    if works:
        lines += ["", "| network | parameters, k | difference | left whole |", "|---|---|---|---|"]
    for each in works:
        before, after = (each[when]["params"] / 1e3 for when in ("before", "after"))
        difference = each["verified"]["max_relative_difference"]
        lines.append(
            f"| {each['name']} | {before:.0f} → {after:.0f} | {difference:.0e} | "
            f"{reasons(each['left_whole'])} |"
        )
    if len(works) < len(found):
        lines += ["", "| network | outcome | what it says |", "|---|---|---|"]
    for each in found:
        if each["outcome"] != "exact":
            said = each["said"].replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| {each['name']} | {each['outcome']} | {said} |")
    return lines


def reasons(left_whole: Sequence[Mapping[str, str]]) -> str:
    """How many layers are left whole, and why."""
    told = [entry["reason"] for entry in left_whole]
    numbers = {reason: told.count(reason) for reason in dict.fromkeys(told)}
    text = "; ".join(f"{number}: {reason}" for reason, number in numbers.items())
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: list[str]) -> None:
    """Try the networks that are named, or all, and print the tables or write the page."""
    known = catalogue()
    named = {argument for argument in arguments if argument != "--write"}
    if unknown := named - {word for each in known for word in (each.package, each.name)}:
        sys.exit(f"packages.yaml has no {', '.join(sorted(unknown))}.")
    chosen = [each for each in known if not named or {each.package, each.name} & named]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(found_of, chosen))
    if "--write" not in arguments:
        print(page(found))
        return
    untried = {each.package for each in known if not each.kept.exists()}
    kept = [found_of(each) for each in known if each.package not in untried]
    PAGE.write_text(f"{HEAD}{page(kept)}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
