"""A parser of pages that reads HTML as a browser does."""

from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "wbr", "input"}
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """The content of a page: its tags with their attributes, its words, and its open tags.

    Args:
        text: the HTML.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.open: list[str] = []
        self.open_attributes: list[Attributes] = []
        self.words = ""
        self.sections: list[tuple[str, str]] = []
        """Id and title of each section, in page order."""
        self.contents: list[tuple[str, str]] = []
        """Id and words of each link of the contents list."""
        self.tables: list[tuple[Attributes, list[Attributes]]] = []
        """Attributes of each table, and of its parent tags, the outermost first."""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self.tables.append((attributes, list(self.open_attributes)))
        if tag == "h2":
            self.sections.append((attributes.get("id") or "", ""))
        if tag == "a" and "nav" in self.open:
            self.contents.append(((attributes.get("href") or "").removeprefix("#"), ""))
        if tag not in VOID:
            self.open.append(tag)
            self.open_attributes.append(attributes)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.open_attributes.pop()
        self.words += " "

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        for inside, titles in (("h2", self.sections), ("a", self.contents)):
            if inside in self.open:
                titles[-1] = titles[-1][0], titles[-1][1] + data


def check_layout(page: Page) -> None:
    """Check the layout of a page.

    The list of contents names every section in page order. Every table lies in a labelled box that scrolls, also with the
    keyboard, or has columns that are never wider than the page.
    """
    assert page.open == []
    assert page.contents == page.sections
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(page.sections)
    for attributes, parents in page.tables:
        boxes = [parent for parent in parents if "scroll" in (parent.get("class") or "").split()]
        if attributes.get("class") == "bars":
            continue
        assert len(boxes) == 1, attributes
        assert boxes[0]["role"] == "region"
        assert boxes[0]["tabindex"] == "0"
        assert boxes[0]["aria-label"]
