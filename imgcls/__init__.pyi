"""Made by `python -m imgcls.api.stub > imgcls/__init__.pyi`; a test keeps it true."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import torch

from imgcls.engine.training.events import Event
from imgcls.jobs.train.start import Begun
from imgcls.results.audit import AuditReport
from imgcls.results.benchmark import BenchmarkReport
from imgcls.results.evaluation import EvalReport, PageReport
from imgcls.results.export import ExportReport
from imgcls.results.models import ModelEntry
from imgcls.results.prediction import PredictReport
from imgcls.results.runs import RunList
from imgcls.results.search import TuneResult
from imgcls.results.training import ImportReport, TrainResult
from imgcls.api.classifier import ImageClassifier as _ImageClassifier
from imgcls.api.model import Model as Model
from imgcls.api.prediction import Prediction as Prediction
from imgcls.config.benchmark import BenchmarkConfig as BenchmarkConfig
from imgcls.config.evaluate import EvaluateConfig as EvaluateConfig
from imgcls.config.export import ExportConfig as ExportConfig
from imgcls.config.import_ import ImportConfig as ImportConfig
from imgcls.config.inspect import InspectConfig as InspectConfig
from imgcls.config.list_models import ListModelsConfig as ListModelsConfig
from imgcls.config.model import ModelConfig as ModelConfig
from imgcls.config.predict import PredictConfig as PredictConfig
from imgcls.config.report import ReportConfig as ReportConfig
from imgcls.config.run import ResumeConfig as ResumeConfig
from imgcls.config.run import TrainConfig as TrainConfig
from imgcls.config.tune import TuneConfig as TuneConfig
from imgcls.engine.checkpoint.folder import take_snapshot as take_snapshot
from imgcls.engine.device.runtime import get_device as get_device
from imgcls.engine.device.runtime import set_seed as set_seed
from imgcls.engine.scoring.evaluation import evaluate_model as evaluate_model
from imgcls.engine.training.selection.trackers import AverageMeter as AverageMeter
from imgcls.engine.training.selection.trackers import MetricTracker as MetricTracker
from imgcls.jobs.benchmark.inference_speed import benchmark_inference_speed as benchmark_inference_speed
from imgcls.jobs.loaded_checkpoint import load_checkpoint as load_checkpoint
from imgcls.jobs.saved_checkpoint import save_checkpoint as save_checkpoint
from imgcls.jobs.train.trainer import Trainer as Trainer
from imgcls.metrics.calculator import MetricsCalculator as MetricsCalculator
from imgcls.metrics.curves import compute_pr_curves as compute_pr_curves
from imgcls.metrics.curves import compute_roc_auc as compute_roc_auc
from imgcls.models.build import create_model as create_model
from imgcls.models.card import model_card as model_card
from imgcls.models.catalog.read import get_available_models as get_available_models
__all__ = [
    "AverageMeter",
    "BenchmarkConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ImageClassifier",
    "ImportConfig",
    "InspectConfig",
    "ListModelsConfig",
    "MetricTracker",
    "MetricsCalculator",
    "Model",
    "ModelConfig",
    "PredictConfig",
    "Prediction",
    "ReportConfig",
    "ResumeConfig",
    "TrainConfig",
    "Trainer",
    "TuneConfig",
    "benchmark",
    "benchmark_inference_speed",
    "compute_pr_curves",
    "compute_roc_auc",
    "create_model",
    "evaluate",
    "evaluate_model",
    "export",
    "get_available_models",
    "get_device",
    "import_checkpoint",
    "inspect",
    "list_models",
    "list_runs",
    "load",
    "load_checkpoint",
    "model_card",
    "predict",
    "report",
    "resume",
    "save_checkpoint",
    "set_seed",
    "take_snapshot",
    "train",
    "tune",
]

def benchmark(
    model: BenchmarkConfig | str | PathLike[str] | Sequence[str | PathLike[str]] = ('resnet18',),
    *,
    device: str | torch.device = 'auto',
    batch_size: int | Sequence[int] | Literal['auto'] = (1,),
    amp: Literal['auto', 'off', 'bf16', 'fp16'] | Sequence[Literal['auto', 'off', 'bf16', 'fp16']] = ('off',),
    backend: Literal['torch', 'compile', 'onnxruntime', 'openvino'] | Sequence[Literal['torch', 'compile', 'onnxruntime', 'openvino']] = ('torch',),
    img_size: int | Literal['auto'] = 'auto',
    train: bool = False,
    data: str | PathLike[str] | None = None,
    find_best: bool = False,
    baseline: str | PathLike[str] | None = None,
    plot: str | PathLike[str] | None = None,
    compile: bool = False,
    channels_last: bool | Literal['auto'] = 'auto',
    num_samples: int | Literal['auto'] = 'auto',
    workers: int | Literal['auto'] = 'auto',
    tolerance: float | Literal['auto'] = 'auto',
    csv: str | PathLike[str] | None = None,
    force: bool = False,
    progress: bool | None = None,
) -> BenchmarkReport:
    """Time models: latency, throughput, memory, and which setting is fastest.

    Takes a BenchmarkConfig, or its options as keywords. model: one, or a list of them.

    Args:
        model: timm model names, or checkpoint, fold or run folders.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        batch_size: Pictures per batch, one size or several; 1 tells the latency, more the
            throughput. auto finds the largest that fits.
        amp: Mixed precision, one or several; off is float32, as `evaluate` has it by default. auto:
            bf16 (else fp16) on cuda, off elsewhere.
        backend: What runs the model, one or several: torch, compile, onnxruntime or openvino (the
            last two by the extras onnx and openvino). Their outputs are compared with torch's.
        img_size: Side of the input in pixels; auto is the model's own.
        train: Time training: forward, backward and the optimizer's step.
        data: Time these pictures end to end instead of synthetic batches, and say what limits:
            decoding, transforms, the copy or the model.
        find_best: Try every backend, layout and precision there is, and print the fastest whose
            outputs agree, as the options to paste.
        baseline: Compare with the --json of an earlier benchmark: is the difference noise?
        plot: Also draw throughput against latency, to this .png or .svg file.
        compile: Short for --backend compile.
        channels_last: Memory layout that is faster for most convolutions. auto: yes, as `evaluate`
            has it.
        num_samples: Pictures to time after the warm-up, rounded up to whole batches; auto times for
            3 seconds, at least 10 batches.
        workers: With --data: processes that load pictures; auto goes by the cores.
        tolerance: How far a logit may be from torch's in fp32, in standard deviations of the
            logits. auto: 0.01, which fp32 everywhere keeps; with --train 0.2, which bf16 keeps.
        csv: Also write the table to this CSV file.
        force: Let --csv and --plot replace files that imgcls did not write.
    """
def evaluate(
    checkpoint: EvaluateConfig | str | PathLike[str] | None = None,
    *,
    split: Literal['train', 'val', 'test'] = 'test',
    data: str | PathLike[str] | None = None,
    exclude_trained: bool = False,
    fold: int | Literal['all'] | None = None,
    ensemble: bool = False,
    tta: Literal['none', 'hflip', 'flips', 'd4'] = 'none',
    calibrate: Literal['auto', 'temperature', 'none'] = 'auto',
    by: str | Sequence[str] = (),
    compare: str | PathLike[str] | None = None,
    device: str | torch.device = 'auto',
    explain: bool = False,
    open: bool = False,
    conformal: float | None = None,
    fit_unlike: bool = False,
    top_k: int | Sequence[int] = (1, 3, 5),
    costs: str | PathLike[str] | None = None,
    fail_under: Mapping[str, float] = {},
    corruptions: bool = False,
    ci: Literal['bootstrap', 'none'] = 'bootstrap',
    ci_samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
    devices: int | Literal['all'] | None = None,
    amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'off',
    workers: int | Literal['auto'] = 'auto',
    on_bad_image: Literal['error', 'skip'] = 'error',
    channels_last: bool | Literal['auto'] = 'auto',
    report: bool = True,
    output: str | PathLike[str] = 'outputs',
    results_dir: str | PathLike[str] | None = None,
    force: bool = False,
    layout: Literal['classes', 'splits'] | None = None,
    path_col: str | None = None,
    label_col: str | None = None,
    split_col: str | None = None,
    group_col: str | None = None,
    fold_col: str | None = None,
    root: str | PathLike[str] | None = None,
    group_regex: str | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    progress: bool | None = None,
) -> EvalReport:
    """Score a trained model on a split: its metrics, and where the tables and the page lie.

    Takes an EvaluateConfig, or its options as keywords. Raises ThresholdError where a metric is
    below its threshold of fail_under; the evaluation is written then.

    Args:
        checkpoint: A checkpoint, fold or run folder; by default the best of the newest run.
        split: The pictures to score.
        data: Score these pictures instead of the run's own; classes are matched by name. With
            --split, where they are the run's own in another place, the run's split of them.
        exclude_trained: Leave out what the model was trained on, and what chose the best epoch,
            told by content; the results lie beside those of all.
        fold: With a run folder: the fold to evaluate; all pools each fold's own val pictures, and
            averages the folds on the test split.
        ensemble: Average the probabilities of a run's folds on the test split or --data.
        tta: Average over views of each picture. hflip: as it is and mirrored; flips: mirrored both
            ways (4); d4: all quarter turns and mirrors (8), for pictures without an upright.
        calibrate: temperature: fit one on the val split, keep it with the checkpoint, and divide
            the logits by it; auto: use the one that is kept, if any.
        by: Also score apart the pictures of each value of a column: site,group.
        compare: Another run or checkpoint to score on the same pictures: differences, McNemar's
            test, and the pictures that changed sides.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        explain: Show what the model looked at beside its worst mistakes (extra explain): by
            attention rollout for plain vision transformers, for all others by Grad-CAM.
        open: Show report.html in the browser.
        conformal: Also score sets of classes that hold the right one with this probability. Fitted
            on the run's val pictures, and kept with the checkpoint for `imgcls predict --sets`.
        fit_unlike: Also score how unknown classes are told, by features. Fitted on the run's
            training pictures, and kept with the checkpoint for `imgcls predict --unlike`.
        top_k: Also the share of pictures whose class is among the k highest scores.
        costs: CSV of what a decision costs: a row for each true class, a column for each decided.
        fail_under: Exit with 1 when a metric is below its threshold, such as balanced_accuracy=0.8;
            for CI.
        corruptions: Also score noisy, blurred, compressed, brighter and paler pictures, each at
            five severities.
        ci: 95% intervals: pictures (with groups: whole groups) are drawn anew within each class.
        ci_samples: Resamples for --ci; 1000 settle both ends to about two digits.
        seed: Of the resamples; the same one repeats them.
        batch_size: Pictures per batch; changes speed, not results.
        devices: Score on so many GPUs of this machine, or all; on a CPU, in so many processes. Each
            picture is scored once, in the batches of one process, so the scores are its own.
        amp: Mixed precision; off by default, so that scores are exact.
        workers: Processes that load pictures; never changes results.
        on_bad_image: What to do about a picture that cannot be read: stop and name it, or leave it
            out and list it in bad_images.csv beside the results.
        channels_last: Memory layout that is faster for most convolutions. auto: yes.
        report: Draw the pictures and report.html; a few seconds that a script may save.
        output: Where to look for the newest run.
        results_dir: Write the results to DIR/<split>/ instead of the run's own test_results/; for a
            run that is read-only.
        force: With --results-dir: also into a folder that holds what is no evaluation.
        layout: What the folders right below DATA are: the classes, or splits (train, Testing,
            seg_val) with the classes in them. By default their names and what is in them tell;
            where both are possible, this is asked for.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        label_col: The column with each picture's class. By default `label`; in tar shards `cls`,
            else `label` of the json.
        split_col: The column that says train, val or test; by default `split`, if it is there.
        group_col: The column that says what belongs together (patient, plant, video): a group is
            never divided between splits or folds. By default `group`, if it is there; an empty cell
            is a group of its own.
        fold_col: The column with each picture's fold; by default `fold`, if it is there.
        root: The folder that paths start from; by default the table's own.
        group_regex: Groups from the pictures' paths: what the expression's first (...) finds, or
            all that it finds.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
            camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
            and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
            with the model.
    """
def export(
    checkpoint: ExportConfig | str | PathLike[str] | None = None,
    *,
    format: Literal['onnx', 'openvino', 'torch-export', 'int8-onnx', 'safetensors', 'hf'] | Sequence[Literal['onnx', 'openvino', 'torch-export', 'int8-onnx', 'safetensors', 'hf']] = ('onnx',),
    profile: Literal['picture', 'tensor'] = 'picture',
    output: str | PathLike[str] | None = None,
    max_drop: float = 1.0,
    force: bool = False,
    progress: bool | None = None,
) -> ExportReport:
    """Write a trained model as files that other programs run, proven on real pictures: their paths.

    Takes an ExportConfig, or its options as keywords. Raises ExportError for a format that does not
    answer as the checkpoint does; nothing is written then.

    Args:
        checkpoint: A checkpoint, fold or run folder; by default the best of the newest run.
        format: What to write, one or several: onnx and openvino (need the extra of their name),
            torch-export (a .pt2 program for torch), int8-onnx (smaller and faster on a CPU; what it
            costs in accuracy is measured), safetensors (the weights alone, with their labels), or
            hf (a folder for Hugging Face with a model card).
        profile: What the file takes and gives. picture: uint8 [B, h, w, 3] of any size, to
            probabilities; resizing, cropping and normalising are inside. tensor: float32 [B, 3, H,
            W], prepared outside, to logits.
        output: Write a folder for each format into this one; by default exports/ in the fold's
            folder.
        max_drop: int8-onnx: refuse a file whose accuracy on val is lower than in float32 by more
            points than this, beyond doubt: the whole 95% interval is above.
        force: Replace exports that are there already.
    """
def import_checkpoint(
    file: ImportConfig | str | PathLike[str] | None = None,
    *,
    model: str | None = None,
    classes: str | PathLike[str] | None = None,
    data: str | PathLike[str] | None = None,
    img_size: int | None = None,
    resize_mode: Literal['crop', 'squash', 'pad'] = 'crop',
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    output: str | PathLike[str] = 'outputs',
    experiment: str | None = None,
    interpolation: Literal['nearest', 'bilinear', 'bicubic', 'lanczos'] | None = None,
    crop_pct: float | None = None,
    opt: Literal['adam', 'adamw', 'momentum', 'sgd'] | None = None,
    lr: float | None = None,
    sched: Literal['cosine', 'poly', 'tanh', 'step', 'wsd', 'constant'] | None = None,
    augment: Literal['none', 'light', 'medium', 'heavy'] | Literal['auto'] = 'auto',
    val_size: float = 0.15,
    test_size: float = 0.15,
    layout: Literal['classes', 'splits'] | None = None,
    path_col: str | None = None,
    label_col: str | None = None,
    split_col: str | None = None,
    group_col: str | None = None,
    fold_col: str | None = None,
    root: str | PathLike[str] | None = None,
    group_regex: str | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    seed: int = 42,
    device: str | torch.device = 'auto',
    workers: int | Literal['auto'] = 'auto',
    progress: bool | None = None,
) -> ImportReport:
    """Make a checkpoint of what another trainer saved, with data a run that goes on: where it lies.

    `imgcls import`. Takes an ImportConfig, or its options as keywords. Nothing in the file is run.

    Args:
        file: What another trainer saved: a PyTorch checkpoint or state dict (.pt, .pth, .pth.tar,
            .ckpt) or a safetensors file. Nothing in it is run.
        model: The timm model that it is of; may be left away where the file says so.
        classes: The class names in the order of the model's outputs: a text file with one a line,
            JSON (a list, or names and numbers) or CSV. May be left away where the file holds them.
        data: The pictures it was trained on, as `imgcls train` takes them: makes a run that is
            evaluated on its own splits and, with the optimizer's state, resumed.
        img_size: Side of the input in pixels; by default the model's own.
        resize_mode: How a picture meets the model's square input in evaluation: crop the centre
            (what most weights were trained for), squash the sides, or pad to keep all of it.
        mean: What was subtracted from each channel (0 to 1); by default the model's own.
        std: What each channel was divided by; by default the model's own.
        epochs: Epochs that the training shall have in all, those behind it too; by default as many
            as the file says.
        batch_size: Pictures a step, of the epochs to come and for validation.
        output: Folder in which the run, or without --data the checkpoint, is put.
        experiment: Name of its folder there; by default data or file, model and time.
        interpolation: How pictures were resized; by default the model's own.
        crop_pct: The share of the resized picture's side that is kept (0.875: resized to 256,
            cropped to 224); by default the model's own.
        opt: The optimizer whose state it is, where the file leaves that open; sgd is timm's word
            for SGD with Nesterov's momentum, momentum for the one without.
        lr: Peak learning rate of the epochs to come; by default as the file says.
        sched: The schedule of the epochs to come. By default cosine where the file has a
            CosineAnnealingLR, else constant at the rate that it had reached.
        augment: How much training pictures are changed. none: as in evaluation. light: crops,
            mirroring, colours. medium: TrivialAugment and some erasing too. heavy: RandAugment,
            erasing, mixup, cutmix and label smoothing, for long trainings. auto: none for the
            classifier alone, light up to 5,000 training pictures, else medium.
        val_size: Share of each class kept for validation when the data have no val split; 0.15
            leaves most pictures for training and still gives the best epoch a fair vote.
        test_size: Share of each class kept for the final test when the data bring no splits; never
            seen while training.
        layout: What the folders right below DATA are: the classes, or splits (train, Testing,
            seg_val) with the classes in them. By default their names and what is in them tell;
            where both are possible, this is asked for.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        label_col: The column with each picture's class. By default `label`; in tar shards `cls`,
            else `label` of the json.
        split_col: The column that says train, val or test; by default `split`, if it is there.
        group_col: The column that says what belongs together (patient, plant, video): a group is
            never divided between splits or folds. By default `group`, if it is there; an empty cell
            is a group of its own.
        fold_col: The column with each picture's fold; by default `fold`, if it is there.
        root: The folder that paths start from; by default the table's own.
        group_regex: Groups from the pictures' paths: what the expression's first (...) finds, or
            all that it finds.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
            camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
            and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
            with the model.
        seed: Splits, initial weights and every random choice follow from it.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        workers: Processes that load pictures; auto goes by the cores. Never changes results.
    """
def inspect(
    data: InspectConfig | str | PathLike[str] = 'digits',
    *,
    workers: int | Literal['auto'] = 'auto',
    html: str | PathLike[str] | None = None,
    fix_manifest: str | PathLike[str] | None = None,
    force: bool = False,
    layout: Literal['classes', 'splits'] | None = None,
    path_col: str | None = None,
    label_col: str | None = None,
    split_col: str | None = None,
    group_col: str | None = None,
    fold_col: str | None = None,
    root: str | PathLike[str] | None = None,
    group_regex: str | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    progress: bool | None = None,
) -> AuditReport:
    """Find what is wrong with a data set before training on it: the findings, worst first.

    Takes an InspectConfig, or its options as keywords.

    Args:
        data: The pictures, named as for `imgcls train`.
        workers: Processes that read pictures; auto takes one a core.
        html: Write what was found, with thumbnails, as one HTML page to this file.
        fix_manifest: Write a manifest (.csv) without the harmful rows and with duplicates tied into
            one group, ready for `imgcls train`; an existing file is not overwritten.
        force: Let --html replace a file that imgcls did not write.
        layout: What the folders right below DATA are: the classes, or splits (train, Testing,
            seg_val) with the classes in them. By default their names and what is in them tell;
            where both are possible, this is asked for.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        label_col: The column with each picture's class. By default `label`; in tar shards `cls`,
            else `label` of the json.
        split_col: The column that says train, val or test; by default `split`, if it is there.
        group_col: The column that says what belongs together (patient, plant, video): a group is
            never divided between splits or folds. By default `group`, if it is there; an empty cell
            is a group of its own.
        fold_col: The column with each picture's fold; by default `fold`, if it is there.
        root: The folder that paths start from; by default the table's own.
        group_regex: Groups from the pictures' paths: what the expression's first (...) finds, or
            all that it finds.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
            camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
            and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
            with the model.
    """
def list_models(
    pattern: ListModelsConfig | str | PathLike[str] | None = None,
    *,
    family: str | None = None,
    max_params: float | None = None,
    img_size: int | None = None,
    pretrained: bool = False,
    licence: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> list[ModelEntry]:
    """List models to train: the curated families, or with a pattern or a filter all of timm's.

    Takes a ListModelsConfig, or its options as keywords. An empty list where none fits.

    Args:
        pattern: A glob (`vit_*`) or part of a name; searches all of timm.
        family: Only models of this family, e.g. resnet.
        max_params: Only models of at most so many million parameters.
        img_size: Only models made for pictures of this side, in pixels.
        pretrained: Only models with pretrained weights.
        licence: Only pretrained weights under these licences, in the list's words or as globs
            (`cc-by-*`), and the models that have some.
        limit: Show at most so many.
    """
def list_runs(
    folder: str | PathLike[str] = 'outputs',
    *,
    sort: Literal['when', 'name', 'data', 'model', 'epochs', 'metric', 'status', 'size'] = 'when',
    limit: int | None = None,
) -> RunList:
    """List the runs of a folder: when, data, model, epochs, best metric, status, size.

    `imgcls runs`. Loads no torch. Raises RunError where there is no such folder.

    Args:
        folder: The folder of the runs; by default outputs.
        sort: The column to sort by: the newest, longest, largest or best first, names and status
            from A to Z. metric: only numbers of one metric are compared.
        limit: Show at most so many.
    """
def predict(
    inputs: PredictConfig | str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    *,
    checkpoint: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    top_k: int = 3,
    tta: Literal['none', 'hflip', 'flips', 'd4'] = 'none',
    sets: float | None = None,
    max_error: float | None = None,
    unlike: float | None = None,
    new_only: str | PathLike[str] | None = None,
    sort_into: str | PathLike[str] | None = None,
    batch_size: int = 32,
    backend: Literal['torch', 'compile', 'onnxruntime', 'openvino'] | Literal['auto'] = 'torch',
    device: str | torch.device = 'auto',
    ensemble: bool = False,
    calibrate: Literal['auto', 'none'] = 'auto',
    copy: bool = False,
    features: str | PathLike[str] | None = None,
    on_bad_image: Literal['error', 'skip'] = 'skip',
    devices: int | Literal['all'] | None = None,
    amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'off',
    channels_last: bool | Literal['auto'] = 'auto',
    workers: int | Literal['auto'] = 'auto',
    path_col: str | None = None,
    root: str | PathLike[str] | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    force: bool = False,
    progress: bool | None = None,
) -> PredictReport:
    """Classify pictures with a trained model: `rows`, one a picture, and what they come to.

    Takes a PredictConfig, or its options as keywords. With `output` or `features` the rows are in
    the file, and `rows` is None. For pictures in memory see `imgcls.load`.

    Args:
        inputs: Pictures: files, folders, globs, tables with their paths (.csv .tsv .jsonl
            .parquet), tar shards, Parquet with pictures in it, and - for a list of paths on stdin.
        checkpoint: A checkpoint, fold or run folder; by default the best of the newest run.
        output: Write a row a picture to this .csv, .jsonl or .parquet. The same command goes on
            where it was stopped.
        top_k: How many classes a row shows, the likeliest first.
        tta: Average over views of each picture. hflip: as it is and mirrored; flips: mirrored both
            ways (4); d4: all quarter turns and mirrors (8), for pictures without an upright.
        sets: Also list the classes that hold the right one with this probability. 0.9 is usual; by
            conformal prediction on the run's val pictures.
        max_error: Flag pictures as unsure, so that no more than this share of the others is wrong.
            With 95% confidence, by the run's val pictures.
        unlike: Flag pictures unlike all training pictures, with this share of false alarms. By what
            the classifier is given: Mahalanobis distance, threshold by the run's val pictures.
        new_only: Leave out pictures that have a row in this earlier .csv, .jsonl or .parquet.
        sort_into: Also link the pictures into a folder for each class, unreadable/, unsure/ and
            unlike/ among them. Nothing there is replaced; a name that is taken gets a number.
        batch_size: Pictures per batch; changes speed, not results.
        backend: What runs the model; auto takes the fastest that agrees with torch. torch gives
            evaluate's probabilities to the last digit; compile, onnxruntime and openvino (the last
            two by the extras onnx and openvino) are compared with it on the first pictures, and
            refused where they differ. auto looks beyond torch on a CPU, for 1,000 pictures or more,
            at onnxruntime and openvino, and keeps its choice beside the checkpoint.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        ensemble: Average the probabilities of a run's folds.
        calibrate: auto: divide the logits by the temperature that is kept with the checkpoint, if
            any.
        copy: With --sort-into: copies instead of links.
        features: Also write what the classifier is given of each picture, pooled float32 [N, D],
            with FILE.csv of their paths; rows of nan for what cannot be read.
        on_bad_image: What to do about a picture that cannot be read: write the reason into its row,
            or stop there.
        devices: Score on so many GPUs of this machine, or all; on a CPU, in so many processes. Each
            picture is scored once, in the batches of one process, so the scores are its own.
        amp: Mixed precision; off by default, so that scores are exact.
        channels_last: Memory layout that is faster for most convolutions. auto: yes.
        workers: Processes that load pictures; never changes results.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        root: The folder that paths of tables and of stdin start from; by default the table's own,
            and the current one.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, where its file
            does not say. auto: as the model was trained; for a model folder of another trainer such
            a picture cannot be read.
        force: Begin anew, and replace files that imgcls did not write.
    """
def report(
    run: ReportConfig | str | PathLike[str] | None = None,
    *,
    split: str = 'test',
    fold: int | None = None,
    results_dir: str | PathLike[str] | None = None,
    force: bool = False,
    open: bool = False,
    output: str | PathLike[str] = 'outputs',
) -> PageReport:
    """Draw the pictures and report.html of an evaluated split again: where they lie.

    Takes a ReportConfig, or its options as keywords.

    Args:
        run: A run, fold or checkpoint folder; by default the newest run.
        split: The evaluated split: the name of a folder in test_results/.
        fold: With a run folder: the fold.
        results_dir: Write to DIR/<split>/ instead of the run's own test_results/; also reads what
            `imgcls evaluate --results-dir DIR` left there.
        force: Also replace a report.html that imgcls did not write.
        open: Show the page in the browser.
        output: Where to look for the newest run.
    """
def resume(
    run: ResumeConfig | str | PathLike[str] | None = None,
    observers: Sequence[Callable[[Event], None]] = (),
    *,
    data: str | PathLike[str] | None = None,
    root: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    devices: int | Literal['all'] | None = None,
    shard: bool | None = None,
    workers: int | Literal['auto'] | None = None,
    epochs: int | None = None,
    amp: Literal['auto', 'off', 'bf16', 'fp16'] | None = None,
    cache: Literal['none', 'ram', 'disk', 'auto'] | None = None,
    on_bad_image: Literal['error', 'skip'] | None = None,
    batch_size: int | None = None,
    log: Literal['tensorboard', 'mlflow', 'wandb', 'trackio'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb', 'trackio']] | Literal['none'] | None = None,
    force: bool = False,
    output: str | PathLike[str] = 'outputs',
    progress: bool | None = None,
) -> TrainResult | None:
    """Go on with an unfinished run, exactly where it stopped: how each fold scored.

    Takes a ResumeConfig, or its options as keywords. None where there is nothing to go on with.
    observers, progress, and what is raised: see `imgcls.train`.

    Args:
        run: The run's folder; by default the newest unfinished one.
        data: Where the run's pictures are now, if they have moved; each is found by its name and
            content, or by its content alone.
        root: With a table: the folder that its paths start from now.
        device: Go on with another device than the run began with.
        devices: Go on with so many GPUs, or all; on a CPU, in so many processes. By default with as
            many as the run began with.
        shard: Divide weights, gradients and optimizer state among the processes from here on, or no
            longer. By default as the run began.
        workers: Processes that load pictures; never changes results.
        epochs: Train to this many epochs in all, also a finished run; the schedule goes on as if
            the run had been begun with them.
        amp: Another precision from here on, as for a device that cannot do the run's; the result is
            no longer exact.
        cache: Keep decoded pictures elsewhere than the run did; begun or ended here, training crops
            come from other pixels, and the result is no longer exact.
        on_bad_image: From here on, stop at a picture that cannot be read, or leave it out.
        batch_size: Another batch size from here on; the result is no longer exact.
        log: Log to these trackers from here on; they get earlier epochs too.
        force: Go on although the data or the config are not what the run began with.
        output: Where to look for the newest unfinished run.
    """
def train(
    data: TrainConfig | str | PathLike[str] = 'digits',
    observers: Sequence[Callable[[Event], None]] = (),
    *,
    folds: int = 0,
    batch_size: int | Literal['auto'] = 32,
    model: str = 'resnet18',
    weights: str | PathLike[str] | None = None,
    img_size: int | Literal['auto'] = 'auto',
    preset: Literal['fast', 'default', 'best'] = 'default',
    imbalance: Literal['none', 'balanced-sampler', 'weighted-loss', 'effective-number', 'focal', 'logit-adjust', 'balanced-softmax'] | Literal['auto'] = 'auto',
    lr: float | Literal['auto'] = 'auto',
    epochs: int | Literal['auto'] = 10,
    augment: Literal['none', 'light', 'medium', 'heavy'] | Literal['auto'] = 'auto',
    device: str | torch.device = 'auto',
    output: str | PathLike[str] = 'outputs',
    val_size: float = 0.15,
    test_size: float = 0.15,
    fold: int | Literal['all'] = 'all',
    on_bad_image: Literal['error', 'skip'] = 'error',
    preflight: bool = True,
    cache: Literal['none', 'ram', 'disk', 'auto'] = 'none',
    cache_limit: float | Literal['auto'] = 'auto',
    resize_mode: Literal['crop', 'squash', 'pad'] = 'crop',
    background: str = 'white',
    layout: Literal['classes', 'splits'] | None = None,
    path_col: str | None = None,
    label_col: str | None = None,
    split_col: str | None = None,
    group_col: str | None = None,
    fold_col: str | None = None,
    root: str | PathLike[str] | None = None,
    group_regex: str | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    models: str | Sequence[str] | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    pretrained: bool | Literal['auto'] = 'auto',
    ensemble_models: int | None = None,
    num_classes: int | None = None,
    in_chans: int = 3,
    dropout: float | Literal['auto'] = 'auto',
    drop_path_rate: float | Literal['auto'] = 'auto',
    freeze_backbone: bool = False,
    tune: str = 'auto',
    head: Literal['linear', 'logistic'] | Literal['auto'] = 'auto',
    feature_views: int | Literal['auto'] = 'auto',
    unfreeze_epochs: int = 0,
    norm_stats: Literal['auto', 'frozen', 'batch'] = 'auto',
    opt: str = 'adamw',
    weight_decay: float = 0.05,
    momentum: float = 0.9,
    max_minutes: float | None = None,
    warmup_epochs: float | Literal['auto'] = 'auto',
    sched: Literal['cosine', 'poly', 'tanh', 'step', 'wsd', 'constant'] = 'cosine',
    min_lr: float = 0.0,
    grad_accum_steps: int = 1,
    clip_grad: float | None = None,
    layer_decay: float = 1.0,
    model_ema: bool | Literal['auto'] = 'auto',
    model_ema_decay: float = 0.998,
    scale: float | Literal['auto'] = 'auto',
    hflip: float | Literal['auto'] = 'auto',
    vflip: float = 0.0,
    color_jitter: float | Literal['auto'] = 'auto',
    aa: str | None = None,
    reprob: float | Literal['auto'] = 'auto',
    mixup: float | Literal['auto'] = 'auto',
    cutmix: float | Literal['auto'] = 'auto',
    smoothing: float | Literal['auto'] = 'auto',
    eval_metric: Literal['val_loss', 'val_accuracy', 'val_balanced_accuracy', 'val_precision_macro', 'val_recall_macro', 'val_macro_f1', 'val_precision_weighted', 'val_recall_weighted', 'val_f1_weighted', 'val_top_3_accuracy', 'val_top_5_accuracy'] | Literal['auto'] = 'auto',
    patience: int = 10,
    save: Literal['epoch', 'best'] = 'epoch',
    keep: str = 'last:1',
    save_every_steps: int = 0,
    save_every_minutes: float = 10.0,
    amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'auto',
    workers: int | Literal['auto'] = 'auto',
    seed: int = 42,
    channels_last: bool | Literal['auto'] = 'auto',
    grad_checkpointing: bool = False,
    compile: bool = False,
    devices: int | Literal['all'] | None = None,
    parallel_folds: bool = False,
    grad_compression: Literal['none', 'bf16'] = 'none',
    shard: bool = False,
    deterministic: bool = False,
    experiment: str | None = None,
    log: Literal['tensorboard', 'mlflow', 'wandb', 'trackio'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb', 'trackio']] | Literal['none'] = 'none',
    progress: bool | None = None,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    on_begun: Callable[[Begun], None] | None = None,
) -> TrainResult:
    """Fine-tune a model on a folder of labelled pictures: where the run lies, how each fold scored.

    Takes a TrainConfig, or its options as keywords; without data it trains on the embedded digits.
    observers: are told each event of the loop. progress: shown in a terminal and in a notebook,
    where it is not said. split_rows: the rows of a splits.csv to train on. on_begun: is told once
    the run's folder is there.

    Raises RequestErrors (a wrong option, data or model) before anything is written, and
    InterruptedRunError after Ctrl-C or a signal, with everything saved: `imgcls.resume` goes on.

    Args:
        data: A folder of class folders, a folder with train/ val/ test/ inside, a table (.csv,
            .tsv, .jsonl, .parquet), tar shards, URLs of tables and shards, or `digits` (1,797
            pictures that ship with scikit-learn).
        folds: Stratified k-fold over everything that is not the test split, by whole groups where
            the data have any; 0 trains once on one train/val split, or on the data's own folds.
        batch_size: Pictures per step; 32 fits a laptop and gives small data sets enough steps.
            auto: the largest power of two up to 256 that fits into memory (tried on cuda, measured
            by small ones on a CPU) and leaves an epoch 32 updates; --lr auto follows it.
        model: Any timm model name (`imgcls list-models`); resnet18 trains in minutes on a laptop
            and is hard to get wrong. auto: the best of --models for these pictures, by
            cross-validation on frozen features.
        weights: Start from this file instead of the hub: a safetensors file, a PyTorch state dict,
            or a checkpoint folder. The classifier is always new. With --model auto: a folder of
            files named as their models, NAME.safetensors, or of such folders.
        img_size: Side of the input in pixels; auto takes what the weights were trained at.
        preset: How much time it is worth; the plan says how much it takes. fast: the classifier
            alone (--tune head). best: --folds 5 of the --model auto, where none is named, and the
            average of all folds evaluated on test, flipped too where training flips.
        imbalance: What is done for rare classes, each as its paper has it (examples/recipes). auto:
            logit-adjust where the largest class has 1.5 times the pictures of the smallest or more,
            else none.
        lr: Peak learning rate. auto, for adam-like optimizers and 32 pictures an update: 1e-3 from
            scratch or for the classifier alone, 4e-4 when fine-tuning a network that has mostly
            batch norms, 1e-4 for others. sgd and its kin: 1e-2, fine-tuning 1e-3; lion: 1e-4 and
            1e-5. It grows with the square root of the batch, for sgd in proportion.
        epochs: Passes over the training pictures; 10 fine-tune most small sets, early stopping may
            end sooner. auto: as many as make about 1,000 updates, but 5 to 40.
        augment: How much training pictures are changed. none: as in evaluation. light: crops,
            mirroring, colours. medium: TrivialAugment and some erasing too. heavy: RandAugment,
            erasing, mixup, cutmix and label smoothing, for long trainings. auto: none for the
            classifier alone, light up to 5,000 training pictures, else medium.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        output: Folder in which runs are kept.
        val_size: Share of each class kept for validation when the data have no val split; 0.15
            leaves most pictures for training and still gives the best epoch a fair vote.
        test_size: Share of each class kept for the final test when the data bring no splits; never
            seen while training.
        fold: With --folds: the one fold to train (0 to K-1), or all in turn.
        on_bad_image: What to do about a picture that cannot be read: stop and name it, before
            anything is trained where the pre-flight finds it; or leave it out, count it and list it
            in bad_images.csv. No other picture takes its place.
        preflight: Read all pictures before training (of more than 200,000, or than 32 GiB, as many
            as that, drawn at random): are they whole, and has one a copy in another split? Costs a
            fraction of an epoch's loading; `imgcls inspect` looks closer.
        cache: Keep decoded pictures from the first epoch on: 256 pixels square for training crops
            of 224, which then come from fewer pixels, and the exact crops for validation. On disk
            later runs use them too. auto: ram, else disk, else none, by the room there is.
        cache_limit: The most GiB that --cache may take; auto: half of what is free.
        resize_mode: How a picture meets the model's square input in evaluation: crop the centre
            (what most weights were trained for), squash the sides, or pad to keep all of it.
        background: The colour below transparent pixels, by name or as #rrggbb.
        layout: What the folders right below DATA are: the classes, or splits (train, Testing,
            seg_val) with the classes in them. By default their names and what is in them tell;
            where both are possible, this is asked for.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        label_col: The column with each picture's class. By default `label`; in tar shards `cls`,
            else `label` of the json.
        split_col: The column that says train, val or test; by default `split`, if it is there.
        group_col: The column that says what belongs together (patient, plant, video): a group is
            never divided between splits or folds. By default `group`, if it is there; an empty cell
            is a group of its own.
        fold_col: The column with each picture's fold; by default `fold`, if it is there.
        root: The folder that paths start from; by default the table's own.
        group_regex: Groups from the pictures' paths: what the expression's first (...) finds, or
            all that it finds.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
            camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
            and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
            with the model.
        models: With --model auto: the models to choose from. By default those in the folder of
            --weights, else a short list of small models under permissive licences.
        max_params: With --model auto: leave out models of more million parameters.
        max_latency_ms: With --model auto: leave out models that need longer for one picture here,
            by the median of timed single ones.
        pretrained: Start from weights trained on ImageNet, from timm's hub. auto: yes for pictures,
            no for the embedded digits and where --weights is given.
        ensemble_models: With --model auto: train so many models, the best of those that are
            compared, each a run of its own on the same split, and evaluate the average of their
            probabilities.
        num_classes: Outputs of the classifier; taken from the data when not given.
        in_chans: Channels of the input: 1 grey, 3 RGB; 2 and 4 keep transparency as the last one.
            The weights of the first layer are adapted.
        dropout: Dropout in front of the classifier; 0.2 helps tiny data sets. auto: the
            architecture's own, which is 0 for most (0.2 for rexnet).
        drop_path_rate: Stochastic depth; 0.1 to 0.3 is usual for long trainings of transformers.
            auto: the architecture's own, which is 0 for most (0.1 for swin).
        freeze_backbone: Leave the classifier as the only trainable part; --tune head does it.
        tune: What is trained. head: the classifier alone, from features that are computed once.
            full: everything from the start. head+full: first the classifier, then everything.
            last:N: first the classifier, then it and the last N groups of layers. auto: head+full
            from pretrained weights, full from scratch.
        head: How the classifier alone is trained. logistic: scikit-learn's logistic regression, its
            regularisation chosen by inner cross-validation. linear: by epochs like everything else.
            auto: logistic.
        feature_views: Views of each picture whose features train the classifier alone: the
            evaluation view, and beyond 1 randomly changed ones, which cost one pass through the
            model each. auto: 1.
        unfreeze_epochs: Gradual unfreezing: train the classifier alone for so many epochs, then one
            more group of layers every so many; 0 trains all groups from the start.
        norm_stats: Means and variances of batch norm layers while training: frozen as the weights
            came, or those of each batch. auto: frozen from pretrained weights, because those of
            small batches of a small set are noise; batch from scratch.
        opt: Any timm optimizer; adamw is the least sensitive to its settings.
        weight_decay: Not applied to norms and biases; 0.05 is usual for adamw, 1e-4 for sgd.
        momentum: Momentum of the optimizers that have one.
        max_minutes: Take fewer epochs where that many would take longer than this, by the speed
            measured before the first; the schedule ends with the last one. The run keeps the number
            of epochs, not the minutes, so it repeats and resumes exactly.
        warmup_epochs: Epochs of linear warm-up, which keeps the fresh classifier from shaking the
            backbone. auto: one, or a fifth of a shorter training.
        sched: timm's learning-rate schedule; cosine needs no further settings.
        min_lr: Learning rate at the end of the schedule.
        grad_accum_steps: Batches per update, for batches that do not fit in memory.
        clip_grad: Largest gradient norm; off unless given. 1.0 is usual for ViTs.
        layer_decay: Each layer's rate as a share of the next one's; 0.65 to 0.8 for ViTs.
        model_ema: Keep and evaluate a running average of the weights (timm ModelEmaV3). auto: when
            a pretrained model is tuned.
        model_ema_decay: Memory of that average; 0.998 spans some 500 updates, with a warm-up
            before.
        scale: Smallest share of a picture's area that a random crop keeps. auto: 0.35, 0.2 in heavy
            (timm's 0.08 often cuts the object away in small data sets), 0.8 for digits.
        hflip: Chance of mirroring left-right. auto: 0.5, and 0 for digits.
        vflip: Chance of mirroring up-down; useful for views from above.
        color_jitter: Strength of brightness, contrast and saturation changes. auto: 0.2 in light,
            0.3 in medium, 0.4 in heavy.
        aa: timm's AutoAugment policy; without one, that of the preset: TrivialAugment in medium,
            RandAugment in heavy.
        reprob: Chance of random erasing. auto: 0.1 in medium, 0.25 in heavy, else 0.
        mixup: Mixup alpha; 0 is off. auto: 0.2 in heavy, else 0.
        cutmix: CutMix alpha; 0 is off. auto: 1 in heavy, else 0.
        smoothing: Label smoothing; 0 keeps probabilities honest, 0.1 suits many classes. auto: 0.1
            in heavy, else 0.
        eval_metric: Chooses the best epoch and stops early; val_loss wants to fall, the others to
            rise. auto: val_balanced_accuracy where the classes are unbalanced, since accuracy
            hardly sees a rare class; else val_accuracy. Between epochs within one standard error of
            the highest of either, the lower loss decides.
        patience: Epochs without improvement before stopping; 0 never stops early.
        save: Save after every epoch, so that each can be resumed, or only the best.
        keep: Checkpoints to keep beside the best one.
        save_every_steps: Also save inside an epoch, every so many updates; 0 is off.
        save_every_minutes: Also save inside an epoch after so many minutes; 0 is off. It bounds
            what a crash costs.
        amp: Mixed precision in training. auto: bf16 (else fp16) on cuda; on a CPU bf16 where a few
            seconds of measurement find it faster for this model; else off, as in short runs.
        workers: Processes that load pictures; auto goes by the cores. Never changes results.
        seed: Splits, initial weights and every random choice follow from it.
        channels_last: Memory layout that is faster for most convolutions. auto: yes, but on a CPU
            whichever is measured faster for this model; yes in short runs.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them:
            less memory, about a third more time.
        compile: torch.compile the model: slow to start, faster on long runs.
        devices: Train on so many GPUs of this machine, or all; on a CPU, in so many processes. The
            batch is divided among them, so the results are those of one, but for rounding.
        parallel_folds: With --folds and --devices: train folds side by side, one on each device, in
            place of all devices on each fold.
        grad_compression: How gradients travel between several processes: bf16 halves what a slow
            network has to carry, and rounds them.
        shard: Divide weights, gradients and optimizer state among the processes too, for a model
            whose training does not fit one device; slower. Checkpoints are as without.
        deterministic: Ask torch for deterministic kernels on cuda, at some cost; CPU runs are so.
        experiment: Name of the run's folder; by default data, model and time.
        log: Also log to experiment trackers, each an extra of its own name: options, history.csv,
            the pages and pictures of evaluations. One that fails never stops a training.
    """
def tune(
    data: TuneConfig | str | PathLike[str] = 'digits',
    *,
    trials: int = 20,
    max_minutes: float | None = None,
    prune: bool = True,
    storage: str | None = None,
    model: str = 'resnet18',
    epochs: int | Literal['auto'] = 10,
    output: str | PathLike[str] = 'outputs',
    experiment: str | None = None,
    space: Mapping[str, Any] | None = None,
    val_size: float = 0.15,
    test_size: float = 0.15,
    folds: int = 0,
    fold: int | Literal['all'] = 'all',
    batch_size: int | Literal['auto'] = 32,
    on_bad_image: Literal['error', 'skip'] = 'error',
    preflight: bool = True,
    cache: Literal['none', 'ram', 'disk', 'auto'] = 'none',
    cache_limit: float | Literal['auto'] = 'auto',
    resize_mode: Literal['crop', 'squash', 'pad'] = 'crop',
    background: str = 'white',
    layout: Literal['classes', 'splits'] | None = None,
    path_col: str | None = None,
    label_col: str | None = None,
    split_col: str | None = None,
    group_col: str | None = None,
    fold_col: str | None = None,
    root: str | PathLike[str] | None = None,
    group_regex: str | None = None,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    models: str | Sequence[str] | None = None,
    max_params: float | None = None,
    max_latency_ms: float | None = None,
    pretrained: bool | Literal['auto'] = 'auto',
    weights: str | PathLike[str] | None = None,
    ensemble_models: int | None = None,
    num_classes: int | None = None,
    img_size: int | Literal['auto'] = 'auto',
    in_chans: int = 3,
    dropout: float | Literal['auto'] = 'auto',
    drop_path_rate: float | Literal['auto'] = 'auto',
    freeze_backbone: bool = False,
    preset: Literal['fast', 'default', 'best'] = 'default',
    tune: str = 'auto',
    head: Literal['linear', 'logistic'] | Literal['auto'] = 'auto',
    feature_views: int | Literal['auto'] = 'auto',
    unfreeze_epochs: int = 0,
    norm_stats: Literal['auto', 'frozen', 'batch'] = 'auto',
    imbalance: Literal['none', 'balanced-sampler', 'weighted-loss', 'effective-number', 'focal', 'logit-adjust', 'balanced-softmax'] | Literal['auto'] = 'auto',
    opt: str = 'adamw',
    lr: float | Literal['auto'] = 'auto',
    weight_decay: float = 0.05,
    momentum: float = 0.9,
    warmup_epochs: float | Literal['auto'] = 'auto',
    sched: Literal['cosine', 'poly', 'tanh', 'step', 'wsd', 'constant'] = 'cosine',
    min_lr: float = 0.0,
    grad_accum_steps: int = 1,
    clip_grad: float | None = None,
    layer_decay: float = 1.0,
    model_ema: bool | Literal['auto'] = 'auto',
    model_ema_decay: float = 0.998,
    augment: Literal['none', 'light', 'medium', 'heavy'] | Literal['auto'] = 'auto',
    scale: float | Literal['auto'] = 'auto',
    hflip: float | Literal['auto'] = 'auto',
    vflip: float = 0.0,
    color_jitter: float | Literal['auto'] = 'auto',
    aa: str | None = None,
    reprob: float | Literal['auto'] = 'auto',
    mixup: float | Literal['auto'] = 'auto',
    cutmix: float | Literal['auto'] = 'auto',
    smoothing: float | Literal['auto'] = 'auto',
    eval_metric: Literal['val_loss', 'val_accuracy', 'val_balanced_accuracy', 'val_precision_macro', 'val_recall_macro', 'val_macro_f1', 'val_precision_weighted', 'val_recall_weighted', 'val_f1_weighted', 'val_top_3_accuracy', 'val_top_5_accuracy'] | Literal['auto'] = 'auto',
    patience: int = 10,
    save: Literal['epoch', 'best'] = 'epoch',
    keep: str = 'last:1',
    save_every_steps: int = 0,
    save_every_minutes: float = 10.0,
    device: str | torch.device = 'auto',
    amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'auto',
    workers: int | Literal['auto'] = 'auto',
    seed: int = 42,
    channels_last: bool | Literal['auto'] = 'auto',
    grad_checkpointing: bool = False,
    compile: bool = False,
    devices: int | Literal['all'] | None = None,
    parallel_folds: bool = False,
    grad_compression: Literal['none', 'bf16'] = 'none',
    shard: bool = False,
    deterministic: bool = False,
    log: Literal['tensorboard', 'mlflow', 'wandb', 'trackio'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb', 'trackio']] | Literal['none'] = 'none',
    progress: bool | None = None,
) -> TuneResult:
    """Search for better settings by many trainings: the trials, the best of them, what mattered.

    Takes a TuneConfig, or its options as keywords: what is given is kept, the rest of the search
    space is searched. The same call goes on with a search that was stopped. Needs the extra tune.

    Args:
        data: A folder of class folders, a folder with train/ val/ test/ inside, a table (.csv,
            .tsv, .jsonl, .parquet), tar shards, URLs of tables and shards, or `digits` (1,797
            pictures that ship with scikit-learn).
        trials: Trainings in all, by every process on the study together; about the first ten are
            random, so fewer than 20 leave little to learn from.
        max_minutes: Stop after so many minutes, also within a trial, which is then saved; the same
            command goes on with as many more.
        prune: End a trial early when it does worse than the median of the others at the same epoch.
        storage: Database of the study, so that several machines share it; by default a SQLite file
            in the study's folder, which processes on one machine share.
        model: Any timm model name (`imgcls list-models`); resnet18 trains in minutes on a laptop
            and is hard to get wrong. auto: the best of --models for these pictures, by
            cross-validation on frozen features.
        epochs: Passes over the training pictures; 10 fine-tune most small sets, early stopping may
            end sooner. auto: as many as make about 1,000 updates, but 5 to 40.
        output: Folder in which runs are kept.
        experiment: Name of the run's folder; by default data, model and time.
        space: Option name -> list of values, or {low, high, log, step}. By default the options that
            matter most, without those that you set yourself.
        val_size: Share of each class kept for validation when the data have no val split; 0.15
            leaves most pictures for training and still gives the best epoch a fair vote.
        test_size: Share of each class kept for the final test when the data bring no splits; never
            seen while training.
        folds: Stratified k-fold over everything that is not the test split, by whole groups where
            the data have any; 0 trains once on one train/val split, or on the data's own folds.
        fold: With --folds: the one fold to train (0 to K-1), or all in turn.
        batch_size: Pictures per step; 32 fits a laptop and gives small data sets enough steps.
            auto: the largest power of two up to 256 that fits into memory (tried on cuda, measured
            by small ones on a CPU) and leaves an epoch 32 updates; --lr auto follows it.
        on_bad_image: What to do about a picture that cannot be read: stop and name it, before
            anything is trained where the pre-flight finds it; or leave it out, count it and list it
            in bad_images.csv. No other picture takes its place.
        preflight: Read all pictures before training (of more than 200,000, or than 32 GiB, as many
            as that, drawn at random): are they whole, and has one a copy in another split? Costs a
            fraction of an epoch's loading; `imgcls inspect` looks closer.
        cache: Keep decoded pictures from the first epoch on: 256 pixels square for training crops
            of 224, which then come from fewer pixels, and the exact crops for validation. On disk
            later runs use them too. auto: ram, else disk, else none, by the room there is.
        cache_limit: The most GiB that --cache may take; auto: half of what is free.
        resize_mode: How a picture meets the model's square input in evaluation: crop the centre
            (what most weights were trained for), squash the sides, or pad to keep all of it.
        background: The colour below transparent pixels, by name or as #rrggbb.
        layout: What the folders right below DATA are: the classes, or splits (train, Testing,
            seg_val) with the classes in them. By default their names and what is in them tell;
            where both are possible, this is asked for.
        path_col: The column with each picture's path, or the picture itself; in tar shards the
            picture's suffix. By default `path`, and `image` in Parquet.
        label_col: The column with each picture's class. By default `label`; in tar shards `cls`,
            else `label` of the json.
        split_col: The column that says train, val or test; by default `split`, if it is there.
        group_col: The column that says what belongs together (patient, plant, video): a group is
            never divided between splits or folds. By default `group`, if it is there; an empty cell
            is a group of its own.
        fold_col: The column with each picture's fold; by default `fold`, if it is there.
        root: The folder that paths start from; by default the table's own.
        group_regex: Groups from the pictures' paths: what the expression's first (...) finds, or
            all that it finds.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
            camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
            and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
            with the model.
        models: With --model auto: the models to choose from. By default those in the folder of
            --weights, else a short list of small models under permissive licences.
        max_params: With --model auto: leave out models of more million parameters.
        max_latency_ms: With --model auto: leave out models that need longer for one picture here,
            by the median of timed single ones.
        pretrained: Start from weights trained on ImageNet, from timm's hub. auto: yes for pictures,
            no for the embedded digits and where --weights is given.
        weights: Start from this file instead of the hub: a safetensors file, a PyTorch state dict,
            or a checkpoint folder. The classifier is always new. With --model auto: a folder of
            files named as their models, NAME.safetensors, or of such folders.
        ensemble_models: With --model auto: train so many models, the best of those that are
            compared, each a run of its own on the same split, and evaluate the average of their
            probabilities.
        num_classes: Outputs of the classifier; taken from the data when not given.
        img_size: Side of the input in pixels; auto takes what the weights were trained at.
        in_chans: Channels of the input: 1 grey, 3 RGB; 2 and 4 keep transparency as the last one.
            The weights of the first layer are adapted.
        dropout: Dropout in front of the classifier; 0.2 helps tiny data sets. auto: the
            architecture's own, which is 0 for most (0.2 for rexnet).
        drop_path_rate: Stochastic depth; 0.1 to 0.3 is usual for long trainings of transformers.
            auto: the architecture's own, which is 0 for most (0.1 for swin).
        freeze_backbone: Leave the classifier as the only trainable part; --tune head does it.
        preset: How much time it is worth; the plan says how much it takes. fast: the classifier
            alone (--tune head). best: --folds 5 of the --model auto, where none is named, and the
            average of all folds evaluated on test, flipped too where training flips.
        tune: What is trained. head: the classifier alone, from features that are computed once.
            full: everything from the start. head+full: first the classifier, then everything.
            last:N: first the classifier, then it and the last N groups of layers. auto: head+full
            from pretrained weights, full from scratch.
        head: How the classifier alone is trained. logistic: scikit-learn's logistic regression, its
            regularisation chosen by inner cross-validation. linear: by epochs like everything else.
            auto: logistic.
        feature_views: Views of each picture whose features train the classifier alone: the
            evaluation view, and beyond 1 randomly changed ones, which cost one pass through the
            model each. auto: 1.
        unfreeze_epochs: Gradual unfreezing: train the classifier alone for so many epochs, then one
            more group of layers every so many; 0 trains all groups from the start.
        norm_stats: Means and variances of batch norm layers while training: frozen as the weights
            came, or those of each batch. auto: frozen from pretrained weights, because those of
            small batches of a small set are noise; batch from scratch.
        imbalance: What is done for rare classes, each as its paper has it (examples/recipes). auto:
            logit-adjust where the largest class has 1.5 times the pictures of the smallest or more,
            else none.
        opt: Any timm optimizer; adamw is the least sensitive to its settings.
        lr: Peak learning rate. auto, for adam-like optimizers and 32 pictures an update: 1e-3 from
            scratch or for the classifier alone, 4e-4 when fine-tuning a network that has mostly
            batch norms, 1e-4 for others. sgd and its kin: 1e-2, fine-tuning 1e-3; lion: 1e-4 and
            1e-5. It grows with the square root of the batch, for sgd in proportion.
        weight_decay: Not applied to norms and biases; 0.05 is usual for adamw, 1e-4 for sgd.
        momentum: Momentum of the optimizers that have one.
        warmup_epochs: Epochs of linear warm-up, which keeps the fresh classifier from shaking the
            backbone. auto: one, or a fifth of a shorter training.
        sched: timm's learning-rate schedule; cosine needs no further settings.
        min_lr: Learning rate at the end of the schedule.
        grad_accum_steps: Batches per update, for batches that do not fit in memory.
        clip_grad: Largest gradient norm; off unless given. 1.0 is usual for ViTs.
        layer_decay: Each layer's rate as a share of the next one's; 0.65 to 0.8 for ViTs.
        model_ema: Keep and evaluate a running average of the weights (timm ModelEmaV3). auto: when
            a pretrained model is tuned.
        model_ema_decay: Memory of that average; 0.998 spans some 500 updates, with a warm-up
            before.
        augment: How much training pictures are changed. none: as in evaluation. light: crops,
            mirroring, colours. medium: TrivialAugment and some erasing too. heavy: RandAugment,
            erasing, mixup, cutmix and label smoothing, for long trainings. auto: none for the
            classifier alone, light up to 5,000 training pictures, else medium.
        scale: Smallest share of a picture's area that a random crop keeps. auto: 0.35, 0.2 in heavy
            (timm's 0.08 often cuts the object away in small data sets), 0.8 for digits.
        hflip: Chance of mirroring left-right. auto: 0.5, and 0 for digits.
        vflip: Chance of mirroring up-down; useful for views from above.
        color_jitter: Strength of brightness, contrast and saturation changes. auto: 0.2 in light,
            0.3 in medium, 0.4 in heavy.
        aa: timm's AutoAugment policy; without one, that of the preset: TrivialAugment in medium,
            RandAugment in heavy.
        reprob: Chance of random erasing. auto: 0.1 in medium, 0.25 in heavy, else 0.
        mixup: Mixup alpha; 0 is off. auto: 0.2 in heavy, else 0.
        cutmix: CutMix alpha; 0 is off. auto: 1 in heavy, else 0.
        smoothing: Label smoothing; 0 keeps probabilities honest, 0.1 suits many classes. auto: 0.1
            in heavy, else 0.
        eval_metric: Chooses the best epoch and stops early; val_loss wants to fall, the others to
            rise. auto: val_balanced_accuracy where the classes are unbalanced, since accuracy
            hardly sees a rare class; else val_accuracy. Between epochs within one standard error of
            the highest of either, the lower loss decides.
        patience: Epochs without improvement before stopping; 0 never stops early.
        save: Save after every epoch, so that each can be resumed, or only the best.
        keep: Checkpoints to keep beside the best one.
        save_every_steps: Also save inside an epoch, every so many updates; 0 is off.
        save_every_minutes: Also save inside an epoch after so many minutes; 0 is off. It bounds
            what a crash costs.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        amp: Mixed precision in training. auto: bf16 (else fp16) on cuda; on a CPU bf16 where a few
            seconds of measurement find it faster for this model; else off, as in short runs.
        workers: Processes that load pictures; auto goes by the cores. Never changes results.
        seed: Splits, initial weights and every random choice follow from it.
        channels_last: Memory layout that is faster for most convolutions. auto: yes, but on a CPU
            whichever is measured faster for this model; yes in short runs.
        grad_checkpointing: Compute activations again in the backward pass instead of keeping them:
            less memory, about a third more time.
        compile: torch.compile the model: slow to start, faster on long runs.
        devices: Train on so many GPUs of this machine, or all; on a CPU, in so many processes. The
            batch is divided among them, so the results are those of one, but for rounding.
        parallel_folds: With --folds and --devices: train folds side by side, one on each device, in
            place of all devices on each fold.
        grad_compression: How gradients travel between several processes: bf16 halves what a slow
            network has to carry, and rounds them.
        shard: Divide weights, gradients and optimizer state among the processes too, for a model
            whose training does not fit one device; slower. Checkpoints are as without.
        deterministic: Ask torch for deterministic kernels on cuda, at some cost; CPU runs are so.
        log: Also log to experiment trackers, each an extra of its own name: options, history.csv,
            the pages and pictures of evaluations. One that fails never stops a training.
    """
class ImageClassifier(_ImageClassifier):
    def __init__(
        self,
        *,
        batch_size: int | Literal['auto'] = 32,
        model: str = 'resnet18',
        weights: str | PathLike[str] | None = None,
        img_size: int | Literal['auto'] = 'auto',
        preset: Literal['fast', 'default', 'best'] = 'default',
        imbalance: Literal['none', 'balanced-sampler', 'weighted-loss', 'effective-number', 'focal', 'logit-adjust', 'balanced-softmax'] | Literal['auto'] = 'auto',
        lr: float | Literal['auto'] = 'auto',
        epochs: int | Literal['auto'] = 10,
        augment: Literal['none', 'light', 'medium', 'heavy'] | Literal['auto'] = 'auto',
        device: str | torch.device = 'auto',
        output: str | PathLike[str] | None = None,
        val_size: float = 0.15,
        on_bad_image: Literal['error', 'skip'] = 'error',
        preflight: bool = True,
        cache: Literal['none', 'ram', 'disk', 'auto'] = 'none',
        cache_limit: float | Literal['auto'] = 'auto',
        resize_mode: Literal['crop', 'squash', 'pad'] = 'crop',
        background: str = 'white',
        max_image_pixels: int | None = None,
        bit_depth: int | Literal['auto'] = 'auto',
        models: str | Sequence[str] | None = None,
        max_params: float | None = None,
        max_latency_ms: float | None = None,
        pretrained: bool | Literal['auto'] = 'auto',
        ensemble_models: int | None = None,
        num_classes: int | None = None,
        in_chans: int = 3,
        dropout: float | Literal['auto'] = 'auto',
        drop_path_rate: float | Literal['auto'] = 'auto',
        freeze_backbone: bool = False,
        tune: str = 'auto',
        head: Literal['linear', 'logistic'] | Literal['auto'] = 'auto',
        feature_views: int | Literal['auto'] = 'auto',
        unfreeze_epochs: int = 0,
        norm_stats: Literal['auto', 'frozen', 'batch'] = 'auto',
        opt: str = 'adamw',
        weight_decay: float = 0.05,
        momentum: float = 0.9,
        max_minutes: float | None = None,
        warmup_epochs: float | Literal['auto'] = 'auto',
        sched: Literal['cosine', 'poly', 'tanh', 'step', 'wsd', 'constant'] = 'cosine',
        min_lr: float = 0.0,
        grad_accum_steps: int = 1,
        clip_grad: float | None = None,
        layer_decay: float = 1.0,
        model_ema: bool | Literal['auto'] = 'auto',
        model_ema_decay: float = 0.998,
        scale: float | Literal['auto'] = 'auto',
        hflip: float | Literal['auto'] = 'auto',
        vflip: float = 0.0,
        color_jitter: float | Literal['auto'] = 'auto',
        aa: str | None = None,
        reprob: float | Literal['auto'] = 'auto',
        mixup: float | Literal['auto'] = 'auto',
        cutmix: float | Literal['auto'] = 'auto',
        smoothing: float | Literal['auto'] = 'auto',
        eval_metric: Literal['val_loss', 'val_accuracy', 'val_balanced_accuracy', 'val_precision_macro', 'val_recall_macro', 'val_macro_f1', 'val_precision_weighted', 'val_recall_weighted', 'val_f1_weighted', 'val_top_3_accuracy', 'val_top_5_accuracy'] | Literal['auto'] = 'auto',
        patience: int = 10,
        amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'auto',
        workers: int | Literal['auto'] = 'auto',
        seed: int = 42,
        channels_last: bool | Literal['auto'] = 'auto',
        grad_checkpointing: bool = False,
        compile: bool = False,
        devices: int | Literal['all'] | None = None,
        parallel_folds: bool = False,
        grad_compression: Literal['none', 'bf16'] = 'none',
        shard: bool = False,
        deterministic: bool = False,
        log: Literal['tensorboard', 'mlflow', 'wandb', 'trackio'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb', 'trackio']] | Literal['none'] = 'none',
        verbose: 'bool' = False,
    ) -> None:
        """A classifier that is not fitted yet; what the options hold is looked at by `fit`.

        output: where runs are kept; by default in a temporary folder, which goes with the
        classifier. verbose: show the progress of training.

        Args:
            batch_size: Pictures per step; 32 fits a laptop and gives small data sets enough steps.
                auto: the largest power of two up to 256 that fits into memory (tried on cuda, measured
                by small ones on a CPU) and leaves an epoch 32 updates; --lr auto follows it.
            model: Any timm model name (`imgcls list-models`); resnet18 trains in minutes on a laptop
                and is hard to get wrong. auto: the best of --models for these pictures, by
                cross-validation on frozen features.
            weights: Start from this file instead of the hub: a safetensors file, a PyTorch state dict,
                or a checkpoint folder. The classifier is always new. With --model auto: a folder of
                files named as their models, NAME.safetensors, or of such folders.
            img_size: Side of the input in pixels; auto takes what the weights were trained at.
            preset: How much time it is worth; the plan says how much it takes. fast: the classifier
                alone (--tune head). best: --folds 5 of the --model auto, where none is named, and the
                average of all folds evaluated on test, flipped too where training flips.
            imbalance: What is done for rare classes, each as its paper has it (examples/recipes). auto:
                logit-adjust where the largest class has 1.5 times the pictures of the smallest or more,
                else none.
            lr: Peak learning rate. auto, for adam-like optimizers and 32 pictures an update: 1e-3 from
                scratch or for the classifier alone, 4e-4 when fine-tuning a network that has mostly
                batch norms, 1e-4 for others. sgd and its kin: 1e-2, fine-tuning 1e-3; lion: 1e-4 and
                1e-5. It grows with the square root of the batch, for sgd in proportion.
            epochs: Passes over the training pictures; 10 fine-tune most small sets, early stopping may
                end sooner. auto: as many as make about 1,000 updates, but 5 to 40.
            augment: How much training pictures are changed. none: as in evaluation. light: crops,
                mirroring, colours. medium: TrivialAugment and some erasing too. heavy: RandAugment,
                erasing, mixup, cutmix and label smoothing, for long trainings. auto: none for the
                classifier alone, light up to 5,000 training pictures, else medium.
            device: auto takes cuda, then mps, then cpu; a named one must be there.
            output: Folder in which runs are kept.
            val_size: Share of each class kept for validation when the data have no val split; 0.15
                leaves most pictures for training and still gives the best epoch a fair vote.
            on_bad_image: What to do about a picture that cannot be read: stop and name it, before
                anything is trained where the pre-flight finds it; or leave it out, count it and list it
                in bad_images.csv. No other picture takes its place.
            preflight: Read all pictures before training (of more than 200,000, or than 32 GiB, as many
                as that, drawn at random): are they whole, and has one a copy in another split? Costs a
                fraction of an epoch's loading; `imgcls inspect` looks closer.
            cache: Keep decoded pictures from the first epoch on: 256 pixels square for training crops
                of 224, which then come from fewer pixels, and the exact crops for validation. On disk
                later runs use them too. auto: ram, else disk, else none, by the room there is.
            cache_limit: The most GiB that --cache may take; auto: half of what is free.
            resize_mode: How a picture meets the model's square input in evaluation: crop the centre
                (what most weights were trained for), squash the sides, or pad to keep all of it.
            background: The colour below transparent pixels, by name or as #rrggbb.
            max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
                178956970, where Pillow stops too.
            bit_depth: The bits that a sample of a picture with more than 8 bits has, such as 12 of a
                camera in a 16-bit file; what a file declares wins. auto: the smallest of 8, 10, 12, 14
                and 16 that holds all pictures of the training data (1: floats from 0 to 1), then kept
                with the model.
            models: With --model auto: the models to choose from. By default those in the folder of
                --weights, else a short list of small models under permissive licences.
            max_params: With --model auto: leave out models of more million parameters.
            max_latency_ms: With --model auto: leave out models that need longer for one picture here,
                by the median of timed single ones.
            pretrained: Start from weights trained on ImageNet, from timm's hub. auto: yes for pictures,
                no for the embedded digits and where --weights is given.
            ensemble_models: With --model auto: train so many models, the best of those that are
                compared, each a run of its own on the same split, and evaluate the average of their
                probabilities.
            num_classes: Outputs of the classifier; taken from the data when not given.
            in_chans: Channels of the input: 1 grey, 3 RGB; 2 and 4 keep transparency as the last one.
                The weights of the first layer are adapted.
            dropout: Dropout in front of the classifier; 0.2 helps tiny data sets. auto: the
                architecture's own, which is 0 for most (0.2 for rexnet).
            drop_path_rate: Stochastic depth; 0.1 to 0.3 is usual for long trainings of transformers.
                auto: the architecture's own, which is 0 for most (0.1 for swin).
            freeze_backbone: Leave the classifier as the only trainable part; --tune head does it.
            tune: What is trained. head: the classifier alone, from features that are computed once.
                full: everything from the start. head+full: first the classifier, then everything.
                last:N: first the classifier, then it and the last N groups of layers. auto: head+full
                from pretrained weights, full from scratch.
            head: How the classifier alone is trained. logistic: scikit-learn's logistic regression, its
                regularisation chosen by inner cross-validation. linear: by epochs like everything else.
                auto: logistic.
            feature_views: Views of each picture whose features train the classifier alone: the
                evaluation view, and beyond 1 randomly changed ones, which cost one pass through the
                model each. auto: 1.
            unfreeze_epochs: Gradual unfreezing: train the classifier alone for so many epochs, then one
                more group of layers every so many; 0 trains all groups from the start.
            norm_stats: Means and variances of batch norm layers while training: frozen as the weights
                came, or those of each batch. auto: frozen from pretrained weights, because those of
                small batches of a small set are noise; batch from scratch.
            opt: Any timm optimizer; adamw is the least sensitive to its settings.
            weight_decay: Not applied to norms and biases; 0.05 is usual for adamw, 1e-4 for sgd.
            momentum: Momentum of the optimizers that have one.
            max_minutes: Take fewer epochs where that many would take longer than this, by the speed
                measured before the first; the schedule ends with the last one. The run keeps the number
                of epochs, not the minutes, so it repeats and resumes exactly.
            warmup_epochs: Epochs of linear warm-up, which keeps the fresh classifier from shaking the
                backbone. auto: one, or a fifth of a shorter training.
            sched: timm's learning-rate schedule; cosine needs no further settings.
            min_lr: Learning rate at the end of the schedule.
            grad_accum_steps: Batches per update, for batches that do not fit in memory.
            clip_grad: Largest gradient norm; off unless given. 1.0 is usual for ViTs.
            layer_decay: Each layer's rate as a share of the next one's; 0.65 to 0.8 for ViTs.
            model_ema: Keep and evaluate a running average of the weights (timm ModelEmaV3). auto: when
                a pretrained model is tuned.
            model_ema_decay: Memory of that average; 0.998 spans some 500 updates, with a warm-up
                before.
            scale: Smallest share of a picture's area that a random crop keeps. auto: 0.35, 0.2 in heavy
                (timm's 0.08 often cuts the object away in small data sets), 0.8 for digits.
            hflip: Chance of mirroring left-right. auto: 0.5, and 0 for digits.
            vflip: Chance of mirroring up-down; useful for views from above.
            color_jitter: Strength of brightness, contrast and saturation changes. auto: 0.2 in light,
                0.3 in medium, 0.4 in heavy.
            aa: timm's AutoAugment policy; without one, that of the preset: TrivialAugment in medium,
                RandAugment in heavy.
            reprob: Chance of random erasing. auto: 0.1 in medium, 0.25 in heavy, else 0.
            mixup: Mixup alpha; 0 is off. auto: 0.2 in heavy, else 0.
            cutmix: CutMix alpha; 0 is off. auto: 1 in heavy, else 0.
            smoothing: Label smoothing; 0 keeps probabilities honest, 0.1 suits many classes. auto: 0.1
                in heavy, else 0.
            eval_metric: Chooses the best epoch and stops early; val_loss wants to fall, the others to
                rise. auto: val_balanced_accuracy where the classes are unbalanced, since accuracy
                hardly sees a rare class; else val_accuracy. Between epochs within one standard error of
                the highest of either, the lower loss decides.
            patience: Epochs without improvement before stopping; 0 never stops early.
            amp: Mixed precision in training. auto: bf16 (else fp16) on cuda; on a CPU bf16 where a few
                seconds of measurement find it faster for this model; else off, as in short runs.
            workers: Processes that load pictures; auto goes by the cores. Never changes results.
            seed: Splits, initial weights and every random choice follow from it.
            channels_last: Memory layout that is faster for most convolutions. auto: yes, but on a CPU
                whichever is measured faster for this model; yes in short runs.
            grad_checkpointing: Compute activations again in the backward pass instead of keeping them:
                less memory, about a third more time.
            compile: torch.compile the model: slow to start, faster on long runs.
            devices: Train on so many GPUs of this machine, or all; on a CPU, in so many processes. The
                batch is divided among them, so the results are those of one, but for rounding.
            parallel_folds: With --folds and --devices: train folds side by side, one on each device, in
                place of all devices on each fold.
            grad_compression: How gradients travel between several processes: bf16 halves what a slow
                network has to carry, and rounds them.
            shard: Divide weights, gradients and optimizer state among the processes too, for a model
                whose training does not fit one device; slower. Checkpoints are as without.
            deterministic: Ask torch for deterministic kernels on cuda, at some cost; CPU runs are so.
            log: Also log to experiment trackers, each an extra of its own name: options, history.csv,
                the pages and pictures of evaluations. One that fails never stops a training.
        """
def load(
    checkpoint: str | PathLike[str] | None = None,
    *,
    top_k: int = 3,
    tta: Literal['none', 'hflip', 'flips', 'd4'] = 'none',
    sets: float | None = None,
    max_error: float | None = None,
    unlike: float | None = None,
    batch_size: int = 32,
    device: str | torch.device = 'auto',
    ensemble: bool = False,
    calibrate: Literal['auto', 'none'] = 'auto',
    amp: Literal['auto', 'off', 'bf16', 'fp16'] = 'off',
    channels_last: bool | Literal['auto'] = 'auto',
    workers: int | Literal['auto'] = 0,
    max_image_pixels: int | None = None,
    bit_depth: int | Literal['auto'] = 'auto',
    progress: bool | None = None,
) -> Model:
    """A trained model, on the device and ready to classify: see Model.

    checkpoint: a run, fold or checkpoint folder, or a timm model folder. Where what `sets`,
    `max_error` or `unlike` rest on was not fitted yet, it is fitted now, and kept. Raises
    CheckpointError, RunError, ConfigError or DeviceError.

    Args:
        checkpoint: A checkpoint, fold or run folder; by default the best of the newest run.
        top_k: How many classes a row shows, the likeliest first.
        tta: Average over views of each picture. hflip: as it is and mirrored; flips: mirrored both
            ways (4); d4: all quarter turns and mirrors (8), for pictures without an upright.
        sets: Also list the classes that hold the right one with this probability. 0.9 is usual; by
            conformal prediction on the run's val pictures.
        max_error: Flag pictures as unsure, so that no more than this share of the others is wrong.
            With 95% confidence, by the run's val pictures.
        unlike: Flag pictures unlike all training pictures, with this share of false alarms. By what
            the classifier is given: Mahalanobis distance, threshold by the run's val pictures.
        batch_size: Pictures per batch; changes speed, not results.
        device: auto takes cuda, then mps, then cpu; a named one must be there.
        ensemble: Average the probabilities of a run's folds.
        calibrate: auto: divide the logits by the temperature that is kept with the checkpoint, if
            any.
        amp: Mixed precision; off by default, so that scores are exact.
        channels_last: Memory layout that is faster for most convolutions. auto: yes.
        workers: Processes that load pictures; never changes results.
        max_image_pixels: A picture with more pixels is refused as a decompression bomb. By default
            178956970, where Pillow stops too.
        bit_depth: The bits that a sample of a picture with more than 8 bits has, where its file
            does not say. auto: as the model was trained; for a model folder of another trainer such
            a picture cannot be read.
    """
