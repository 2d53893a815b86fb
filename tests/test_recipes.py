"""Claims about recipes and the paths in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bcdx import config
from bcdx._recipes import expand_path, load_dataset, load_recipe, portable_path, rebase_paths
from bcdx.errors import SettingsError

ROOT = Path(__file__).parents[1]


def write(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "tfrecords").glob("*.toml")), ids=lambda path: path.stem)
def test_dataset_recipe_is_valid_and_opens_with_a_comment(path: Path) -> None:
    """Every tracked dataset recipe loads and says its source and command first."""
    load_recipe(path, config.Dataset)
    head = path.read_text().split("\nsource")[0]
    assert all(word in head for word in ("# Source:", "# Command:", "# Duration:"))


@pytest.mark.parametrize("path", sorted((ROOT / "tuning").glob("*.toml")), ids=lambda path: path.stem)
def test_tuning_recipe_is_valid_and_opens_with_a_comment(path: Path) -> None:
    """Every tracked tuning recipe loads and says its source, command, duration and expected score first."""
    load_recipe(path, config.Tune if "[space]" in path.read_text() else config.Fit)
    head = path.read_text().split("\ndataset")[0]
    assert all(word in head for word in ("# Source:", "# Command:", "# Duration:", "# Expect:"))


@pytest.mark.parametrize("path", sorted((ROOT / "tuning").glob("*.toml")), ids=lambda path: path.stem)
def test_tuning_recipe_names_a_dataset_recipe_that_is_there(path: Path) -> None:
    """And its images are at least as large as the network needs."""
    tune = load_recipe(path, config.Tune if "[space]" in path.read_text() else config.Fit)
    assert max(load_dataset(tune).size, tune.network.image_size or 0) >= 75
    assert "@@" not in path.read_text()


def test_phantom_recipe_spells_out_the_defaults() -> None:
    """`python -m bcdx.tune` and `tuning/phantom.toml` are the same job, dataset included."""
    recipe = load_recipe(ROOT / "tuning/phantom.toml", config.Tune)
    paths = {"dataset", "out"}
    assert config.Tune().model_dump(exclude=paths) == recipe.model_dump(exclude=paths)
    expected, actual = load_dataset(config.Tune()), load_dataset(recipe)
    assert expected.model_dump(exclude={"out"}) == actual.model_dump(exclude={"out"})


def test_paths_are_relative_to_the_recipe_and_out_stands_beside_it(tmp_path: Path) -> None:
    """A recipe can be run from anywhere."""
    recipe = write(tmp_path, 'dataset = "../sets/a.toml"\n[network]\nweights = "w.h5"\n', "search.toml")
    tune = load_recipe(recipe, config.Tune)
    assert tune.dataset == str(tmp_path.parent / "sets" / "a.toml")
    assert (tune.network.weights, tune.out) == (str(tmp_path / "w.h5"), str(tmp_path / "search"))


def test_variables_stay_unexpanded_until_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings keep `$VARS`; only expand_path looks them up."""
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    dataset = load_recipe(write(tmp_path, 'source = "$SOME_FOLDER/x"\n'), config.Dataset)
    assert dataset.source == "$SOME_FOLDER/x"
    assert expand_path(dataset.source) == tmp_path / "x"
    assert portable_path(dataset.source, tmp_path) == "$SOME_FOLDER/x"


def test_unset_or_empty_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one would be the working directory, or the root."""
    monkeypatch.setenv("EMPTY_VARIABLE", "")
    for text in ("$NO_SUCH_VARIABLE/x", "$EMPTY_VARIABLE", "${EMPTY_VARIABLE}/x"):
        with pytest.raises(SettingsError, match="_VARIABLE, which is not set or empty"):
            expand_path(text)


def test_bad_pattern_is_an_error_that_names_its_field() -> None:
    """There are two lists of patterns."""
    with pytest.raises(ValidationError, match=r"skip_description: '\(' is not a regular expression"):
        config.Select(skip_description=("(",))


def test_keyword_is_no_path_unless_written_as_one(tmp_path: Path) -> None:
    """`phantom` is the built-in collection, `./phantom` a folder."""
    assert load_recipe(write(tmp_path, 'source = "phantom"'), config.Dataset).source == "phantom"
    assert load_recipe(write(tmp_path, 'source = "./phantom"'), config.Dataset).source == str(tmp_path / "phantom")


def test_rebased_settings_name_paths_relative_to_the_folder(tmp_path: Path) -> None:
    """What is written into a run folder holds no absolute path."""
    fit = config.Fit(dataset=str(tmp_path / "sets/a.toml"), network=config.Network(weights=str(tmp_path / "w.h5")))
    rebased = rebase_paths(fit, tmp_path / "runs" / "one")
    assert (rebased.dataset, rebased.network.weights) == ("../../sets/a.toml", "../../w.h5")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimizer]\nepochs = 0\n", ["recipe.toml", "optimizer.epochs", "greater than or equal to 1", "received 0"]),
        ("[optimiser]\nepochs = 1\n", ["recipe.toml", "optimiser", "not permitted"]),
        ('[network]\ndepth = "mixed3/mixed0"\n', ["network", "freezes deeper", "mixed0/mixed0"]),
        ('[network]\ndepth = "mixed3"\n', ["network", "DEPTH/BLOCK", "'mixed3'"]),
        ("[network]\nimage_size = 64\n", ["image_size", "at least 75", "received 64"]),
        ("epochs = \n", ["recipe.toml", "not valid TOML"]),
    ],
)
def test_bad_recipe_is_one_line_naming_file_key_and_value(tmp_path: Path, text: str, words: list[str]) -> None:
    """Whoever wrote the recipe finds the place and what was expected."""
    with pytest.raises(SettingsError) as caught:
        load_recipe(write(tmp_path, text), config.Tune)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
