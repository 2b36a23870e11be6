"""The matching head in NumPy: user vectors, item embeddings and the context of a request to feedback logits and similarities.

Shapes: n candidates, M user vectors, the first F of fixed questions, E width of a vector and of an item embedding, D width of the
context, H heads of width K, R feedback values of all fields.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file


class Head:
    """The matching head of one model.

    Args:
        directory: with `head.json` and `head.safetensors`.
    """

    def __init__(self, directory: str | Path) -> None:
        self.description = json.loads(Path(directory, "head.json").read_text(encoding="utf-8"))
        self.weights = load_file(Path(directory, "head.safetensors"))

    def __call__(
        self, user_vectors: np.ndarray, items: np.ndarray, context: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return feedback logits, (n, R), and similarities, (n, 2 F), of the `outputs` and `similarities` in `head.json`.

        Args:
            user_vectors: (M, E) float32 of one user, of unit length.
            items: (n, E) float32 embeddings of the candidates, of unit length.
            context: encoded fields of the request. A field that is left out is *any*.
        """
        scale, heads = items.shape[1] ** 0.5, self.description["heads"]
        user_vectors, items = user_vectors * scale, items * scale
        encoded = self.encode(context)  # (1, D)
        rows = np.broadcast_to(encoded, (len(items), encoded.shape[1]))
        key = self.linear("key", user_vectors).reshape(len(user_vectors), heads, -1).transpose(1, 2, 0)  # (H, K, M)
        query = self.linear("query", np.concatenate([items, rows], 1)).reshape(len(items), heads, -1)  # (n, H, K)
        scores = query.transpose(1, 0, 2) @ key / key.shape[1] ** 0.5  # (H, n, M)
        weights = np.exp(scores - scores.max(2, keepdims=True))
        weights /= weights.sum(2, keepdims=True)
        parts = user_vectors.reshape(len(user_vectors), heads, -1).transpose(1, 0, 2)  # (H, M, E / H)
        mixture = (weights @ parts).transpose(1, 0, 2).reshape(items.shape)
        similarity = items @ user_vectors.T / scale  # (n, M)
        features = [mixture, mixture * items, items, self.linear("context", encoded) * items, similarity, rows]
        hidden = np.maximum(self.linear("mlp.0", np.concatenate(features, 1)), 0)
        hidden = np.maximum(self.linear("mlp.2", hidden), 0)
        fixed = similarity[:, : len(self.description["similarities"]) // 2] / scale  # (n, F)
        return self.linear("mlp.4", hidden), np.concatenate([fixed, fixed], 1) + self.linear("correction", hidden)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """Return the output of a linear layer."""
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0)

    def encode(self, context: Mapping[str, Any]) -> np.ndarray:
        """Return the encoded context, (1, D)."""
        total = self.weights["constant"]
        for field in self.description["context"]:
            embedding = self.embed(field["name"], field["type"], context.get(field["name"]))
            total = total + embedding @ self.weights[f"{field['name']}/project"].T
        return (total / np.sqrt((total * total).mean() + np.finfo(np.float32).eps) * self.weights["norm"])[None]

    def embed(self, name: str, kind: str, value: Any) -> np.ndarray:
        """Return the embedding of a field's value: an id, a list of ids, a standardised number or a vector; None is *any*."""
        if kind in ("categorical", "multi"):
            table = self.weights[f"{name}/table.weight"]
            ids = np.array(0 if value is None else value, np.int64, ndmin=1)
            ids = np.where(ids < len(table), ids, 0)
            return table[ids[0]] if kind == "categorical" else table[ids[ids > 0]].sum(0) / max((ids > 0).sum(), 1)
        width = self.weights[f"{name}/linear.weight"].shape[1] - 1
        numbers = np.array([np.nan] * width if value is None else value, np.float32, ndmin=1)
        known = np.float32(not np.isnan(numbers).any())
        return self.linear(f"{name}/linear", np.append(np.nan_to_num(numbers).clip(-6e4, 6e4), known))
