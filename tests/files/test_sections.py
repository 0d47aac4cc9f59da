"""Sections of a configuration that a plugin's command reads beside the core's."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunecore.errors import UsageError
from prunecore.files import values
from prunecore.files.config import read_config

OTHERS = {"data": {"name": values.read_text, "root": values.read_path}, "train": {}}


def test_paths_of_a_section_start_at_the_file_s_folder(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: {name: resnet18}\ndata: {name: CIFAR10, root: images}\n")
    config = read_config(file, OTHERS)
    assert config.model.name == "resnet18"
    assert config.others == {"data": {"name": "CIFAR10", "root": tmp_path / "images"}, "train": {}}


@pytest.mark.parametrize(
    ("text", "others", "says"),
    [
        ("data: {nam: x}", OTHERS, "job.yaml: data: Unknown key 'nam'. Did you mean 'name'?"),
        ("data: {name: 3}", OTHERS, "job.yaml: data: name: text belongs here, not 3"),
        ("data: {name: x}", None, "job.yaml: Unknown key 'data'"),
        ("dat: {name: x}", OTHERS, "job.yaml: Unknown key 'dat'. Did you mean 'data'?"),
    ],
)
def test_what_is_wrong_in_one_says_where(tmp_path: Path, text: str, others, says: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_config(file, others)
    assert says in str(raised.value)
