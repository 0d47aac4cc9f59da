"""The smallest model of each of timm's families of convolutional networks, pruned by half.

    python benchmarks/timm_models.py [NAME ...] [--write]

Each is pruned by the command that a user would give, and its written set is used in a process that
has neither prunecore nor timm. `--write` writes docs/timm.md; else the table is printed. What does
not work is shown with the error that a user sees.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs/timm.md"
ELSEWHERE = Path(__file__).with_name("elsewhere.py")
LEVEL = 50

# timm's modules of networks that convolve, each with its smallest model and the side of its input.
FAMILIES: Mapping[str, tuple[str, int]] = {
    "byoanet": ("eca_botnext26ts_256", 256),
    "byobnet": ("mobileone_s0", 224),
    "convmixer": ("convmixer_768_32", 224),
    "convnext": ("convnext_atto_rms", 224),
    "cpubone": ("cpubone_nano", 224),
    "csatv2": ("csatv2", 512),
    "cspnet": ("cs3darknet_focus_s", 256),
    "cspnext": ("cspnext_tiny", 224),
    "densenet": ("densenet121", 224),
    "dla": ("dla34", 224),
    "dpn": ("dpn48b", 224),
    "edgenext": ("edgenext_xx_small", 256),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientnet": ("efficientnet_lite0", 224),
    "efficientvit_mit": ("efficientvit_b0", 224),
    "fasternet": ("fasternet_t0", 224),
    "fastvit": ("fastvit_t8", 256),
    "focalnet": ("focalnet_tiny_srf", 224),
    "ghostnet": ("ghostnet_050", 224),
    "hardcorenas": ("hardcorenas_b", 224),
    "hgnet": ("hgnetv2_b0", 224),
    "hrnet": ("hrnet_w18_small", 224),
    "iformer": ("iformer_t", 224),
    "inception_next": ("inception_next_atto", 224),
    "inception_resnet_v2": ("inception_resnet_v2", 299),
    "inception_v3": ("inception_v3", 299),
    "inception_v4": ("inception_v4", 299),
    "lcnetv2": ("lcnetv2_small", 224),
    "lowformer": ("lowformer_b0", 224),
    "mambaout": ("mambaout_femto", 224),
    "metaformer": ("caformer_s18", 224),
    "mlp_mixer": ("gmlp_ti16_224", 224),
    "mobilenetv3": ("mobilenetv3_small_050", 224),
    "mobilenetv5": ("mobilenetv5_base", 256),
    "mobilevit": ("mobilevit_xxs", 256),
    "nasnet": ("nasnetalarge", 331),
    "nextvit": ("nextvit_small", 224),
    "nfnet": ("nf_regnet_b0", 192),
    "pnasnet": ("pnasnet5large", 331),
    "rdnet": ("rdnet_tiny", 224),
    "regnet": ("regnetx_002", 224),
    "repghost": ("repghostnet_050", 224),
    "repvit": ("repvit_m0_9", 224),
    "res2net": ("res2next50", 224),
    "resnest": ("resnest26d", 224),
    "resnet": ("resnet18", 224),
    "resnetv2": ("resnetv2_18", 224),
    "rexnet": ("rexnet_130", 224),
    "selecsls": ("selecsls42", 224),
    "senet": ("legacy_seresnet18", 224),
    "shvit": ("shvit_s1", 224),
    "sknet": ("skresnet18", 224),
    "starnet": ("starnet_s050", 224),
    "swiftformer": ("swiftformer_xs", 224),
    "tresnet": ("tresnet_m", 224),
    "vgg": ("vgg11", 224),
    "visformer": ("visformer_tiny", 224),
    "vovnet": ("ese_vovnet19b_slim_dw", 224),
    "xception": ("legacy_xception", 299),
    "xception_aligned": ("xception41p", 299),
}


def row(family: str, name: str, side: int) -> dict[str, Any]:
    """Prune one model by the command line and use what was written."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *("prunecore", "prune", "timm:create_model", f"--name={name}"),
            *(f"--model-arg=model_name={name}", f"--input-shape=3,{side},{side}"),
            *(f"--level={LEVEL}", f"--output={folder}", "--json"),
        ]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        seconds = time.perf_counter() - start
        found: dict[str, Any] = {"family": family, "name": name, "seconds": seconds}
        if done.returncode:
            return {**found, "error": told(done.stderr)}
        (file,) = Path(folder).glob("*.py")
        elsewhere = [sys.executable, str(ELSEWHERE), str(file)]
        used = subprocess.run(elsewhere, capture_output=True, text=True, env=environment)
        if used.returncode:
            return {**found, "error": f"Elsewhere: {used.stderr.strip().splitlines()[-1]}"}
        lines = len(file.read_text(encoding="utf-8").splitlines())
    return {**found, "report": json.loads(done.stdout), "lines": lines}


def told(stderr: str) -> str:
    """The error of a command, on one line, without where timm is installed."""
    lines = [line for line in stderr.splitlines() if "Warning" not in line]
    text = " ".join(line.strip() for line in lines).removeprefix("Error: ")
    return re.sub(r"[^\s(]*/site-packages/", "", text)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What works, and then what does not, as Markdown."""
    works = [found for found in rows if "report" in found]
    lines = [
        f"Of timm {version('timm')}, {len(works)} of {len(rows)} families work.",
        "",
        "| family | model | parameters, M | MACs, G | difference | lines | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in works:
        before, after = found["report"]["before"], found["report"]["after"]
        params, macs = (
            f"{before[what] / unit:.2f} → {after[what] / unit:.2f}"
            for what, unit in (("params", 1e6), ("macs", 1e9))
        )
        difference = found["report"]["verified"]["max_relative_difference"]
        lines.append(
            f"| {found['family']} | {found['name']} | {params} | {macs} | {difference:.0e} | "
            f"{found['lines']} | {found['seconds']:.0f} |"
        )
    lines += ["", "What does not work, and what it says:", ""]
    lines += ["| family | model | error |", "|---|---|---|"]
    for found in rows:
        if "error" in found:
            error = found["error"].replace("|", "\\|")
            lines.append(f"| {found['family']} | {found['name']} | {error} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Prune the models that are named, or all, and print or write the table."""
    named = [argument for argument in arguments if argument != "--write"]
    chosen = {family: model for family, model in FAMILIES.items() if not named or model[0] in named}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(row, family, *model) for family, model in chosen.items()]
        rows = [job.result() for job in jobs]
    text = table(rows)
    if "--write" in arguments:
        head = PAGE.read_text(encoding="utf-8").partition("Of timm ")[0]
        PAGE.write_text(f"{head}{text}", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
