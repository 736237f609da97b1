"""The licences of pretrained weights, as their publishers' words, and what those mean for a user.

This is no legal advice: it tells apart what asks for reading from what seldom does.
"""

from __future__ import annotations

NOT_STATED = "not stated"
# these allow any use, in exchange for a notice at most
_OPEN = {
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "cc0-1.0",
    "cc-by-4.0",
    "unlicense",
}
# Apple's model licence is for research alone, which its name does not say
_NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "apple-amlr")
_UNKNOWN = {"unknown", "none", ""}


def licence_text(licence: str | None) -> str:
    """The licence as it is shown, and as `list-models --licence` takes it."""
    return licence or NOT_STATED


def licence_advice(licence: str | None) -> str | None:
    """What its user should know, a clause in plain words; None for one that allows any use.

    licence: as timm or Hugging Face write it, None where the weights' publisher states none.
    """
    known = (licence or "").lower()
    if known in _OPEN:
        return None
    if known in _UNKNOWN:
        return "no licence is stated for these weights: ask their publisher before you use them"
    if any(part in known for part in _NON_COMMERCIAL):
        return (
            f"the licence {licence} is for non-commercial use only; a model trained from these "
            "weights may fall under it too"
        )
    if known == "other":
        return "these weights have a licence of their own: read it before you use them"
    return f"{licence} is a licence with conditions of its own: read it before you use the weights"
