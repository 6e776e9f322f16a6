from simulation.model_core import Rulebook
from simulation.model_venue import Setting
SMALL: tuple[Setting, ...] = (
    Setting("one trip", Rulebook(), faults=(("lapse", 1),)),
)
LARGE = ()
