"""The words of the shop: departments, product types, materials, uses, colours, brands, sentences.

Every product type has a name that no other type has, so a search text names exactly one type.
Materials and uses may be shared by departments; the same word then means the same thing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Department:
    """One department and the words its products are described with.

    Attributes:
        name: str, the value of the column `category`.
        price: float, the typical price of its products, in the currency of the shop.
        types: tuple of str, names of product types.
        materials: tuple of str.
        uses: tuple of str, words that read well in "for <use>" and in "<use> <type>".
        features: tuple of str, words that read well in "with <feature>".
    """

    name: str
    price: float
    types: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    features: tuple[str, ...]


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


DEPARTMENTS: tuple[Department, ...] = (
    Department(
        "Clothing",
        45.0,
        _split("shirt, jacket, sweater, dress, trousers, hoodie, skirt, raincoat"),
        _split("cotton, linen, wool, denim, silk, fleece, cashmere, velvet"),
        _split("summer, winter, office, parties, weekends, travel, autumn"),
        _split(
            "deep pockets, a relaxed fit, hidden seams, a soft lining, a slim cut, long sleeves"
        ),
    ),
    Department(
        "Shoes and Bags",
        80.0,
        _split("sneakers, boots, sandals, loafers, backpack, handbag, wallet, suitcase"),
        _split("leather, suede, canvas, nylon, mesh, rubber, cork, felt"),
        _split("hiking, travel, commuting, office, school, trail running, weekends"),
        _split(
            "padded straps, sturdy zips, a cushioned sole, inner pockets, a firm grip, fine seams"
        ),
    ),
    Department(
        "Kitchen",
        35.0,
        _split("frying pan, knife, teapot, cutting board, mixing bowl, kettle, mug, baking tray"),
        _split("steel, copper, ceramic, bamboo, glass, cast iron, walnut, porcelain"),
        _split("baking, brewing, grilling, breakfast, dinner, camping, gifts"),
        _split(
            "a cool handle, an even heat, a tight lid, a wide rim, a stable base, easy cleaning"
        ),
    ),
    Department(
        "Furniture",
        180.0,
        _split("armchair, desk, bookshelf, lamp, sofa, stool, wardrobe, coffee table"),
        _split("oak, pine, walnut, rattan, velvet, marble, steel, linen"),
        _split("reading, studying, living rooms, bedrooms, office, balconies, small flats"),
        _split(
            "rounded edges, hidden storage, slender legs, a matte finish, deep seats, easy assembly"
        ),
    ),
    Department(
        "Sports",
        60.0,
        _split("tent, sleeping bag, yoga mat, dumbbell, helmet, water bottle, racket, jump rope"),
        _split("nylon, aluminium, carbon, foam, rubber, cork, steel, polyester"),
        _split("camping, hiking, cycling, training, climbing, tennis, trail running"),
        _split("a firm grip, a light frame, sealed seams, fast drying, a carry bag, extra padding"),
    ),
    Department(
        "Electronics",
        120.0,
        _split("headphones, speaker, keyboard, charger, camera, smartwatch, tablet stand, monitor"),
        _split("aluminium, plastic, glass, carbon, bamboo, silicone, titanium, walnut"),
        _split("gaming, music, travel, studying, office, streaming, photography"),
        _split("a long battery, quiet keys, fast charging, a clear screen, deep bass, a slim body"),
    ),
    Department(
        "Beauty",
        25.0,
        _split("shampoo, face cream, perfume, lipstick, soap, body lotion, hair mask, sunscreen"),
        _split(
            "lavender, argan oil, aloe vera, coconut, shea butter, charcoal, rose water, green tea"
        ),
        _split("dry skin, sensitive skin, daily care, summer, parties, travel, gifts"),
        _split(
            "a light scent, natural extracts, a creamy texture, gentle foam, a warm glow, rich oils"
        ),
    ),
    Department(
        "Toys",
        30.0,
        _split("puzzle, building set, doll, board game, toy train, kite, plush bear, drum"),
        _split("beech, plastic, cotton, cardboard, plush, foam, felt, pine"),
        _split("toddlers, school, birthdays, family evenings, learning, gardens, gifts"),
        _split(
            "rounded edges, bright pieces, simple rules, a storage box, soft sounds, sturdy parts"
        ),
    ),
)

COLOURS: tuple[str, ...] = _split(
    "black, white, navy, red, green, grey, beige, brown, yellow, pink, purple, turquoise"
)

ADJECTIVES: tuple[str, ...] = _split(
    "elegant, durable, lightweight, classic, modern, compact, comfortable, premium, simple, "
    "handmade, practical, refined, robust, playful, timeless, versatile"
)

BRANDS: tuple[str, ...] = tuple(
    start + end
    for start in _split("Nor, Al, Bre, Cal, Del, Fen, Hal, Kes, Mar, Tor")
    for end in _split("vik, dara, lune, tessa, rosa, wick, zena, quist")
)

REGIONS: tuple[str, ...] = _split(
    "north, south, east, west, coast, capital, lakes, hills, islands, valley"
)

GENDERS: tuple[str, ...] = ("female", "male", "other")

DEVICES: tuple[str, ...] = ("mobile", "desktop", "tablet")

TITLES: tuple[str, ...] = (
    "{brand} {colour} {material} {type} for {use}",
    "{brand} {adjective} {type} in {colour} {material} for {use}",
    "{adjective} {colour} {material} {type} by {brand} for {use}",
    "{brand} {use} {type} in {colour} {material}",
    "{colour} {material} {use} {type} by {brand}",
)

DESCRIPTIONS: tuple[str, ...] = (
    "Our {adjective} {material} {type} made for {use}, with {feature} and {second} looks.",
    "Choose our {type} in {colour} {material} for {use}. Its looks are {second}, with {feature}.",
    "Designed for {use}, our {adjective} and {second} {type} combines {material} with {feature}.",
    "The {material} {type} for {use}. Made to be {adjective} and {second}, with {feature}.",
)
