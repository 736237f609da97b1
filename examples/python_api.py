"""Train, evaluate and time from Python: `python examples/python_api.py`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import imgcls


def main() -> None:
    with TemporaryDirectory() as folder:
        config = imgcls.TrainConfig.model_validate(
            {
                "data": {"source": "digits", "batch_size": 64},
                "model": {"name": "test_resnet", "pretrained": False},
                "optim": {"epochs": 2, "lr": 3e-3},
                "runtime": {"output": folder},
            }
        )
        fold = imgcls.train(config).folds[0]
        print(f"best epoch {fold.best_epoch}: {fold.best_metrics['val_accuracy']:.1%} on val")

        report = imgcls.evaluate(imgcls.EvaluateConfig(checkpoint=fold.folder, split="test"))
        print(f"{report.metrics['accuracy']:.1%} on {report.metrics['samples']} test pictures")

        # the checkpoint is a timm model folder: no imgcls is needed to use it
        import timm

        best = Path(fold.best_checkpoint)
        model = timm.create_model(f"local-dir:{best}", pretrained=True).eval()
        speed = imgcls.benchmark_inference_speed(model, (3, 32, 32), device="cpu")
        print(f"{speed['throughput_samples_per_sec']:.0f} images/s")


if __name__ == "__main__":
    main()
