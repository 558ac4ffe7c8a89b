"""Settings that change nothing beside others: whoever states one by --set is told so."""

from restok_cli.settings.precedence import Layer
from restok_cli.settings.training import RunConfig
from restok_cli.settings.yaml_file import flatten

# Settings, the values with which all of them switch others off, and how the keys of those begin.
SWITCHES = (
    (("data.crop",), ("random-resized", "centre"), "data.random_zoom"),
    (("data.crop",), ("random", "centre"), "data.random_crop_area"),
    (("optimizer.schedule",), ("cosine", "constant"), "optimizer.decay_steps"),
    (("optimizer.schedule",), ("constant",), "optimizer.final_learning_rate"),
    (("loss.perceptual_weight",), (0,), "loss.lpips_weights"),
    (("alignment.encoder_weight", "alignment.decoder_weight"), (0,), "alignment."),
    (("discriminator.weight",), (0,), "discriminator."),
    (("discriminator.kind",), ("patch",), "discriminator.augment_"),
    (("discriminator.kind",), ("patch",), "discriminator.weights"),
    (("discriminator.optimizer.schedule",), ("cosine", "constant"), "discriminator.optimizer.decay_steps"),
    (("discriminator.optimizer.schedule",), ("constant",), "discriminator.optimizer.final_learning_rate"),
    (("nested_dropout.probability",), (0,), "nested_dropout.min_tokens"),
    (("revival.until",), (0,), "revival.every"),
)


def idle_assignments(layers: list[Layer], config: RunConfig) -> list[str]:
    """A line for each key that --set states and that changes nothing in `config`, which `layers` come to."""
    values, lines = flatten(config.model_dump()), {}
    for key in next(layer.values for layer in layers if layer.name == "--set"):
        for switches, off, begin in SWITCHES:
            if key.startswith(begin) and key not in switches and all(values.get(name) in off for name in switches):
                reason = " and ".join(f"{name} = {values[name]}" for name in switches)
                lines.setdefault(key, f"--set {key} changes nothing: {reason}")
    return list(lines.values())
