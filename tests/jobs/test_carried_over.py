"""Another training's optimizer state: recognised, placed, or told why not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imgcls.jobs.import_.optimizer import UnmatchedError, carried_over, recognise
from imgcls.jobs.import_.schedule import schedule_of


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))


def stepped(make):
    """The state of an optimizer behind one update of a small network."""
    model = net()
    optimizer = make(model)
    model(torch.randn(5, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    ("make", "opt"),
    [
        (lambda m: torch.optim.AdamW(m.parameters()), "adamw"),
        (lambda m: torch.optim.Adam(m.parameters()), "adam"),
        (lambda m: torch.optim.Adam(m.parameters(), weight_decay=0.1), "adam"),
        (lambda m: torch.optim.SGD(m.parameters(), momentum=0.9), "momentum"),
        (lambda m: torch.optim.SGD(m.parameters(), momentum=0.9, nesterov=True), "sgd"),
    ],
)
def test_torchs_optimizers_are_recognised(make, opt):
    """By their hyperparameters, in timm's words."""
    assert recognise(stepped(make), None).opt == opt


def test_a_state_of_an_older_torch_may_be_either_adam(tmp_path):
    """It does not say where the decay goes: AdamW is the likelier, and that is told."""
    state = stepped(lambda m: torch.optim.AdamW(m.parameters()))
    del state["param_groups"][0]["decoupled_weight_decay"]
    found = recognise(state, None)
    assert (found.opt, "--opt adam" in (found.note or "")) == ("adamw", True)
    assert recognise(state, "adam").opt == "adam"
    with pytest.raises(UnmatchedError, match="not sgd's"):
        recognise(state, "sgd")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: torch.optim.RMSprop(m.parameters()), "neither Adam, AdamW nor SGD"),
        (lambda m: torch.optim.NAdam(m.parameters()), "neither Adam, AdamW nor SGD"),
        (
            lambda m: torch.optim.AdamW(
                [{"params": m[0].parameters(), "lr": 1e-4}, {"params": m[2].parameters()}]
            ),
            r"learning rates of their own \(0.0001, 0.001\)",
        ),
    ],
)
def test_other_optimizers_are_told(make, words):
    """Nothing is begun anew in silence."""
    with pytest.raises(UnmatchedError, match=words):
        recognise(stepped(make), None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["state"][0]["exp_avg"].fill_(float("nan")), "exp_avg of 0.weight holds inf"),
        (lambda s: s["param_groups"][0].update(betas="none"), "not as torch writes it"),
        (lambda s: s["param_groups"][0].update(eps=float("inf")), "eps is inf"),
        (lambda s: s["state"][0].update(step="none"), "not as torch writes it"),
        (lambda s: s["state"].pop(3), "moved 3 of the model's 4 parameters"),
        (lambda s: s["state"].update({2: s["state"][0]}), "do not have the shapes"),
        (lambda s: s["param_groups"][0].update(params=[0, 1, 2, 4]), "not as torch writes it"),
        (lambda s: s.update(state=[1]), "none of torch's"),
    ],
)
def test_a_state_that_is_damaged_or_forged_is_told(change, words):
    """By what is wrong with it."""
    state = stepped(lambda m: torch.optim.AdamW(m.parameters()))
    change(state)
    model = net()
    with pytest.raises(UnmatchedError, match=words):
        carried_over(
            state,
            torch.optim.AdamW(model.parameters()),
            model,
            order=[name for name, _ in model.named_parameters()],
            heads=["2.weight", "2.bias"],
            reorder=lambda _name, value: value,
        )


def test_moments_lie_in_memory_as_their_parameters_do():
    """torch's fused step pairs the two by their order in memory, whatever their strides say."""
    state = stepped(lambda m: torch.optim.AdamW(m.parameters()))
    model = net().to(memory_format=torch.channels_last)
    placed = carried_over(
        state,
        torch.optim.AdamW(model.parameters()),
        model,
        order=[name for name, _ in model.named_parameters()],
        heads=["2.weight", "2.bias"],
        reorder=lambda _name, value: value,
    )
    for number, parameter in enumerate(model.parameters()):
        moment = placed["state"][number]["exp_avg"]
        assert torch.equal(moment, state["state"][number]["exp_avg"])
        assert moment.stride() == parameter.stride()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: torch.optim.lr_scheduler.StepLR(o, 2), "its StepLR is none of train's"),
        (torch.optim.lr_scheduler.ReduceLROnPlateau, "its ReduceLROnPlateau is none"),
        (lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 10), "its OneCycleLR is none"),
        (lambda _o: None, "the file has no schedule"),
    ],
)
def test_schedules_that_train_has_not_go_on_at_the_rate_reached(make, words):
    """Told with the rate."""
    optimizer = torch.optim.AdamW(net().parameters(), lr=0.01)
    scheduler = make(optimizer)
    found = recognise(optimizer.state_dict(), None)
    state = None if scheduler is None else scheduler.state_dict()
    options, note = schedule_of(state, found, {}, 1)
    assert (options["sched"], options["lr"]) == ("constant", optimizer.param_groups[0]["lr"])
    assert words in note
