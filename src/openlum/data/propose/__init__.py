"""`lum schema`: a schema proposed from a sample of a log, for its owner to mend."""

from openlum.data.propose.schema import Proposal, propose

__all__ = ["Proposal", "propose"]
