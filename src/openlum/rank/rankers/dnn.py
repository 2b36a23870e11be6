"""`dnn`: embeddings and an MLP, no history."""

from openlum.rank.rankers.base import Ranker


class Dnn(Ranker):
    """The base ranker without history or crosses."""

    name = "dnn"
