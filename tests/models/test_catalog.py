"""The catalogue equals timm's list and needs no timm to be read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import platformdirs
import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from imgcls.errors import ModelError
from imgcls.models.catalog import build as build_catalog
from imgcls.models.catalog import read as catalog
from imgcls.models.catalog.read import (
    CURATED,
    get_available_models,
    list_models,
    load_catalog,
    nearest_names,
)
from imgcls.models.licences import licence_text


def test_it_equals_timms_own_lists():
    """Every architecture, every pretrained tag."""
    assert sorted(get_available_models()) == sorted(timm.list_models())
    tagged = {
        f"{e.name}.{tag}" if tag else e.name
        for e in load_catalog().values()
        for tag in e.pretrained_tags
    }
    assert tagged == set(timm.list_pretrained())


def test_each_pretrained_tag_has_the_licence_of_its_weights():
    """As timm says it, for each tag of its list; None where timm says nothing."""
    entries = load_catalog()
    licences = {}
    for full_name in timm.list_pretrained():
        name, _, tag = full_name.partition(".")
        licences[full_name] = entries[name].licences[tag]
        assert licences[full_name] == get_pretrained_cfg(full_name).license, full_name
        assert entries[name].default_tag == get_pretrained_cfg(name).tag
    assert len(licences) == sum(len(entry.licences) for entry in entries.values())
    assert licence_text(licences["resnet50.bamboo"]) == "not stated"


def test_licences_choose_weights():
    """In any case, as globs too; what is left of a model are the weights under these."""
    (model,) = list_models("resnext101_32x4d", family="resnet", licences=["Apache-2.0", "mit"])[:1]
    assert (model.name, model.pretrained_tags) == ("resnext101_32x4d", ("gluon_in1k",))
    assert model.default_tag == "fb_ssl_yfcc100m_ft_in1k"
    found = list_models(licences=["cc-by-nc*"])
    assert {licence for entry in found for licence in entry.licences.values()} == {"cc-by-nc-4.0"}
    unstated = list_models("resnet50", licences=["not stated"])
    assert [entry.pretrained_tags for entry in unstated] == [("bamboo",)]


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "mobilenetv3_small_100", "regnety_002"])
def test_counts_and_sizes_equal_real_models(name):
    """Parameters with timm's own classifier; the input size of its default weights."""
    model = timm.create_model(name)
    entry = load_catalog()[name]
    assert entry.parameters == sum(p.numel() for p in model.parameters())
    assert entry.input_size == model.pretrained_cfg["input_size"]


def test_without_a_pattern_the_curated_families_are_listed():
    """In the order of the table."""
    assert [entry.name for entry in list_models()] == list(CURATED)


@pytest.mark.parametrize(
    ("pattern", "present", "absent"),
    [
        ("vit_tiny_*", "vit_tiny_patch16_224", "deit_tiny_patch16_224"),
        ("LITE0", "tf_efficientnet_lite0", "tf_efficientnet_b0"),
        ("*.dino*", "vit_base_patch16_224", "resnet18"),
        ("in22k", "convnext_tiny", "resnet18"),
    ],
)
def test_a_glob_or_part_of_a_name_searches_all(pattern, present, absent):
    """Names and tags, in any case."""
    names = [entry.name for entry in list_models(pattern)]
    assert present in names
    assert absent not in names


def test_filters_narrow_the_list():
    """Family, pretrained and limit."""
    assert {e.family for e in list_models(family="densenet")} == {"densenet"}
    small = list_models(max_params=2.5, img_size=224)
    assert "mobilenetv3_small_075" in {e.name for e in small}  # not a curated one
    assert all(e.parameters <= 2.5e6 and e.input_size[-1] == 224 for e in small)
    assert all(e.pretrained_tags for e in list_models("resnet", pretrained=True))
    assert len(list_models("resnet", limit=3)) == 3
    assert list_models("no-such-thing") == []
    assert nearest_names("resnet19")[0] == "resnet18"


def test_reading_it_imports_neither_torch_nor_timm():
    """list-models answers at once."""
    code = (
        "import sys; from imgcls.models.catalog.read import list_models; list_models('vit');"
        "print([m for m in ('torch', 'timm', 'numpy', 'sklearn', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_timm_has_it_made_again_once(monkeypatch, tmp_path):
    """Built in the cache folder, said aloud, found there the next time; damage is repaired."""
    shipped = json.loads(catalog.SHIPPED.read_text())
    stale = tmp_path / "stale.json"
    stale.write_text(json.dumps({**shipped, "timm": "0.0.1"}))
    monkeypatch.setattr(catalog, "SHIPPED", stale)
    cached = catalog.cache_folder() / f"catalog-timm-{timm.__version__}.json"
    cached.write_text('{"timm": "' + timm.__version__ + '", "models": {"resnet18": [1]}}')
    said = []
    assert list(load_catalog(said.append)) == timm.list_models()
    assert len(said) == 1
    load_catalog(said.append)
    assert len(said) == 1
    assert list(catalog.cache_folder().iterdir()) == [cached]


def test_a_catalogue_of_an_earlier_version_is_made_again(monkeypatch, tmp_path):
    """One that was cached when tags had no licences."""
    shipped = json.loads(catalog.SHIPPED.read_text())
    monkeypatch.setattr(catalog, "SHIPPED", tmp_path / "none.json")
    cached = catalog.cache_folder() / f"catalog-timm-{timm.__version__}.json"
    earlier = {name: [*entry[:3], list(entry[3])] for name, entry in shipped["models"].items()}
    cached.write_text(json.dumps({**shipped, "models": earlier}))
    monkeypatch.setattr(
        catalog, "_rebuild", lambda target: target.write_text(json.dumps(shipped)) and None
    )
    assert load_catalog()["resnet18"].licences["a1_in1k"] == "apache-2.0"


def test_a_catalogue_that_cannot_be_kept_is_said(monkeypatch, tmp_path):
    """With the variable that names another folder."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(catalog, "SHIPPED", tmp_path / "none.json")
    with pytest.raises(ModelError, match="set IMGCLS_CACHE"):
        load_catalog()


def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch, tmp_path):
    """By platformdirs, without folders of an author or of a kind in between."""
    monkeypatch.delenv("IMGCLS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert catalog.cache_folder() == platformdirs.user_cache_path() / "imgcls"
    if sys.platform == "linux":
        assert catalog.cache_folder() == tmp_path / "imgcls"


def test_an_architecture_that_meta_cannot_build_is_counted_for_real(monkeypatch):
    """Some constructors read a tensor's values, which the meta device has not."""
    real = timm.create_model

    def picky(name, **options):
        torch.zeros(1).item()
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", picky)
    assert build_catalog.count_parameters("test_vit") == load_catalog()["test_vit"].parameters


def test_only_news_are_counted_anew(monkeypatch):
    """Unchanged names keep their counts, so another timm costs little."""
    shipped = json.loads(catalog.SHIPPED.read_text())["models"]
    known = {name: entry for name, entry in shipped.items() if name != "test_vit"}
    counted = []
    real = build_catalog.count_parameters
    monkeypatch.setattr(
        build_catalog, "count_parameters", lambda name: counted.append(name) or real(name)
    )
    assert build_catalog.build_catalog(known)["models"] == shipped
    assert counted == ["test_vit"]


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch):
    """HOME is not set and the system knows no such user, as in many containers."""
    for name in ("HOME", "IMGCLS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert catalog.cache_folder().is_relative_to(tempfile.gettempdir())
    assert catalog.list_models("vit_tiny*")
