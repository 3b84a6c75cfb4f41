"""What the builtin shops sell: kinds of goods, their attributes, options and prices. Tables only; ``generate`` draws.

Everything is invented: brands and series are made-up words, descriptions are put together by rule. Attributes are
chosen so that none contains all words of another of its department, or the fuzzy match of the reward would take one
for the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, eq=False, slots=True)
class Kind:
    """One kind of goods. Each exists once, so two are equal only if they are the same.

    Attributes:
        name: What it is called in instructions, and the query it is found under.
        other: Another word for it, for titles.
        article: ``"a "``, ``"an "`` or ``""``: what an instruction puts before its name.
        category: The department in one word, which is the task type.
        path: Levels of the product category.
        attributes: What such goods may be.
        options: What can be chosen, and among which values.
        uses: What such goods are for.
        price: Lowest and highest price in dollars.
    """

    name: str
    other: str
    article: str
    category: str
    path: tuple[str, ...]
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    uses: tuple[str, ...]
    price: tuple[int, int]


_COLORS = (
    "black", "white", "navy", "grey", "red", "forest green", "beige", "brown", "sky blue", "burgundy", "pink", "teal",
    "yellow", "lavender",
)  # fmt: skip
_CLOTHES_SIZES = ("x-small", "small", "medium", "large", "x-large", "xx-large")
_SHOE_SIZES = ("6", "6.5", "7", "7.5", "8", "8.5", "9", "9.5", "10", "10.5", "11", "12")
_BOTTLES = ("2 ounce", "4 fl oz", "8.5 fl oz", "12 fl oz", "16.9 fl oz", "33 fl oz")
_SCENTS = ("lavender", "rose", "citrus", "coconut", "eucalyptus", "vanilla", "unscented")
_PACKS = ("pack of 1", "pack of 2", "pack of 4", "pack of 6", "pack of 12")
_FASHION, _BEAUTY, _GROCERY = "Clothing, Shoes & Jewelry", "Beauty & Personal Care", "Grocery & Gourmet Food"

# category, levels above the kind, attributes, options, uses, {name: (other word, lowest price, highest price)}
_DEPARTMENTS: Final = (
    (
        "fashion", (_FASHION, "Unisex", "Shoes"),
        ("rubber sole", "memory foam", "slip resistant", "arch support", "breathable mesh", "quick drying",
         "steel toe", "faux fur lining", "genuine leather", "ankle strap"),
        {"color": _COLORS, "size": _SHOE_SIZES},
        ("daily walks", "long shifts", "travel", "weekends outdoors"),
        {"hiking boots": ("trail boots", 45, 160), "running shoes": ("sneakers", 30, 130),
         "loafers": ("slip-ons", 25, 110), "sandals": ("summer shoes", 15, 80), "house slippers": ("clogs", 12, 45)},
    ),
    (
        "fashion", (_FASHION, "Unisex", "Clothing", "Tops"),
        ("long sleeve", "machine wash", "slim fit", "loose fit", "crew neck", "button closure", "moisture wicking",
         "polyester spandex", "front pocket", "wrinkle free"),
        {"color": _COLORS, "size": _CLOTHES_SIZES},
        ("everyday wear", "the office", "cool evenings", "the gym"),
        {"hoodie": ("sweatshirt", 18, 70), "t-shirt": ("tee", 8, 35), "blouse": ("tunic", 14, 60),
         "cardigan": ("knit jacket", 20, 90), "dress shirt": ("button-down", 16, 75)},
    ),
    (
        "fashion", (_FASHION, "Unisex", "Clothing", "Pants"),
        ("elastic waistband", "drawstring closure", "straight leg", "high waist", "tummy control", "hand wash",
         "stretch denim", "side pockets", "reinforced knees", "uv protection"),
        {"color": _COLORS, "size": _CLOTHES_SIZES},
        ("everyday wear", "yoga", "hiking", "work"),
        {"jeans": ("denims", 22, 95), "leggings": ("tights", 10, 50), "cargo pants": ("work trousers", 24, 85),
         "shorts": ("bermudas", 10, 45)},
    ),
    (
        "beauty", (_BEAUTY, "Hair Care"),
        ("sulfate free", "paraben free", "argan oil", "tea tree", "damaged hair", "color safe", "hair growth",
         "cruelty free", "dry scalp", "frizz control"),
        {"scent": _SCENTS, "size": _BOTTLES},
        ("all hair types", "curly hair", "fine hair", "everyday washing"),
        {"shampoo": ("hair wash", 6, 40), "conditioner": ("hair rinse", 6, 42), "hair mask": ("deep treatment", 8, 48),
         "hair oil": ("hair serum", 9, 55)},
    ),
    (
        "beauty", (_BEAUTY, "Skin Care"),
        ("fragrance free", "hyaluronic acid", "vitamin c", "sensitive skin", "anti aging", "green tea extract",
         "dermatologist tested", "fine lines", "dark circles", "water based"),
        {"scent": _SCENTS, "size": _BOTTLES},
        ("day and night", "dry skin", "the whole family", "mature skin"),
        {"face cream": ("moisturizer", 9, 70), "body lotion": ("body milk", 6, 38), "sunscreen": ("sun lotion", 8, 42),
         "face serum": ("essence", 10, 85)},
    ),
    (
        "beauty", (_BEAUTY, "Tools & Accessories"),
        ("travel size", "stainless steel", "easy clean", "non slip grip", "soft bristles", "rose gold",
         "storage case", "eco friendly", "double sided", "lightweight handle"),
        {"color": _COLORS, "style": ("basic", "deluxe", "professional", "gift")},
        ("home and travel", "beginners", "salons", "quick touch-ups"),
        {"makeup brush set": ("brushes", 7, 45), "nail kit": ("manicure set", 6, 40),
         "toothbrush set": ("oral care set", 5, 35), "hand mirror": ("vanity mirror", 8, 50)},
    ),
    (
        "electronics", ("Electronics", "Headphones & Audio"),
        ("noise cancelling", "water proof", "fast charging", "hands free", "stereo sound", "long lasting battery",
         "touch control", "built in microphone", "deep bass", "low latency"),
        {"color": _COLORS, "connector": ("usb c", "micro usb", "mini jack")},
        ("calls", "sport", "gaming", "commuting"),
        {"earbuds": ("in-ear headset", 15, 150), "headphones": ("over-ear headset", 20, 220),
         "bluetooth speaker": ("music box", 18, 180), "soundbar": ("tv speaker", 45, 300)},
    ),
    (
        "electronics", ("Electronics", "Accessories & Supplies"),
        ("heavy duty", "tangle free", "gold plated", "shock absorption", "wireless charging", "ultra hd",
         "aluminum alloy", "easy install", "dust proof", "high speed"),
        {"color": _COLORS, "size": ("3 ft", "6 ft", "10 ft", "25 ft", "50 ft")},
        ("home and office", "the car", "travel", "tablets and phones"),
        {"charging cable": ("charger cord", 5, 35), "hdmi cable": ("video cord", 6, 45),
         "power strip": ("outlet extender", 12, 60), "cable organizer": ("cord holder", 5, 25)},
    ),
    (
        "electronics", ("Electronics", "Camera & Photo"),
        ("carbon fiber", "quick release", "carrying bag", "remote shutter", "adjustable height", "dimmable light",
         "usb powered", "panoramic head", "weather sealed", "optical zoom"),
        {"color": _COLORS, "configuration": ("single", "with case", "with batteries", "complete kit")},
        ("vlogging", "wildlife", "portraits", "the studio"),
        {"tripod": ("camera stand", 20, 160), "ring light": ("studio lamp", 18, 110),
         "digital camera": ("point and shoot", 60, 480), "binoculars": ("field glasses", 30, 240)},
    ),
    (
        "garden", ("Home & Kitchen", "Furniture", "Living Room Furniture"),
        ("solid wood", "tempered glass", "metal legs", "hidden storage", "assembly required", "mid century",
         "faux leather", "space saving", "scratch resistant", "white finish"),
        {"color": ("oak", "walnut", "black", "white", "grey", "espresso", "cherry"),
         "size": ("24 inch", "36 inch", "42 inch", "48 inch", "60 inch")},
        ("small apartments", "the living room", "the hallway", "home offices"),
        {"coffee table": ("cocktail table", 60, 380), "bookcase": ("book shelf", 50, 320),
         "ottoman": ("foot stool", 35, 190), "tv stand": ("media console", 70, 450)},
    ),
    (
        "garden", ("Home & Kitchen", "Bedding"),
        ("machine washable", "hypo allergenic", "queen size", "cooling fabric", "zipper closure", "ultra soft",
         "double stitched", "fade resistant", "all season", "oeko certified"),
        {"color": _COLORS, "size": ("twin", "full", "queen", "king")},
        ("hot sleepers", "guest rooms", "children", "cold nights"),
        {"duvet cover": ("comforter cover", 22, 120), "throw blanket": ("plaid", 15, 80), "pillow": ("cushion", 12, 75),
         "mattress topper": ("mattress pad", 45, 240)},
    ),
    (
        "garden", ("Home & Kitchen", "Storage & Organization"),
        ("wall mounted", "rust proof", "collapsible frame", "water resistant", "lid included", "stackable design",
         "carry handles", "bamboo wood", "clear plastic", "heavy load"),
        {"color": _COLORS, "size": ("small", "medium", "large", "x-large")},
        ("closets", "the bathroom", "the pantry", "the garage"),
        {"storage basket": ("bin", 9, 55), "laundry hamper": ("clothes bin", 14, 70),
         "shoe rack": ("shoe shelf", 16, 95), "spice rack": ("jar holder", 12, 60)},
    ),
    (
        "grocery", (_GROCERY, "Snack Foods"),
        ("gluten free", "non gmo", "low carb", "plant based", "nut free", "high protein", "no added sugar",
         "individually wrapped", "kosher certified", "sea salt"),
        {"flavor": ("original", "barbecue", "honey", "cinnamon", "chocolate", "peanut butter", "chili lime"),
         "size": _PACKS},
        ("lunch boxes", "hikes", "parties", "the office"),
        {"granola bars": ("snack bars", 5, 40), "potato chips": ("crisps", 4, 35), "trail mix": ("nut mix", 6, 45),
         "crackers": ("crisp bread", 4, 30)},
    ),
    (
        "grocery", (_GROCERY, "Beverages"),
        ("caffeine free", "fair trade", "usda organic", "dairy free", "sugar free", "freeze dried", "single serve",
         "rich crema", "natural flavors", "vitamin enriched"),
        {"flavor": ("classic", "vanilla", "hazelnut", "mint", "lemon", "ginger", "caramel"), "size": _PACKS},
        ("mornings", "iced drinks", "after workouts", "gifts"),
        {"green tea": ("tea bags", 5, 38), "ground coffee": ("coffee blend", 8, 55),
         "protein shake": ("nutrition drink", 15, 70), "hot chocolate": ("cocoa mix", 6, 36)},
    ),
    (
        "grocery", (_GROCERY, "Pantry Staples"),
        ("extra virgin", "low sodium", "keto friendly", "whole grain", "artisan made", "cold pressed", "soy free",
         "shelf stable", "family size", "ready to eat"),
        {"flavor": ("mild", "spicy", "garlic", "tomato basil", "smoked", "truffle"), "size": _PACKS},
        ("weeknight dinners", "salads", "baking", "camping"),
        {"pasta sauce": ("tomato sugo", 5, 40), "almond butter": ("nut spread", 7, 45),
         "olive oil": ("salad oil", 9, 65), "rice noodles": ("asian pasta", 5, 32)},
    ),
)  # fmt: skip

_MASS = ("beauty", "grocery")
"""Departments whose goods are poured or eaten: no article."""


def _article(name: str, category: str) -> str:
    if name.endswith("s") or (category in _MASS and not name.endswith(("set", "kit", "mirror", "mask"))):
        return ""
    return "an " if name[0] in "aeiou" else "a "


FULL_KINDS: Final = tuple(
    Kind(
        name=name,
        other=other,
        article=_article(name, category),
        category=category,
        path=(*levels, name.title()),
        attributes=attributes,
        options=options,
        uses=uses,
        price=(low, high),
    )
    for category, levels, attributes, options, uses, names in _DEPARTMENTS
    for name, (other, low, high) in names.items()
)

BRANDS: Final = tuple(
    first + last
    for first in ("Nor", "Bel", "Kav", "Tam", "Ovi", "Ril", "Zen", "Mur", "Pel", "Sav")
    for last in ("vane", "dora", "lix", "mere", "tano", "quell")
)
SERIES: Final = (
    "Tarn", "Alder", "Comet", "Drift", "Ember", "Fjord", "Grove", "Halo", "Indra", "Juno", "Krill", "Lumen", "Mesa",
    "Nimbus", "Orbit", "Pique", "Quartz", "Ridge", "Sable", "Tempo", "Umbra", "Verve", "Willow", "Zephyr",
)  # fmt: skip

# --- the small shop: plain words, one or two adjectives, at most two options ---

SMALL_COLORS: Final = ("red", "blue", "green", "black", "white", "pink")
_SMALL_SIZES = ("small", "medium", "large")

# category, levels, how it is, what it is made of, whether it comes in sizes, names
_SMALL_DEPARTMENTS: Final = (
    ("clothes", ("Shop", "Clothes"), ("soft", "warm", "light"), ("wool", "cotton", "silk"), True,
     ("scarf", "hat", "coat", "shirt", "dress", "jacket", "sweater", "glove", "sock", "belt")),
    ("home", ("Shop", "Home"), ("round", "tall", "plain"), ("oak", "glass", "steel"), False,
     ("lamp", "chair", "table", "rug", "shelf", "mirror", "clock", "vase", "stool", "desk")),
    ("kitchen", ("Shop", "Kitchen"), ("wide", "flat", "deep"), ("clay", "iron", "tin"), False,
     ("mug", "pan", "bowl", "plate", "knife", "kettle", "jar", "tray", "cup", "spoon")),
    ("toys", ("Shop", "Toys"), ("noisy", "fast", "funny"), ("wooden", "rubber", "paper"), False,
     ("ball", "kite", "drum", "puzzle", "robot", "truck", "doll", "train", "boat", "bear")),
)  # fmt: skip

SMALL_KINDS: Final = tuple(
    Kind(
        name=name,
        other=name,
        article="a ",
        category=category,
        path=(*levels, name.title()),
        attributes=(*manners, *materials),
        options={"color": SMALL_COLORS, **({"size": _SMALL_SIZES} if sized else {})},
        uses=("everyone",),
        price=(5, 40),
    )
    for category, levels, manners, materials, sized, names in _SMALL_DEPARTMENTS
    for name in names
)

SMALL_IDS: Final = (
    "ANT", "BAT", "CAT", "CROW", "DEER", "DOG", "DUCK", "EEL", "ELK", "FOX", "FROG", "GOAT", "HARE", "HAWK", "HEN",
    "LION", "LYNX", "MOLE", "OWL", "PIG", "SEAL", "WASP", "WOLF",
)  # fmt: skip
"""Words that the small shop's ids begin with: a prime number of them, so that like goods get different ones."""
