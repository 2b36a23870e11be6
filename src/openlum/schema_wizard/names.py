"""What the name of a column says about its role."""

import re
from collections.abc import Iterable


def _names(text: str) -> list[str]:
    return text.split()


USER = _names(
    "user_id user uid user_key user_no user_uuid customer_id customer cust_id visitor_id reviewer_id member_id account_id "
    "buyer_id client_id consumer_id person_id player_id viewer_id reader_id subscriber_id profile_id learner_id student_id "
    "patient_id session_id device_id cookie_id nick u"
)
ITEM = _names(
    "item_id item iid item_key product_id product parent_asin asin sku movie_id video_id news_id article_id track_id song_id "
    "artist_id book_id isbn listing_id content_id goods_id offer_id post_id game_id show_id recipe_id business_id poi_id "
    "restaurant_id job_id course_id document_id doc_id photo_id app_id adgroup_id ad_id creative_id title_id podcast_id "
    "episode_id clip_id feed_id i"
)
TIME = _names(
    "timestamp time event_time time_stamp ts event_timestamp datetime date_time unix_time unix_timestamp time_ms "
    "timestamp_ms ts_ms time_us created_at created occurred_at unix_review_time event_date date dt day t"
)
LABEL = _names(
    "label target click clicked is_click clk is_clicked y converted is_converted conversion purchase purchased is_purchase "
    "buy like liked is_like long_view"
)
ROW = _names("row row_id row_number impression_id request_id log_id id index")
TITLE = _names(
    "title name item_name product_name product_title item_title movie_title video_title headline song track_name "
    "article_title display_name"
)

# Words of names, in singular and present; what they tell of the user, in words.
_TOLD = {
    "what the user thought of the item": "rating rate star score overall vote thumb helpful opinion sentiment review",
    "what the user did with the item": (
        "click clk like dislike love hate favorite favourite fav follow comment forward share repost retweet reply save "
        "bookmark skip finish complete purchase buy bought convert conversion subscribe download install cart wishlist "
        "enter open swipe hide report transaction"
    ),
    "which action of the user it was": "event action behavior behaviour interaction reaction feedback response outcome activity",
    "how long the user stayed": "watch play dwell stay listen view playtime watchtime progress viewed",
}
REACTIONS = {word: told for told, text in _TOLD.items() for word in _names(text)}
ACTIONS = set(
    _names(
        "click view cart buy purchase pv fav like dislike skip addtocart order share comment play watch transaction "
        "favorite wishlist remove impression convert pageview add wish"
    )
)
CLOCK = set(_names("date day dt hour hourmin minute weekday month year dow"))
"""Parts of the time of an event."""
PASSING = set(_names("session request trace transaction order log cookie ip uuid guid impression"))
"""With an id: of something that does not come again."""
AMOUNTS = set(
    _names("price count num number amount qty quantity cnt total duration size views likes followers time ms sec days")
)
CODES = set(_names("id ids code type category cat class zip key no level group tag segment tab"))
_ENDINGS = ("", "s", "d", "ed", "ned", "ping", "ing")


def words(name: str) -> list[str]:
    """The words of a name, in small letters: `userId` and `USER_ID` are user, id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def rank(name: str, known: Iterable[str]) -> int | None:
    """The place of a name among known ones, however it is spelt; None if it is not there."""
    joined = "".join(words(name))
    spelt = [entry.replace("_", "") for entry in known]
    return spelt.index(joined) if joined in spelt else None


def resembles(name: str, known: Iterable[str]) -> bool:
    """A name has the first word of a known one, and ends like an id: `buyer_user_key`."""
    of = words(name)
    heads = {entry.split("_")[0] for entry in known if "_" in entry}
    return bool(set(of) & heads) and of[-1] in {"id", "key", "no", "uuid", "hash", "code", *heads}


def reaction(name: str) -> str | None:
    """What a name tells of the user's reaction, in words, if it sounds like one."""
    of = words(name)
    if of and of[-1] in {"id", "ids"}:
        return None
    for word in of:
        for ending in _ENDINGS:
            stem = word.removesuffix(ending) if ending else word
            for base in (stem, stem + "e"):
                if base in REACTIONS:
                    return REACTIONS[base]
    return None


def has(name: str, known: set[str]) -> bool:
    """A word of the name is among these."""
    return bool(set(words(name)) & known)
