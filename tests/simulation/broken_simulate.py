"""`simulate` with a runner that is broken on purpose, as a program: what it finds, what it keeps of it, and that again.

Arguments: the mutant's name, a config, a folder for traces. Prints one JSON object. In a process of its own, because the product
must be broken before anybody imports it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from simulation.breakage import install
from simulation.sim_mutants import SEED, UNCHECKED, named

SESSIONS = 30


def main(name: str, config: Path, folder: Path) -> None:
    install((UNCHECKED, *named(name).edits))
    import msgspec

    from simulation.command import config_of
    from simulation.run import run, setting
    from simulation.simulate import again, keep, outcomes

    of = setting(config_of(config))
    failed = next(outcome for outcome in outcomes(of, SEED, range(SESSIONS)) if outcome.violations)
    kept = keep(of, failed, folder, config)
    trace, first = again(of, Path(kept.trace))
    _, second = again(of, Path(kept.trace))
    accidents = list(trace.recipe.accidents or ())
    without = [
        run(of, msgspec.structs.replace(trace.recipe, accidents=tuple(fate for fate in accidents if fate is not one)))
        for one in accidents
    ]
    found = {
        "kept": msgspec.to_builtins(kept),
        "broken": [msgspec.to_builtins(outcome.violations[0]) for outcome in (failed, first, second)],
        "hashes": [first.hash, second.hash],
        "accidents": [len(failed.struck), len(accidents)],
        "switches": [sum(map(len, failed.switches)), sum(map(len, trace.recipe.switches or ()))],
        "without_one": [[violation.invariant for violation in outcome.violations[:1]] for outcome in without],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
