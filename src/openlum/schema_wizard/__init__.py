"""The schema wizard behind `lum schema`: it proposes a schema from a sample of a log, for the user to correct."""

from openlum.schema_wizard.proposal import Proposal, propose

__all__ = ["Proposal", "propose"]
