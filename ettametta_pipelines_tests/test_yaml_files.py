from pathlib import Path

import pytest
import yaml

from ettametta_pipelines.yaml_files import read_yaml


def test_a_file_is_parsed_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    original = yaml.safe_load
    monkeypatch.setattr(yaml, "safe_load", lambda text: parsed.append(text) or original(text))
    file = tmp_path / "some.yaml"
    file.write_text("a: [1]")
    first = read_yaml(file)
    first["a"].append(2)
    assert read_yaml(file) == {"a": [1]}, "a caller's changes are its own"
    assert len(parsed) == 1
    file.write_text("a: [1, 2, 3]")
    assert read_yaml(file) == {"a": [1, 2, 3]}


def test_what_cannot_be_parsed_is_refused_every_time(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("a: [")
    for _ in range(2):
        with pytest.raises(yaml.YAMLError):
            read_yaml(file)
    with pytest.raises(OSError, match="absent"):
        read_yaml(tmp_path / "absent.yaml")
