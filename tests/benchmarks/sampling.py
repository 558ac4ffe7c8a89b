"""How near sampling comes to what the machine can do: counted arithmetic over its matrix-multiply rate.

    python tests/benchmarks/sampling.py

HAR-L with random weights, 9 steps with guidance in all of them, codes only, at batch 1 and 8, as `restok generate` runs
it. Takes a minute or two; run it on an idle machine.
"""

import torch
from coding import count_flops, resident, share  # which sets how products round, before any is made

from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache, seeded_uniforms


def main() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        har = Har(HarConfig()).eval()
        torch.nn.init.normal_(har.head.weight, std=0.02)
        loaded = resident("VmRSS")
        for name, options in (
            ("constant guidance", SamplingOptions(cfg_scale=3.75, top_p=0.95)),
            ("the paper's, from step 2 on", SamplingOptions(cfg_scale=3.75, cfg_schedule="step", top_p=0.95)),
        ):
            for batch in (1, 8):
                class_ids, uniforms = torch.arange(batch), seeded_uniforms(0, 0, batch, 128)
                cache = sampling_cache(har, options, batch)

                def draw(class_ids=class_ids, uniforms=uniforms, options=options, cache=cache):
                    return sample(har, class_ids, uniforms, options, cache=cache)

                flops = count_flops(draw)
                print(
                    f"{name}, batch {batch}: {flops / batch / 1e9:.0f} GFLOP a picture, {share(draw, flops):.0%} of the"
                    f" rate; peak memory {resident('VmHWM') - loaded:.2f} GB above the weights",
                    flush=True,
                )


if __name__ == "__main__":
    main()
