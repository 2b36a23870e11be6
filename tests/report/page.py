"""A page, read as a browser reads it."""

from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "hr", "wbr", "input"}
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, its words, and tags that are not closed in order.

    Args:
        text: the HTML.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.open: list[str] = []
        self.around: list[Attributes] = []
        self.words = ""
        self.sections: list[tuple[str, str]] = []
        """Id and title of each section, in page order."""
        self.contents: list[tuple[str, str]] = []
        """Id and words of each link of the contents list."""
        self.tables: list[tuple[Attributes, list[Attributes]]] = []
        """Attributes of each table, and of the tags around it, the outermost first."""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self.tables.append((attributes, list(self.around)))
        if tag == "h2":
            self.sections.append((attributes.get("id") or "", ""))
        if tag == "a" and "nav" in self.open:
            self.contents.append(((attributes.get("href") or "").removeprefix("#"), ""))
        if tag not in VOID:
            self.open.append(tag)
            self.around.append(attributes)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.around.pop()
        self.words += " "

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        for inside, titles in (("h2", self.sections), ("a", self.contents)):
            if inside in self.open:
                titles[-1] = titles[-1][0], titles[-1][1] + data


def check_layout(page: Page) -> None:
    """The contents list names every section in page order; every table lies in a box that scrolls, with the keyboard too, and
    says what it is, or has columns that never exceed the page."""
    assert page.open == []
    assert page.contents == page.sections
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(page.sections)
    for attributes, around in page.tables:
        boxes = [one for one in around if "scroll" in (one.get("class") or "").split()]
        if attributes.get("class") == "bars":
            continue
        assert len(boxes) == 1, attributes
        assert boxes[0]["role"] == "region"
        assert boxes[0]["tabindex"] == "0"
        assert boxes[0]["aria-label"]
