"""`lum schema`: a schema proposed from a sample of a log, for its owner to mend."""

from openlum.schema_wizard.schema import Proposal, propose

__all__ = ["Proposal", "propose"]
