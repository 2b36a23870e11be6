"""Names of the columns with feedback predictions."""

import numpy as np

from openlum.data.vocabulary import Vocabulary
from openlum.field_spec import FieldSpec
from openlum.model import Processor
from openlum.query.questions import feedback_column_names


def test_every_feedback_value_has_a_name_also_for_buckets() -> None:
    edges = [0.5, 3.0, 3.25]
    click = FieldSpec(name="click", type="categorical", size=3, feedback=True)
    seconds = FieldSpec(name="seconds", type="categorical", size=len(edges) + 2, edges=edges, feedback=True)
    flat = FieldSpec(name="flat", type="categorical", size=2, edges=[], feedback=True)
    processor = Processor(Vocabulary(["i"]), ["i"], {"click": Vocabulary(["no", "yes"])})
    for spec in (click, seconds, flat):
        names = processor.feedback_values(spec)
        assert len(set(names)) == spec.size - 1
    assert feedback_column_names(processor, [click, seconds]) == [
        *("click=no", "click=yes"),
        *("seconds=to 0.5", "seconds=0.5 to 3", "seconds=3 to 3.25", "seconds=above 3.25"),
    ]
    values = np.array([0.5, 2.0, 3.25, 9.0])
    assert (np.searchsorted(edges, values, side="left") == [0, 1, 2, 3]).all()  # the ids of the processor, minus 1
