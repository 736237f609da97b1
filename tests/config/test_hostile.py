"""What a config file or an address may hold: one clear line, soon, and no secret in it."""

from __future__ import annotations

import pytest

from imgcls.config.load import load_config
from imgcls.config.run import TrainConfig
from imgcls.config.tune import TuneConfig, without_password
from imgcls.errors import ConfigError

BOMB = "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
FILES = {
    "huge integer": ("optim:\n  epochs: " + "9" * 5000, "optim.epochs"),
    "deep nesting": ("optim:\n  lr: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "recursion": ("optim: &a\n  lr: *a", "not valid YAML"),
    "anchor bomb": (f"- &a0 [{', '.join(['x'] * 9)}]\n{BOMB}", "expected groups"),
    "bomb as a value": ("optim:\n  lr: &a0 [1]\ndata:\n  folds: *a0", "not allowed"),
    "a key twice": ("optim:\n  lr: 1\noptim:\n  lr: 2", "'optim' comes twice"),
    "an option twice": ("optim:\n  lr: 1\n  lr: 2", "'lr' comes twice"),
    "a list as key": ("? [a, b]\n: 1", "a key is no text"),
    "a count of 5,000 digits": ("checkpoint:\n  keep: last:" + "9" * 5000, "checkpoint.keep"),
    "bomb in an option": (
        f"optim:\n  lr:\n  - &a0 [{', '.join(['x'] * 9)}]\n"
        + "".join(f"  {line}\n" for line in BOMB.splitlines()),
        "not allowed",
    ),
    "date": ("2024-01-01: 1", "no such option"),
    "NUL in a path": ('runtime:\n  output: "a\\0b"', "NUL"),
    "NUL in a name": ('data:\n  source: "a\\0b"', "NUL"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_ends_in_one_short_line(tmp_path, case):
    """Whatever YAML allows."""
    content, words = FILES[case]
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, file)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "url",
    ["sqlite:///", "sqlite://", "sqlite:///:memory:", "sqlite+pysqlite:///", "sqlite:///a\0b"],
)
def test_a_study_that_would_not_be_kept_is_refused(url):
    """SQLite without a file lives in memory."""
    with pytest.raises(ConfigError, match="storage"):
        load_config(TuneConfig, options={"search.storage": url})


def test_passwords_are_not_shown_or_kept():
    """Stars stand for them, and are not taken for one."""
    url = "postgresql://me:s3cret@host/db"
    assert load_config(TuneConfig, options={"search.storage": url}).search.storage == url
    assert without_password(url) == "postgresql://me:***@host/db"
    by_name = "postgresql://host/db?user=me&password=s3cret&x=1"
    assert without_password(by_name) == "postgresql://host/db?user=me&password=***&x=1"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"
    with pytest.raises(ConfigError, match="give --storage with it again"):
        load_config(TuneConfig, options={"search.storage": without_password(url)})
