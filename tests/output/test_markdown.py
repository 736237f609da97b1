"""Text from data in Markdown."""

from __future__ import annotations

import html

import pytest
from markdown_it import MarkdownIt

from imgcls.output.pages.markdown import code


@pytest.mark.parametrize("text", ["resnet18.a1_in1k", "a`b``c", "`", "<b>*x*</b>", "a\n# b"])
def test_code_holds_its_text_whatever_it_is(text):
    """No backtick ends it, no line break leaves it."""
    page = MarkdownIt("commonmark").render(f"from {code(text)} on")
    shown = html.escape(text.replace("\n", "\\x0a"))
    assert page == f"<p>from <code>{shown}</code> on</p>\n"
