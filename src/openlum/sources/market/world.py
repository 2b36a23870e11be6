"""The items of the simulated marketplace and their names.

Shapes: V items, K topics (three a category), D width of the hidden space.
"""

from dataclasses import dataclass

import numpy as np

WIDTH = 16
"""Width of the hidden space of items and interests."""

# Each category has three topics. Queries name topics; the item table names the category only.
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
    """A kind of item within a category, which a query can name."""

    name: str
    """Name of the topic."""
    category: int
    """Index into `CATEGORIES`."""


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
    """(V,) colour of each item, used in titles only."""
    price: np.ndarray
    """(V,) log-normal, with a median that depends on the category."""
    price_level: np.ndarray
    """(V,) standardised log price within the category."""
    quality: np.ndarray
    """(V,) hidden, standard normal."""
    vector: np.ndarray
    """(V, D) hidden, unit length: near the centre of the item's topic, shifted by its brand."""
    centre: np.ndarray
    """(K, D) unit length: centre of each topic, near the centre of its category."""
    complement: np.ndarray
    """(K,) the complementary topic of each topic, which interests users in the cart scenario."""
    topic_taste: np.ndarray
    """(age groups, K) log preference of each age group for each topic."""
    by_topic: np.ndarray
    """(V,) items ordered by topic."""
    topic_start: np.ndarray
    """(K + 1,) index in `by_topic` at which each topic begins."""
    cumulative_popularity: np.ndarray
    """(V + 1,) cumulative popularity along `by_topic`."""

    @classmethod
    def draw(cls, items: int, rng: np.random.Generator) -> "World":
        """Draw a world with this many items."""
        category = np.array([topic.category for topic in TOPICS])
        category_centre = unit(rng.normal(size=(len(CATEGORIES), WIDTH)))
        centre = unit(category_centre[category] + 0.6 * direction(rng, (len(TOPICS),)))
        # The items are spread evenly over the topics, so that every topic has an item.
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
            cumulative_popularity=np.concatenate([[0.0], np.cumsum(popularity[by_topic])]),
        )

    def popular_items(self, rng: np.random.Generator, topic: np.ndarray) -> np.ndarray:
        """Return an item for each topic of an array of any shape, drawn by popularity; topic -1 stands for all items."""
        cumulative = self.cumulative_popularity
        low = np.where(topic < 0, 0.0, cumulative[self.topic_start[topic]])
        high = np.where(topic < 0, cumulative[-1], cumulative[self.topic_start[topic + 1]])
        index = np.searchsorted(cumulative, low + rng.random(topic.shape) * (high - low), side="right") - 1
        return self.by_topic[np.minimum(index, len(self.by_topic) - 1)]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., D) scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return random vectors (*shape, D) with a mean squared length of 1."""
    return rng.normal(0.0, WIDTH**-0.5, (*shape, WIDTH))
