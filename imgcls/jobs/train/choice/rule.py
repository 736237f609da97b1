"""Which of the measured models is taken: the cheapest of those that are as good as the best.

The one-standard-error rule of Breiman et al., "Classification and Regression Trees" (1984), by the
error of the paired differences in place of the best one's own: what is hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from imgcls.jobs.train.choice.measuring import Held, Pictures
from imgcls.results.comparison import Estimate
from imgcls.results.models import Candidate


@dataclass(frozen=True)
class Verdict:
    """The names of the models to take, the best first, why in a sentence, and all of them."""

    chosen: tuple[str, ...]
    reason: str
    candidates: tuple[Candidate, ...]


def decide(
    candidates: Sequence[Candidate], held: Mapping[str, Held], pictures: Pictures, count: int = 1
) -> Verdict:
    """The models to take. candidates: cheapest first, scored; held: of those that were measured.

    count: how many, of more than one those with the least log loss.
    """
    if not held:
        fit = tuple(one.name for one in candidates if one.left_out is None)
        why = "the only one that can be taken" if len(fit) == 1 else "all that can be taken"
        return Verdict(fit, why, tuple(candidates))
    log_loss = {name: one.log_loss(pictures).value for name, one in held.items()}
    best = min(log_loss, key=log_loss.__getitem__)
    scored = [
        replace(one, behind=held[one.name].behind(held[best], pictures))
        if one.name in held
        else one
        for one in candidates
    ]
    if count > 1:
        ranked = sorted(log_loss, key=log_loss.__getitem__)[:count]
        return Verdict(tuple(ranked), f"the {count} with the least log loss", tuple(scored))
    chosen = next(one for one in scored if one.behind is not None and _is_as_good(one.behind))
    cheapest = next(one for one in scored if one.behind is not None)
    reason = _reason(chosen, best, len(held), is_cheapest=chosen is cheapest)
    return Verdict((chosen.name,), reason, tuple(scored))


def _is_as_good(behind: Estimate) -> bool:
    return not behind.value > behind.error


def _reason(chosen: Candidate, best: str, count: int, *, is_cheapest: bool) -> str:
    if count == 1:
        return "the only one that was measured"
    if chosen.name == best and is_cheapest:
        return "the least log loss, and none is cheaper"
    if chosen.name == best:
        return "the least log loss, by more than one standard error of each cheaper one"
    assert chosen.behind is not None
    return (
        f"the cheapest whose log loss is within one standard error of the least, "
        f"{best}'s: {chosen.behind.value:.4f} ± {chosen.behind.error:.4f} above it"
    )
