"""The sections of the configuration, each line with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfrec.autoconfig.attributes import ItemTable, UserTable
from tfrec.autoconfig.catalogue import Guessed
from tfrec.autoconfig.events import EventPart
from tfrec.autoconfig.groups import Group, table_block
from tfrec.autoconfig.page import Block, Entry, Remark
from tfrec.autoconfig.parts import kinds_of, shared_context, shared_roles, write_parts

_FEW_ITEMS, _FEW_EVENTS, _FEW_TEXTS = 2000, 20_000, 2000
_MAX_NAMED = 12


def data_section(
    folder: Path,
    parts: list[EventPart],
    items: ItemTable,
    users: UserTable,
    split: list[Entry],
    order: Entry | None,
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
    files: list[Entry | Remark] = [
        Entry("events", table_block(write_parts(parts)), "one row an event, after the steps")
    ]
    if items.group:
        files.append(Entry("items", _table_part(items.group, items.guessed), _why_items(items)))
    else:
        files.append(Remark("No items: no file lists them, so they are the items of the events."))
    if users.group:
        files.append(Entry("users", _table_part(users.group, users.guessed), _why_users(users)))
    return [
        Entry("source", "files", "your files"),
        Entry("path", folder.as_posix(), "where they lie; from the working directory"),
        Entry("tables", files, "which file is what"),
        Entry("events", _events(parts, order), "what the columns of the log mean"),
        *_items(items),
        *_users(users),
        *_cleaning(parts),
        Entry("split", split, "which events train and which test"),
        *_privacy(parts, items, users),
    ]


def _table_part(group: Group, guessed: Guessed) -> object:
    keys = group.part()
    steps = group.cutting
    if guessed.computed:
        made = [Entry(name, text, why) for name, (text, why) in guessed.computed.items()]
        steps.append([Entry("compute", made, "columns in a form that can be read")])
    if steps:
        keys.append(Entry("steps", [list(step) for step in steps], "changes of the rows, in order"))
    return table_block([keys])


def _why_items(items: ItemTable) -> str:
    if items.is_from_events:
        return "the log repeats what it says of an item; a file with a row an item would be better"
    return "the list of items"


def _why_users(users: UserTable) -> str:
    if users.is_from_events:
        return "the log repeats what it says of a user in each row"
    return "the list of users"


def _events(parts: list[EventPart], order: Entry | None) -> Block:
    main = parts[0]
    block: list[Entry | Remark] = [
        Entry("user_id", main.user.column, main.user.why),
        Entry("item_id", main.item.column, main.item.why),
    ]
    roles = shared_roles(parts)
    if "time" not in roles:
        block.append(Entry("time", None, "no column holds times"))
    if order:
        block.append(order)
    for key, role in roles.items():
        block.append(Entry(key, role.column, role.why))
        if key == "time":
            settings = ("time_format", "time_unit")
            block += [Entry(k, *main.settings[k]) for k in settings if k in main.settings]
        if key == "rating":
            block.append(Entry("positive_rating", *main.settings["positive_rating"]))
        if key == "kind":
            kinds = [Entry(name, *meaning) for name, meaning in kinds_of(parts).items()]
            why = "label 1: wanted, 0: seen and not wanted; a kind that is not here stops the run"
            block.append(Entry("kinds", kinds, why))
    if not {"kind", "label", "rating"} & {*roles}:
        block.append(Remark("No kind, label or rating: each event says that the item was wanted."))
    context = shared_context(parts)
    if context:
        features = [Entry(name, "category", why) for name, why in context.items()]
        block.append(Entry("context", features, "what is known of a request"))
    for part in _different(parts):
        block += _left_out_remarks(part.left_out)
    return block


def _different(parts: Iterable[EventPart]) -> list[EventPart]:
    """Returns one part of each group of files."""
    return list({tuple(part.group.paths): part for part in reversed(list(parts))}.values())


def _left_out_remarks(left_out: dict[str, str]) -> list[Entry | Remark]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        by_reason.setdefault(reason, []).append(name)
    remarks: list[Entry | Remark] = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        remarks.append(Remark(f"Left out: {', '.join(names[:_MAX_NAMED])}{more}: {reason}."))
    return remarks


def _items(items: ItemTable) -> list[Entry | Remark]:
    guessed = items.guessed
    if items.group is None:
        block: list[Entry | Remark] = [
            Entry("title", None, "no titles are known; ids are shown"),
            Entry("text", [], "no texts, so items are known by their events alone"),
        ]
        return [Entry("items", block, "nothing but ids")]
    block = [Entry("item_id", items.key, _key_reason(items))]
    block.append(Entry("title", guessed.title, guessed.title_why or "no column is a title"))
    texts = "; ".join(f"{name}: {why}" for name, why in guessed.text.items())
    block.append(Entry("text", [*guessed.text], texts or "no column holds words to read"))
    block += _features(guessed)
    column = items.group.columns[items.key]
    if column.distinct < len(column.raw):
        why = "ids stand in several rows; the first one counts"
        block.append(Entry("duplicates", "first", why))
    block += _left_out_remarks(guessed.left_out)
    found: list[Entry | Remark] = [Entry("items", block, "what the columns of the catalogue mean")]
    is_known = items.is_from_events or (items.overlap is not None and items.overlap >= 1.0)
    if not is_known:
        share = "not measured" if items.overlap is None else f"{items.overlap:.1%}"
        why = (
            f"of the first events' items the catalogue has {share}; the others' events are dropped"
        )
        found.append(Entry("unknown_items", "drop", why))
    return found


def _key_reason(items: ItemTable) -> str:
    if items.is_from_events or items.overlap is None:
        return "the item of the events"
    reason = f"holds {items.overlap:.0%} of the first events' items"
    others = [f"{name} {share:.0%}" for name, share in items.others.items()]
    return reason + (f" ({', '.join(others[:4])})" if others else "")


def _users(users: UserTable) -> list[Entry | Remark]:
    if users.group is None:
        return []
    share = f"holds {users.overlap:.0%} of the first events' users" if users.overlap else ""
    if users.overlap and users.overlap < 1:
        share += "; do the ids of both tables mean the same?"
    block: list[Entry | Remark] = [
        Entry("user_id", users.key, share or "the user of the events"),
    ]
    if users.guessed.text:
        texts = "; ".join(f"{name}: {why}" for name, why in users.guessed.text.items())
        block.append(Entry("text", [*users.guessed.text], texts))
    block += _features(users.guessed)
    column = users.group.columns[users.key]
    if column.distinct < len(column.raw):
        why = "users stand in several rows; what was said last counts"
        block.append(Entry("duplicates", "last", why))
    block += _left_out_remarks(users.guessed.left_out)
    return [Entry("users", block, "what is known of users")]


def _features(guessed: Guessed) -> list[Entry | Remark]:
    if not guessed.features:
        return []
    features = [Entry(name, *feature) for name, feature in guessed.features.items()]
    return [Entry("features", features, "further columns that the model reads")]


def _cleaning(parts: list[EventPart]) -> list[Entry | Remark]:
    """Asks for repairs where the first rows already need some."""
    needed = []
    for part in parts:
        columns = [part.user.column, part.item.column]
        roles = ("time", "kind", "label", "rating", "sequence", "weight")
        columns += [part.roles[key].column for key in roles if key in part.roles]
        for name in dict.fromkeys(columns):
            if name in part.group.frame.columns and part.group.frame[name].null_count():
                needed.append(name)
    if not needed:
        return []
    names = ", ".join(dict.fromkeys(needed))
    why = f"some rows lack {names}: such rows are dropped and counted; `error` stops at the first"
    return [Entry("cleaning", [Entry("bad_cells", "repair", why)], "what to do about bad rows")]


def _privacy(parts: list[EventPart], items: ItemTable, users: UserTable) -> list[Entry | Remark]:
    personal = dict(users.guessed.personal)
    used = {items.key, users.key, items.guessed.title, *items.guessed.text, *items.guessed.features}
    used |= {*users.guessed.text, *users.guessed.features, *shared_context(parts)}
    for part in parts:
        used |= {part.user.column, part.item.column, *(r.column for r in part.roles.values())}
        used |= {*(part.lists.taken if part.lists else ())}
        for column in part.group.columns.values():
            if column.personal:
                personal[column.name] = column.personal
    block: list[Entry | Remark] = []
    never = {name: why for name, why in personal.items() if name not in used}
    if never:
        reasons = "; ".join(f"{name}: {why}" for name, why in never.items())
        block.append(Entry("never_write", [*never], f"personal, dropped when read ({reasons})"))
    user = parts[0].group.columns.get(parts[0].user.column)
    if user is not None and user.personal:
        text = f"User ids are personal ({user.personal}): set privacy.pseudonym_key to hide them."
        block.append(Remark(text))
    if not never:
        return block
    return [Entry("privacy", block, "what must not reach any file that is written")]


def model_sections(parts: list[EventPart], items: ItemTable, users: UserTable) -> list[Entry]:
    """Writes how a first model is trained, by the size of the data."""
    has_text = bool(items.guessed.text or users.guessed.text)
    num_items = len(items.group.frame) if items.group and items.group.is_whole else None
    if not has_text:
        steps = Entry("steps", 0, "no texts to learn from")
    elif num_items is not None and num_items < _FEW_TEXTS:
        steps = Entry("steps", 50, f"{num_items:,} texts are few; more with more texts")
    else:
        steps = Entry("steps", 100, "a first look; 200 and more for good")
    encoder = [
        Entry("source", "tiny", "small and quick; `small` or a pre-trained one later"),
        Entry("pretraining", [steps], "on the catalogue's own texts"),
    ]
    rows = sum(len(part.group.frame) for part in _different(parts))
    is_small = all(part.group.is_whole for part in parts) and rows < _FEW_EVENTS
    retrieval = [Entry("epochs", 5, "a first look; the best epoch is kept, so more do no harm")]
    if is_small and not any(part.lists for part in parts):
        retrieval = [
            Entry("epochs", 10, "a small log needs more of them"),
            Entry("batch_size", 128, f"{rows:,} events are few"),
        ]
    models = [
        Entry("encoder", encoder, "BERT, which reads texts"),
        Entry("retrieval", retrieval, "finds items"),
        Entry("ranking", [Entry("epochs", 2, "a first look")], "sorts what was found"),
    ]
    if num_items is not None and num_items < _FEW_ITEMS and not items.is_from_events:
        exact = Entry("kind", "exact", f"{num_items:,} items are few enough to score them all")
        models.append(Entry("index", [exact], "how items are searched"))
    return models
