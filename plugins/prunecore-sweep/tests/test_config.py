"""A sweep's section is read into the cells of a grid, and nonsense is told."""

from __future__ import annotations

import socket
from threading import Thread
from typing import Any

import pytest

from prunecore_sweep.cells import fingerprint_of
from prunecore_sweep.config import read_sweep


def test_cells_are_the_product_of_all_axes(job: Any) -> None:
    file = job(
        sweep={
            "networks": [
                "net.py:small",
                {"name": "net.py:small", "arguments": {"num_classes": 10}},
            ],
            "subsets": [{"sub_classes": [1, 2]}, {"subset_name": "odd", "sub_classes": [1, 3, 5]}],
            "levels": [30, 12.5],
            "modes": ["l1-norm", "random"],
            "seeds": [0, 7],
        }
    )
    config, cells = read_sweep(file)
    assert len(cells) == 32
    assert len({cell.name for cell in cells}) == 32
    assert cells[0].name == "small-1_subset-1_30_l1-norm_seed-0"
    assert cells[-1].name == "small-2_odd_12_5_random_seed-7"
    last = cells[-1].job
    assert last.config.pruner.mode == "random"
    assert last.config.pruner.seed == last.train.seed == 7
    assert last.data.sub_classes == (1, 3, 5)
    assert last.config.model.arguments == {"num_classes": 10}
    assert last.config.model.name == str(file.parent / "net.py:small")
    assert len(config.networks) == 2


def test_without_axes_there_is_one_cell_of_the_other_sections(job: Any) -> None:
    file = job(data={"sub_classes": [1, 2], "subset_name": "low"}, sweep={"levels": [40]})
    _, (cell,) = read_sweep(file)
    assert cell.name == "small_low_40_seed-0"
    assert cell.job.data.sub_classes == (1, 2)


def test_a_cell_s_fingerprint_is_that_of_what_it_depends_on(job: Any, folder: Any) -> None:
    _, (one, other) = read_sweep(job())
    mark = fingerprint_of(one, {})
    assert mark != fingerprint_of(other, {})
    assert mark != fingerprint_of(one, {"latency": "eager"})
    (_, (again, _)) = read_sweep(job(sweep={"cpus": 2, "retries": 5}))
    assert fingerprint_of(again, {}) == mark
    (folder / "net.py").write_text((folder / "net.py").read_text().replace("24", "25"))
    assert fingerprint_of(again, {}) != mark


def test_functions_of_one_s_own_count_by_what_their_files_hold(job: Any, folder: Any) -> None:
    for file in (folder / "loss.py", folder / "images.py"):
        file.write_text("def own(*_): ...\n")
    _, (cell, _) = read_sweep(job(train={"loss": "loss.py:own"}, data={"name": "images.py:own"}))
    marks = [fingerprint_of(cell, {})]
    for file in (folder / "loss.py", folder / "images.py"):
        file.write_text("def own(*_): return 1\n")
        marks.append(fingerprint_of(cell, {}))
    assert len({*marks}) == 3


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"levels": []}, "there is no level in the list"),
        ({"levels": [120]}, "level"),
        ({"networks": []}, "there is no network in the list"),
        ({"networks": [{"nam": "net.py:small"}]}, "name"),
        ({"networks": [3]}, "networks: 1"),
        ({"subsets": [3]}, "a subset is a name"),
        ({"subsets": [{"classes": [1]}]}, "sub_classes"),
        ({"seeds": [-1]}, "seed"),
        ({"seeds": []}, "there is nothing in the list"),
        ({"cpus": 0}, "whole number from 1"),
        ({"gpus": -1}, "from 0 to 64"),
        ({"level": [30]}, "levels"),
        (
            {"subsets": [{"sub_classes": [1]}, {"sub_classes": ["one"]}]},
            "data with sweep: subsets: 2: sub_classes: Unknown class 'one'",
        ),
        ({"subsets": ["odd"]}, "data with sweep: subsets: 1: subset_name: Unknown subset 'odd'"),
        ({"modes": ["l1norm"]}, "l1-norm"),
        ({"latency": "eagre"}, "eager"),
        ({"levels": list(range(1, 100)), "seeds": list(range(2000))}, "198,000 cells"),
    ],
)
def test_what_makes_no_sense_is_refused(
    section: dict[str, Any], told: str, job: Any, run: Any
) -> None:
    error = run("sweep", job(sweep=section), exit_code=2).stderr
    assert told in error
    assert len(error.splitlines()) <= 3


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "ray://", "127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_told(address: str, job: Any, run: Any) -> None:
    error = run("sweep", job(), "--ray", address, exit_code=2).stderr
    assert "HOST:PORT" in error or "Nobody answers" in error
    assert len(error.splitlines()) <= 3


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_an_address_where_something_else_answers_is_told(answer: bytes, job: Any, run: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        Thread(target=answering, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        error = run("sweep", job(), "--ray", address, exit_code=2).stderr
    assert error.startswith(f"Error: What answers at {address} is not a Ray cluster, ")
