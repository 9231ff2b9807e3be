"""The sections of the configuration, each line with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfrec.autoconfig.declaration import compute, declare
from tfrec.autoconfig.events import EventPart
from tfrec.autoconfig.listings import Listing
from tfrec.autoconfig.page import Block, Entry
from tfrec.autoconfig.parts import declare_parts, shared_context, shared_kinds, shared_roles

_FEW_ITEMS, _FEW_EVENTS, _FEW_TEXTS = 2000, 20_000, 2000
_MAX_NAMED = 12
_REPEATED = {
    "items": "an item; a file with a row an item would be better",
    "users": "a user in each row",
}


def data_section(
    folder: Path,
    parts: list[EventPart],
    items: Listing | None,
    users: Listing | None,
    split: list[Entry],
    order: list[Entry],
) -> Block:
    """Writes `data`.

    Args:
        folder: Where the files lie.
        parts: The events.
        items: The catalogue.
        users: The user table.
        split: Keys of `split`.
        order: Key of the events, where it is needed.
    """
    declared = declare_parts(parts)
    events = declared if len(declared) > 1 else declared[0]
    files: list[Entry | str] = [Entry("events", events, "one row an event, after the steps")]
    files += [_declared(listing) for listing in (items, users) if listing]
    if not items:
        files.append("No items: no file lists them, so they are the items of the events.")
    return [
        Entry("source", "files", "your files"),
        Entry("path", folder.as_posix(), "where they lie; from the working directory"),
        Entry("tables", files, "which file is what"),
        Entry("events", _events(parts, order), "what the columns of the log mean"),
        *_items(items),
        *([Entry("users", _listed(users), "what is known of users")] if users else []),
        *_cleaning(parts),
        Entry("split", split, "which events train and which test"),
        *_privacy(parts, items, users),
    ]


def _declared(listing: Listing) -> Entry:
    key = "users" if listing.attributes.is_users else "items"
    why = f"the list of {key}"
    if listing.is_from_events:
        why = f"the log repeats what it says of {_REPEATED[key]}"
    made = listing.attributes.computed
    steps = [compute(made, "columns in a form that can be read")] if made else []
    return Entry(key, declare(listing.ids.table, steps), why)


def _events(parts: list[EventPart], order: list[Entry]) -> Block:
    main, roles = parts[0], shared_roles(parts)
    first = {key: roles.pop(key) for key in ("user_id", "item_id")}
    block: list[Entry | str] = [Entry(key, role.name, role.why) for key, role in first.items()]
    if "time" not in roles:
        block.append(Entry("time", None, "no column holds times"))
    block += order
    belong = {"time": ("time_format", "time_unit"), "rating": ("positive_rating",)}
    for key, role in roles.items():
        block.append(Entry(key, role.name, role.why))
        block += [main.settings[name] for name in belong.get(key, ()) if name in main.settings]
        if key == "kind":
            why = "label 1: wanted, 0: seen and not wanted; a kind that is not here stops the run"
            block.append(Entry("kinds", shared_kinds(parts), why))
    if not {"kind", "label", "rating"} & {*roles}:
        block.append("No kind, label or rating: each event says that the item was wanted.")
    if context := shared_context(parts):
        block.append(Entry("context", [*context.values()], "what is known of a request"))
    for part in _different(parts):
        block += _left_out(part.left_out)
    return block


def _different(parts: Iterable[EventPart]) -> list[EventPart]:
    """Returns one part of each table."""
    return list({tuple(part.table.paths): part for part in reversed(list(parts))}.values())


def _left_out(reasons: dict[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    remarks = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        remarks.append(f"Left out: {', '.join(names[:_MAX_NAMED])}{more}: {reason}.")
    return remarks


def _items(items: Listing | None) -> list[Entry]:
    if items is None:
        block: list[Entry | str] = [
            Entry("title", None, "no titles are known; ids are shown"),
            Entry("text", [], "no texts, so items are known by their events alone"),
        ]
        return [Entry("items", block, "nothing but ids")]
    found = [Entry("items", _listed(items), "what the columns of the catalogue mean")]
    if items.ids.share < 1:
        told = f"of the first events' items the catalogue has {items.ids.share:.1%}"
        found.append(Entry("unknown_items", "drop", f"{told}; the others' events are dropped"))
    return found


def _listed(listing: Listing) -> Block:
    """Returns what is read of items or users: id, texts, features, and what is left out."""
    ids, attributes, is_users = listing.ids, listing.attributes, listing.attributes.is_users
    thing = "user" if is_users else "item"
    why = f"holds {ids.share:.0%} of the first events' {thing}s"
    if listing.is_from_events:
        why = f"the {thing} of the events"
    elif is_users and ids.share < 1:
        why += "; do the ids of both tables mean the same?"
    elif not is_users and ids.others:
        why += f" ({', '.join([f'{name} {share:.0%}' for name, share in ids.others.items()][:4])})"
    block: list[Entry | str] = [Entry(f"{thing}_id", ids.name, why)]
    if title := attributes.title:
        why = "by its name" if title.words else "the first column of several words"
        block.append(Entry("title", title.name, why))
    elif not is_users:
        block.append(Entry("title", None, "no column is a title"))
    if attributes.text:
        texts = "; ".join(f"{name}: {why}" for name, why in attributes.text.items())
        block.append(Entry("text", [*attributes.text], texts))
    elif not is_users:
        block.append(Entry("text", [], "no column holds words to read"))
    if attributes.features:
        features = [*attributes.features.values()]
        block.append(Entry("features", features, "further columns that the model reads"))
    column = ids.table.columns[ids.name]
    if column.distinct < len(column.raw):
        kept, why = "first", "ids stand in several rows; the first one counts"
        if is_users:
            kept, why = "last", "users stand in several rows; what was said last counts"
        block.append(Entry("duplicates", kept, why))
    return block + _left_out(attributes.left_out)


def _cleaning(parts: list[EventPart]) -> list[Entry]:
    """Asks for repairs where the first rows already need some."""
    keys = ("user_id", "item_id", "time", "kind", "label", "rating", "sequence", "weight")
    columns = [part.roles[key].column for part in parts for key in keys if key in part.roles]
    needed = dict.fromkeys(column.name for column in columns if column.raw.null_count())
    if not needed:
        return []
    names = ", ".join(needed)
    why = f"some rows lack {names}: such rows are dropped and counted; `error` stops at the first"
    return [Entry("cleaning", [Entry("bad_cells", "repair", why)], "what to do about bad rows")]


def _privacy(
    parts: list[EventPart], items: Listing | None, users: Listing | None
) -> list[Entry | str]:
    personal = dict(users.attributes.personal) if users else {}
    used = {*shared_context(parts)}
    for listing in filter(None, (items, users)):
        used |= {listing.ids.name, *listing.attributes.text, *listing.attributes.features}
    for part in parts:
        used |= {role.name for role in part.roles.values()}
        used |= {*(part.lists.taken if part.lists else ())}
        personal |= {c.name: c.personal for c in part.table.columns.values() if c.personal}
    never = {name: why for name, why in personal.items() if name not in used}
    block: list[Entry | str] = []
    if reason := parts[0].user.personal:
        block = [f"User ids are personal ({reason}): set privacy.pseudonym_key to hide them."]
    if not never:
        return block
    reasons = "; ".join(f"{name}: {why}" for name, why in never.items())
    dropped = Entry("never_write", [*never], f"personal, dropped when read ({reasons})")
    return [Entry("privacy", [dropped, *block], "what must not reach any file that is written")]


def model_sections(
    parts: list[EventPart], items: Listing | None, users: Listing | None
) -> list[Entry]:
    """Writes how a first model is trained, by the size of the data."""
    num_items = len(items.ids.table.frame) if items and items.ids.table.is_whole else None
    steps = Entry("steps", 100, "a first look; 200 and more for good")
    if not any(listing and listing.attributes.text for listing in (items, users)):
        steps = Entry("steps", 0, "no texts to learn from")
    elif num_items is not None and num_items < _FEW_TEXTS:
        steps = Entry("steps", 50, f"{num_items:,} texts are few; more with more texts")
    rows = sum(len(part.table.frame) for part in _different(parts))
    is_small = all(part.table.is_whole and not part.lists for part in parts)
    retrieval = [Entry("epochs", 5, "a first look; the best epoch is kept, so more do no harm")]
    if is_small and rows < _FEW_EVENTS:
        retrieval = [
            Entry("epochs", 10, "a small log needs more of them"),
            Entry("batch_size", 128, f"{rows:,} events are few"),
        ]
    encoder = [
        Entry("source", "tiny", "small and quick; `small` or a pre-trained one later"),
        Entry("pretraining", [steps], "on the catalogue's own texts"),
    ]
    models = [
        Entry("encoder", encoder, "BERT, which reads texts"),
        Entry("retrieval", retrieval, "finds items"),
        Entry("ranking", [Entry("epochs", 2, "a first look")], "sorts what was found"),
    ]
    if items and not items.is_from_events and num_items is not None and num_items < _FEW_ITEMS:
        exact = Entry("kind", "exact", f"{num_items:,} items are few enough to score them all")
        models.append(Entry("index", [exact], "how items are searched"))
    return models
