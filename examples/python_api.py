"""Train, evaluate, predict and time from Python: `python examples/python_api.py`."""

from tempfile import TemporaryDirectory

import imgcls


def main() -> None:
    with TemporaryDirectory() as folder:
        fold = imgcls.train(
            "digits",  # or a folder of class folders
            model="test_resnet",
            pretrained=False,
            batch_size=64,
            epochs=2,
            lr=3e-3,
            output=folder,
        ).folds[0]
        print(f"best epoch {fold.best_epoch}: {fold.best_metrics['val_accuracy']:.1%} on val")

        model = imgcls.load(fold.folder)
        print(f"classes {', '.join(model.class_names)} from {model.preprocessing.input_size}")

        report = imgcls.evaluate(fold.folder, split="test")
        print(f"{report.metrics['accuracy']:.1%} on {report.metrics['samples']} test pictures")

        # the checkpoint is a timm model folder: no imgcls is needed to use it
        import timm

        net = timm.create_model(f"local-dir:{fold.best_checkpoint}", pretrained=True).eval()
        speed = imgcls.benchmark_inference_speed(net, (3, 32, 32), device="cpu")
        print(f"{speed['throughput_samples_per_sec']:.0f} images/s")


if __name__ == "__main__":
    main()
