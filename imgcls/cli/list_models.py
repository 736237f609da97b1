"""`imgcls list-models`."""

from __future__ import annotations

from imgcls.cli.options import Common, add_command, new_app
from imgcls.config.list_models import ListModelsConfig

app = new_app()


def list_models(config: ListModelsConfig, common: Common) -> None:
    """List models to train.

    Without PATTERN and filters the curated families; a glob or a part of a name searches all of
    timm, as --family, --max-params, --img-size and --licence do. The first of a model's weights are
    those that its plain name takes.
    """
    from imgcls.errors import ModelError
    from imgcls.models.catalog import read as catalog
    from imgcls.output.console import Console
    from imgcls.output.screens.model_list import show_models

    console = Console(quiet=common.quiet, json=common.json)
    entries = catalog.list_models(
        config.pattern,
        family=config.family,
        max_params=config.max_params,
        img_size=config.img_size,
        pretrained=config.pretrained,
        licences=config.licence or (),
        limit=config.limit,
        on_rebuild=console.say,
    )
    if not entries:
        raise ModelError(_nothing_fits(config))
    show_models(console, entries, config)


def _nothing_fits(config: ListModelsConfig) -> str:
    """What was asked for together, and what is near to a name that is in no model's."""
    from imgcls.models.catalog import read as catalog

    filters = [
        f"{flag} {value}"
        for flag, value in (
            ("--family", config.family),
            ("--max-params", config.max_params),
            ("--img-size", config.img_size),
            ("--pretrained", "" if config.pretrained else None),
            ("--licence", ",".join(config.licence) if config.licence else None),
        )
        if value is not None
    ]
    asked = " ".join([*([config.pattern] if config.pattern else []), *filters]).strip()
    if config.pattern and not catalog.list_models(config.pattern, limit=1):
        near = catalog.nearest_names(config.pattern)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
    elif config.licence and not catalog.list_models(licences=config.licence, limit=1):
        hint = f"; the licences are {', '.join(catalog.known_licences())}"
    else:
        hint = "; leave one of these out" if len(filters) + bool(config.pattern) > 1 else ""
    return f"no model fits {asked}{hint}"


add_command(app, "list-models", ListModelsConfig, list_models, quick=True)
