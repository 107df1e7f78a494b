"""A document's descriptions, which are CommonMark with HTML in it, as their words: a prompt has no room for links."""

from __future__ import annotations

import html
import re

from toolace_edge.sources.base import shorten

# Only tags that are HTML's, as `<name>` stands for a value in many descriptions; and only what wraps or parts words.
_TAGS = (
    "a|abbr|b|blockquote|br|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|important|li|note|ol|p|pre|q|small|span|strong|"
    "sub|sup|table|tbody|td|th|thead|tr|tt|u|ul"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_INLINE = re.compile(r"</?(?:a|abbr|b|code|em|font|i|q|small|span|strong|sub|sup|tt|u)\b", re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s\"[^\"]*\")?\)")


def plain(text: object, limit: int) -> str:
    """The text without tags and addresses of links, on one line of at most `limit` characters; "" where it is none."""
    if not isinstance(text, str):
        return ""
    words = _TAG.sub(lambda tag: "" if _INLINE.match(tag[0]) else " ", text)
    return shorten(html.unescape(_LINK.sub(r"\1", words)), limit)
