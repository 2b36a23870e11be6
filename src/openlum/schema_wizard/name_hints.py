"""Hints that the name of a column gives: its role, the user's feedback, identifiers and amounts."""

import re
from collections.abc import Iterable
from typing import Literal

Table = Literal["events", "impressions", "items", "users"]


def _split(text: str) -> list[str]:
    return text.split()


USER = _split(
    "user_id user uid user_key user_no user_uuid customer_id customer cust_id visitor_id reviewer_id member_id account_id "
    "buyer_id client_id consumer_id person_id player_id viewer_id reader_id subscriber_id profile_id learner_id student_id "
    "patient_id session_id device_id cookie_id nick u"
)
"""Typical names of the user column, the most typical first."""
ITEM = _split(
    "item_id item iid item_key product_id product parent_asin asin sku movie_id video_id news_id article_id track_id song_id "
    "artist_id book_id isbn listing_id content_id goods_id offer_id post_id game_id show_id recipe_id business_id poi_id "
    "restaurant_id job_id course_id document_id doc_id photo_id app_id adgroup_id ad_id creative_id title_id podcast_id "
    "episode_id clip_id feed_id i"
)
"""Typical names of the item column, the most typical first."""
TIME = _split(
    "timestamp time event_time time_stamp ts event_timestamp datetime date_time unix_time unix_timestamp time_ms "
    "timestamp_ms ts_ms time_us created_at created occurred_at unix_review_time event_date date dt day t"
)
"""Typical names of the time column, the most typical first."""
TIME_WORDS = {"time", "timestamp", "date", "datetime", "ts", "at", "when"}
OTHER_TIME_WORDS = {
    "updated", "modified", "expires", "expired", "ended", "end", "deleted", "birth", "registered", "joined"
}  # fmt: skip
"""Words in the names of times that are not the time of the event."""
LABEL = _split(
    "label target click clicked is_click clk is_clicked y converted is_converted conversion purchase purchased is_purchase "
    "buy like liked is_like long_view"
)
"""Typical names of the label column, the most typical first."""
ROW = _split("row row_id row_number impression_id request_id log_id id index")
"""Typical names of the column of row ids, the most typical first."""
REQUEST = _split(
    "request_id request impression_id slate_id slate search_id srch_id query_id page_view_id pageview_id list_id auction_id "
    "display_id feed_id recommendation_id group_id qid"
)
"""Typical names of the column whose value is the same for items that were shown together, the most typical first."""
TITLE = _split(
    "title name item_name product_name product_title item_title movie_title video_title headline song track_name "
    "article_title display_name"
)
"""Typical names of the title column, the most typical first."""

_REACTION_WORDS = {
    "the user's opinion of the item": "rating rate star score overall vote thumb helpful opinion sentiment review",
    "the user's action on the item": (
        "click clk like dislike love hate favorite favourite fav follow comment forward share repost retweet reply save "
        "bookmark skip finish complete purchase buy bought convert conversion subscribe download install cart wishlist "
        "enter open swipe hide report transaction"
    ),
    "the type of the user's action": (
        "event action behavior behaviour interaction reaction feedback response outcome activity"
    ),
    "how long the user stayed": "watch play dwell stay listen view playtime watchtime progress viewed",
}
"""For each kind of user reaction, the words in column names that suggest it, in singular and present."""
REACTIONS = {word: reaction for reaction, text in _REACTION_WORDS.items() for word in _split(text)}
"""Word of a column name to the kind of reaction that it hints at."""
RATINGS = {"rating", "ratings", "stars", "star", "score", "overall", "rate"}
"""Names of ratings."""
ACTIONS = set(
    _split(
        "click view cart buy purchase pv fav like dislike skip addtocart order share comment play watch transaction "
        "favorite wishlist remove impression convert pageview add wish"
    )
)
"""Values of a column that holds the user's action."""
CLOCK = set(_split("date day dt hour hourmin minute weekday month year dow"))
"""Words for parts of the time of an event."""
TRANSIENT = set(_split("session request trace transaction order log cookie ip uuid guid impression"))
"""Words for things whose ids do not recur in later events."""
AMOUNTS = set(
    _split("price count num number amount qty quantity cnt total duration size views likes followers time ms sec days")
)
"""Words for amounts."""
CONTEXT = set(
    _split(
        "environment env device platform os browser country region city locale language lang referrer referer source channel "
        "medium campaign page url position pos rank slot index placement tab section surface scenario app version agent network "
        "ip query session request host domain screen hour weekday"
    )
)
"""Words for the circumstances of an event, which are known before the item is shown: click_device is no reaction."""
CODES = set(_split("id ids code type category cat class zip key no level group tag segment tab"))
"""Words for codes, which may be integers but are no amounts."""
_ENDINGS = ("", "s", "d", "ed", "ned", "ping", "ing")


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case: `userId` and `USER_ID` give user, id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def rank_among(name: str, typical_names: Iterable[str]) -> int | None:
    """Return the index of a name among typical names, whatever its case and separators; None if it is not among them."""
    joined = "".join(split_words(name))
    spellings = [typical.replace("_", "") for typical in typical_names]
    return spellings.index(joined) if joined in spellings else None


def resembles(name: str, typical_names: Iterable[str]) -> bool:
    """Return whether a name has the first word of a typical name and ends like an id, such as `buyer_user_key`."""
    words = split_words(name)
    first_words = {typical.split("_")[0] for typical in typical_names if "_" in typical}
    return bool(set(words) & first_words) and words[-1] in {"id", "key", "no", "uuid", "hash", "code", *first_words}


def reaction_of_name(name: str) -> str | None:
    """Return the kind of user reaction that a name hints at, in words; None if it hints at none.

    A word for the circumstances after the reaction makes the name one of the circumstances: `click_os`, `click_deviceGroup`.
    """
    words = split_words(name)
    if words and words[-1] in {"id", "ids"}:
        return None
    for index, word in enumerate(words):
        if CONTEXT & set(words[index + 1 :]):
            continue
        for ending in _ENDINGS:
            stem = word.removesuffix(ending) if ending else word
            for base in (stem, stem + "e"):
                if base in REACTIONS:
                    return REACTIONS[base]
    return None


def has_word(name: str, words: set[str]) -> bool:
    """Return whether a name contains one of the words."""
    return bool(set(split_words(name)) & words)
