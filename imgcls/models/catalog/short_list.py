"""The models that `--model auto` chooses from where none are named, and where their weights lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import timm

# small and current, each under a licence that allows any use, as timm states it; with the reason
# for each. Those of transformers and of larger ConvNets come last: they cost the most on a CPU.
SHORT_LIST = {
    "mobilenetv4_conv_small.e2400_r224_in1k": "plain convolutions for phones and CPUs",
    "tf_efficientnet_lite0.in1k": "neither swish nor squeeze-excitation: quick on any CPU, in int8",
    "efficientnet_b0.ra4_e3600_r224_in1k": "small, by a long and recent recipe",
    "mobilenetv4_conv_medium.e500_r256_in1k": "as mobilenetv4_conv_small, one size up",
    "regnety_016.tv2_in1k": "a regular ConvNet that GPUs like",
    "resnet18.a1_in1k": "hard to get wrong; few layers, large batches",
    "convnext_nano.in12k_ft_in1k": "features of 12,000 classes of ImageNet",
    "vit_small_patch16_224.augreg_in21k_ft_in1k": "attention; features of 21,000 classes",
}
# as trainers name files of weights
_SUFFIXES = (".safetensors", ".pth", ".pt", ".pth.tar", ".bin")


def weights_in(folder: Path, name: str) -> Path | None:
    """The folder's file or model folder for a model, named as it is, with or without its tag."""
    for stem in dict.fromkeys((name, name.partition(".")[0])):
        places = (folder / stem, *(folder / f"{stem}{suffix}" for suffix in _SUFFIXES))
        found = next((p for p in places if p.is_file() or _is_model_folder(p)), None)
        if found is not None:
            return found
    return None


def models_in(folder: Path) -> tuple[str, ...]:
    """The models of timm that a folder has weights for, by the names of its files and folders."""
    return tuple(dict.fromkeys(_names_in(folder)))


def _names_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), "")
        name = path.name.removesuffix(suffix)
        if timm.is_model(name.partition(".")[0]) and weights_in(folder, name) == path:
            yield name


def _is_model_folder(path: Path) -> bool:
    return path.is_dir() and (path / "model.safetensors").is_file()
