"""The items of the simulated marketplace, and what they are called.

Shapes: V items, K topics (three a category), D width of the hidden space.
"""

from dataclasses import dataclass

import numpy as np

WIDTH = 16
"""Width of the hidden space in which items and interests lie."""

# A category and its three topics. Queries name topics; the item table names the category only.
_CATALOGUE = {
    "shoes": ("running shoes", "hiking boots", "sandals"),
    "clothing": ("rain jackets", "wool sweaters", "jeans"),
    "bags": ("backpacks", "handbags", "suitcases"),
    "watches": ("sports watches", "dress watches", "smart watches"),
    "jewellery": ("rings", "necklaces", "earrings"),
    "cycling": ("road bikes", "bike helmets", "bike lights"),
    "fitness": ("yoga mats", "dumbbells", "skipping ropes"),
    "camping": ("tents", "sleeping bags", "camping stoves"),
    "football": ("footballs", "football shirts", "shin guards"),
    "kitchen": ("frying pans", "chef knives", "coffee makers"),
    "tableware": ("dinner plates", "wine glasses", "tea cups"),
    "furniture": ("desks", "bookshelves", "armchairs"),
    "lighting": ("desk lamps", "ceiling lamps", "candles"),
    "bedding": ("pillows", "duvets", "bed linen"),
    "garden": ("garden tools", "flower pots", "barbecues"),
    "tools": ("drills", "screwdrivers", "ladders"),
    "audio": ("headphones", "loudspeakers", "turntables"),
    "photo": ("cameras", "lenses", "tripods"),
    "computers": ("laptops", "keyboards", "monitors"),
    "games": ("board games", "puzzles", "video games"),
    "toys": ("building blocks", "dolls", "toy trains"),
    "books": ("crime novels", "cookbooks", "travel guides"),
    "beauty": ("perfumes", "face creams", "lipsticks"),
    "pets": ("dog leads", "cat trees", "aquariums"),
}


@dataclass(frozen=True)
class Topic:
    """What a query can name: one of the kinds of item in a category."""

    name: str
    category: int


CATEGORIES = list(_CATALOGUE)
TOPICS = [Topic(name, index) for index, names in enumerate(_CATALOGUE.values()) for name in names]
BRANDS = [
    "Norvik",
    "Alder",
    "Belmont",
    "Corso",
    "Dunmore",
    "Elvan",
    "Fjord",
    "Galera",
    "Hanko",
    "Isola",
    "Juno",
    "Karst",
    "Lumo",
    "Mirat",
    "Nandu",
    "Orfeo",
]
COLOURS = ["Red", "Blue", "Green", "Black", "White", "Grey", "Yellow", "Brown"]
AGE_GROUPS = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"]
CITIES = [
    "Aarhus",
    "Bergen",
    "Cork",
    "Dresden",
    "Espoo",
    "Florence",
    "Ghent",
    "Haarlem",
    "Izmir",
    "Jaen",
    "Krakow",
    "Lyon",
]


@dataclass(frozen=True)
class World:
    """Items, topics and tastes: everything that does not depend on a single user."""

    topic: np.ndarray
    """(V,) topic of each item."""
    brand: np.ndarray
    """(V,) index into `BRANDS`."""
    colour: np.ndarray
    """(V,) colour words, for the titles only."""
    price: np.ndarray
    """(V,) log-normal; the level depends on the category."""
    price_level: np.ndarray
    """(V,) how dear the item is among those of its category, standardised."""
    quality: np.ndarray
    """(V,) hidden, standard normal."""
    vector: np.ndarray
    """(V, D) hidden, unit length: near the centre of its topic, moved by its brand."""
    centre: np.ndarray
    """(K, D) unit length: near the centre of the topic's category."""
    complement: np.ndarray
    """(K,) the topic that goes with each topic in the cart."""
    topic_taste: np.ndarray
    """(age groups, K) log of how much each age group likes each topic."""
    by_topic: np.ndarray
    """(V,) items in the order of their topics."""
    topic_start: np.ndarray
    """(K + 1,) where each topic begins in `by_topic`."""
    mass: np.ndarray
    """(V + 1,) cumulative popularity along `by_topic`."""

    @classmethod
    def draw(cls, items: int, rng: np.random.Generator) -> "World":
        """Draw a world with this many items."""
        category = np.array([topic.category for topic in TOPICS])
        category_centre = unit(rng.normal(size=(len(CATEGORIES), WIDTH)))
        centre = unit(category_centre[category] + 0.6 * direction(rng, (len(TOPICS),)))
        # Every topic has an item before popularity decides on the rest.
        topic = rng.permutation(np.arange(items) % len(TOPICS))
        brand = rng.integers(len(BRANDS), size=items)
        brand_vector = direction(rng, (len(BRANDS),))
        price_level = rng.normal(size=items)
        log_price = rng.normal(3.0, 1.0, len(CATEGORIES))[category[topic]] + 0.5 * price_level
        popularity = rng.permutation(1.0 / (10 + np.arange(items)) ** 0.9)  # Zipf with a flattened head
        by_topic = np.argsort(topic, kind="stable")
        return cls(
            topic=topic,
            brand=brand,
            colour=rng.choice(COLOURS, items),
            price=np.exp(log_price),
            price_level=price_level,
            quality=rng.normal(size=items),
            vector=unit(centre[topic] + 0.4 * brand_vector[brand] + 0.4 * direction(rng, (items,))).astype(np.float32),
            centre=centre.astype(np.float32),
            complement=(np.arange(len(TOPICS)) + 3 * rng.integers(1, len(CATEGORIES))) % len(TOPICS),
            topic_taste=rng.normal(0.0, 0.7, (len(AGE_GROUPS), len(TOPICS))),
            by_topic=by_topic,
            topic_start=np.searchsorted(topic[by_topic], np.arange(len(TOPICS) + 1)),
            mass=np.concatenate([[0.0], np.cumsum(popularity[by_topic])]),
        )

    def popular_items(self, rng: np.random.Generator, topic: np.ndarray) -> np.ndarray:
        """Draw an item for each topic of an array of any shape, by popularity; from all items where the topic is -1."""
        low = np.where(topic < 0, 0.0, self.mass[self.topic_start[topic]])
        high = np.where(topic < 0, self.mass[-1], self.mass[self.topic_start[topic + 1]])
        place = np.searchsorted(self.mass, low + rng.random(topic.shape) * (high - low), side="right") - 1
        return self.by_topic[np.minimum(place, len(self.by_topic) - 1)]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random vectors (*shape, D), of length 1 on average."""
    return rng.normal(0.0, WIDTH**-0.5, (*shape, WIDTH))
