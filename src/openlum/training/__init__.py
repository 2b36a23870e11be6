"""The training loop of the Large User Model, the network rankers and the next-item models, and its parts."""
