"""Does `restok tune` find options for the sample model that are at least as good as those that it comes with?

    python tests/benchmarks/tuning.py DIR

Searches in DIR by the distance of random features to the training emoji, and goes on there where it was stopped. Then,
on seeds that it has not seen, compares what it chose, what was best on its fresh seeds, and what the search alone would
have taken, with the options in docs/sample-model.md, by tests/benchmarks/remembering.py's share of images whose nearest
training image is of the class asked for. On two busy cores it takes half an hour.
"""

import json
import sys
from pathlib import Path

import remembering
import torch

from restok_cli.cli import run
from restok_cli.inference.sampling_options import sampling_options
from restok_cli.inference.tune_search import options_text
from restok_cli.model.guidance import SamplingOptions

SPACE = ("cfg_scale=1,1.25,1.5,2,3", "cfg_schedule=constant,step", "temperature=0.3,0.5,0.75,1")
PER_CLASS, FRESH_SEED = 4, 7


def main() -> None:
    folder = Path(sys.argv[1])
    tries = [word for values in SPACE for word in ("--try", values)]
    counts = ("--first", "32", "--images", "400")
    code = run(["tune", "sample", "--features", "random", *counts, *tries, "-o", str(folder), "--resume"])
    assert code == 0, "the search failed"
    found = json.loads((folder / "result.json").read_text())
    memory = remembering.Memory()
    wanted = torch.arange(memory.har.config.num_classes).repeat(PER_CLASS)

    def own(options: SamplingOptions) -> torch.Tensor:
        nearest, _ = memory.nearest(options, wanted, FRESH_SEED)
        return (memory.known_classes[nearest] == wanted).double()

    usual = sampling_options({}, "sample")
    before = own(usual)
    print(f"{options_text(usual)}, as it is: {before.mean():.1%} of {len(wanted)} are of the class asked for")
    for name in ("preset", "best", "winner_of_search"):
        options = SamplingOptions(**found[name])
        if options == usual:
            print(f"{name}: the options it comes with")
            continue
        gained = own(options) - before  # image by image: both draw with the same uniform numbers
        mean, reach = gained.mean(), 1.96 * gained.std() / len(gained) ** 0.5
        word = "inconclusive" if abs(mean) <= reach else "better" if mean > 0 else "worse"
        print(f"{name}, {options_text(options)}: {mean:+.1%} ± {reach:.1%}: {word}", flush=True)


if __name__ == "__main__":
    main()
