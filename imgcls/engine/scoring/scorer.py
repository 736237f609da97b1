"""A model that is ready to score pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.device.world import world
from imgcls.engine.scoring.inference import BatchT, InferencePass, Scores, predict, scores_of
from imgcls.engine.scoring.together import Divisible, predict_together
from imgcls.storage.scores import ScoreFile


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model on its device, what its pictures are normalised by, and what its scores mean.

    class_names: in the order of the scores. temperature: divides the logits inside the softmax.
    """

    model: nn.Module
    normalizer: Normalizer
    class_names: tuple[str, ...]
    compute: ComputeSettings
    temperature: float = 1.0

    def with_model(self, model: nn.Module) -> Scorer:
        """The same, with another model that answers as this one does."""
        return replace(self, model=model)

    def scores(self, batches: Iterable[BatchT]) -> Iterator[tuple[BatchT, Scores]]:
        """Each batch with its scores, one behind the other; labels are not needed."""
        return scores_of(self.model, batches, self.normalizer, self.compute)

    def run(
        self,
        batches: Iterable[Batch],
        on_batch: Callable[[int], None] = lambda _samples: None,
        *,
        file: ScoreFile | None = None,
    ) -> InferencePass:
        """All scores of labelled batches in one pass, with the times it took; see `predict`.

        Where several processes run the command, each scores a part.
        """
        if world().size > 1 and isinstance(batches, Divisible):
            return predict_together(
                self.model,
                batches,
                self.normalizer,
                self.compute,
                on_batch,
                file=file,
                temperature=self.temperature,
            )
        return predict(
            self.model,
            batches,
            self.normalizer,
            self.compute,
            on_batch,
            file=file,
            temperature=self.temperature,
        )
