"""Words by which people name columns, files and kinds of events."""

from __future__ import annotations

import re
from typing import Final


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


USER: Final = _set(
    "user uid customer cust client visitor member account person reviewer buyer shopper "
    "viewer player listener subscriber reader household student learner guest msno"
)
SESSION: Final = _set("session sess sid cookie")
ITEM: Final = _set(
    "item iid product prod article movie film book track song music artist video news sku "
    "asin content post game recipe goods listing property hotel place poi venue business "
    "offer ad document doc story course app podcast photo clip restaurant merchandise stock "
    "anime job"
)
ID: Final = _set("id ids idx key code no number uuid guid hash hashed fixed parent ref")
CODE: Final = _set("id ids isbn isbn13 ean upc gtin sku asin uuid guid hash code")
IMPRESSION: Final = _set("impression imp request slate pageview search query")
TIME: Final = _set("time timestamp date datetime ts tstamp created at when day unix epoch moment")
OTHER_TIME: Final = _set(
    "birth birthday release released publish published signup register registered expiry "
    "updated modified next end dob watch read dwell spent duration"
)
KIND: Final = _set("kind event type action behavior behaviour interaction activity feedback")
LABEL: Final = _set(
    "label click clicked target converted conversion liked like purchased bought positive "
    "relevant relevance response y is was has"
)
RATING: Final = _set("rating rate score stars star overall grade")
WEIGHT: Final = _set("weight importance confidence")
POSITION: Final = _set("position pos rank slot")
QUERY: Final = _set("query search keyword keywords term searchterm q text phrase")
SEQUENCE: Final = _set("sequence seq step sequencenumber eventnumber")
SPLIT: Final = _set("split partition fold set subset")
WATCH: Final = _set("watch read dwell spent view play listen")
SECONDS: Final = _set("time seconds sec secs duration s")
NO_SECONDS: Final = _set("next ms")
CONTEXT: Final = _set(
    "device os platform browser channel network locale weekday daypart hour weather surface "
    "page medium"
)
ATTRIBUTE: Final = _set(
    "age gender sex country region city state language income education occupation job "
    "subscriber premium member segment marital sso tier plan"
)
ITEM_ATTRIBUTE: Final = _set(
    "title name brand category categories genre genres price author authors description topic "
    "publisher manufacturer colour color size"
)
TITLE: Final = _set("title name headline caption subject")
BRAND: Final = _set(
    "brand category subcategory genre publisher manufacturer author language colour color "
    "department topic"
)
BEHAVIOUR: Final = _set(
    "rating ratings review reviews count popularity popular views clicks sales sold votes "
    "vote likes plays ctr impressions inviews pageviews bestseller rank average avg score"
)
PERSONAL: Final = _set(
    "email mail phone telephone tel fax zip zipcode postcode postal plz address street "
    "surname firstname lastname fullname ssn passport birthdate birthday dob ip ipaddress "
    "iban latitude longitude lat lon lng gps"
)
PERSON_NAME: Final = _set("name username nickname login")
ITEM_FILE: Final = ITEM | frozenset(["catalog", "catalogue", "meta", "metadata", "info"])
SPLIT_FILE: Final = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip

# Words of kinds of events by how far they go; what goes farther weighs more.
_KIND_WORDS: Final = {
    0: "impression shown show exposure expose display displayed served inview seen skip skipped "
    "dislike unlike hide ignore ignored pass remove removed unfollow return refund",
    1: "click clicked view viewed pageview open opened play played read watch watched detail "
    "visit visited listen stream pv interaction history rated like liked",
    2: "cart addtocart basket wishlist favorite favourite fav bookmark save saved share shared "
    "follow subscribe download reserve",
    3: "purchase purchased buy bought order ordered transaction checkout paid pay book booked "
    "booking conversion converted sale rent",
}
KINDS: Final = {word: stage for stage, words in _KIND_WORDS.items() for word in words.split()}

_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")


def words_of(name: str) -> list[str]:
    """Splits a name into lower-case words: ``userId``, ``user_id`` and ``userid`` are one."""
    words = []
    for piece in _PIECE.findall(name):
        word = piece.lower()
        if word.endswith("ids") and word[:-3] in USER | ITEM | SESSION:
            words += [word[:-3], "id"]
        elif word.endswith("id") and word[:-2] in USER | ITEM | SESSION | IMPRESSION:
            words += [word[:-2], "id"]
        elif word.endswith("s") and word[:-1] in USER | ITEM:
            words.append(word[:-1])
        else:
            words.append(word)
    return words


def stage_of(text: str) -> int | None:
    """Returns how far a kind of event goes: 0 shown, 1 click, 2 cart, 3 purchase; None unknown."""
    joined = re.sub(r"[\W_]+", "", text.lower())
    if joined in KINDS:
        return KINDS[joined]
    stages = [KINDS[word] for word in words_of(text) if word in KINDS]
    # "remove_from_cart" and "view_item": a step back counts as one, else the farthest word.
    return 0 if 0 in stages else max(stages, default=None)


def file_words(stem: str) -> list[str]:
    """Splits a file's name into words, plural taken off."""
    return [w[:-1] if len(w) > 3 and w.endswith("s") and w != "news" else w for w in words_of(stem)]
