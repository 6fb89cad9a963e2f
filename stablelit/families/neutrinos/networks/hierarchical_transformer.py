"""Pulses to sensors to events: the transformer of two levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.neutrinos.event_batch import N_SENSOR_FEATURES, SENSOR_FIRST_TIME, Batch
from stablelit.families.neutrinos.networks.about_centre import N_ABOUT_CENTRE, sensors_about_centre
from stablelit.families.neutrinos.networks.accounting import (
    BACKWARD_AND_FORWARD,
    event_transformer_flops,
    sensor_transformer_flops,
    token_counts,
)
from stablelit.families.neutrinos.networks.batch_checks import check_batch
from stablelit.families.neutrinos.networks.event_transformer import EventTransformer
from stablelit.families.neutrinos.networks.feature_embedding import FeatureEmbedding
from stablelit.families.neutrinos.networks.sensor_transformer import SensorTransformer
from stablelit.functional.schedules import check_count, check_flag

PRESETS: dict[str, dict[str, Any]] = {
    "postmortem": {
        "d_model": 128,
        "sensor_layers": 4,
        "event_layers": 4,
        "sensor_summary": False,
        "about_centre": False,
        "event_summary": False,
        "relative_bias": False,
        "qk_norm": False,
        "sensor_pool": "mean",
    },
    "wide256": {"d_model": 256},
    "wide512": {"d_model": 512},
    "deep8": {"sensor_layers": 8, "event_layers": 8},
    "deep12": {"sensor_layers": 12, "event_layers": 12},
}


class HierarchicalTransformer(nn.Module):
    """T1, attention among the pulses of a sensor, pooled; T2, attention among the sensors of an event.

    What is known of a sensor without T1 (first time, charge, ...) goes around it into T2, where it is added to T1's
    vector: most sensors have one pulse, of which T1 can say no more.

    Args:
        d_model: d, the width of both levels.
        sensor_layers: blocks of T1.
        event_layers: blocks of T2.
        heads: of both.
        sensor_pool: "attention", "mean" or "max"; see `SensorPooling`.
        feedforward: width of a block's middle as a multiple of d.
        dropout: in the blocks.
        relative_bias: whether T2 has a `SpaceTimeBias`.
        sensor_summary: whether ``batch["sensors"]`` goes around T1.
        about_centre: whether with it goes where a sensor is as seen from the middle of the event's light; see
            `about_centre`.
        event_summary: whether ``batch["events"]`` goes into T2's summary token.
        qk_norm: see `SelfAttention`.
        max_pulses_per_sensor: a batch with sensors of a larger size class is refused, since T1's cost grows with the
            square of it.
        frequencies: of pulses' and sensors' coordinates; see `FeatureEmbedding`.
        bias_functions: K of the relative bias.

    Raises:
        ConfigurationError: an argument out of range.
    """

    def __init__(
        self,
        d_model: int = 128,
        sensor_layers: int = 4,
        event_layers: int = 4,
        heads: int = 8,
        sensor_pool: str = "attention",
        feedforward: float = 4.0,
        dropout: float = 0.0,
        relative_bias: bool = True,
        sensor_summary: bool = True,
        about_centre: bool = True,
        event_summary: bool = True,
        qk_norm: bool = True,
        max_pulses_per_sensor: int = 64,
        frequencies: int = 0,
        bias_functions: int = 8,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, count in (("sensor_layers", sensor_layers), ("event_layers", event_layers)):
            check_count(owner, name, count, 0 if name == "sensor_layers" else 1)
        self.max_pulses_per_sensor = check_count(owner, "max_pulses_per_sensor", max_pulses_per_sensor, 1)
        self.width = d_model
        self.sensor_transformer = SensorTransformer(
            d_model, sensor_layers, heads, sensor_pool, feedforward, dropout, qk_norm, frequencies
        )
        summarised = check_flag(owner, "sensor_summary", sensor_summary)
        self.about_centre = check_flag(owner, "about_centre", about_centre) and summarised
        n_features = N_SENSOR_FEATURES + N_ABOUT_CENTRE * self.about_centre
        self.sensor_embedding = FeatureEmbedding(n_features, d_model, frequencies) if summarised else None
        self.event_transformer = EventTransformer(
            d_model, event_layers, heads, feedforward, dropout, qk_norm, event_summary, relative_bias, bias_functions
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> HierarchicalTransformer:
        """A network of known size: "postmortem", "wide256", "wide512", "deep8" or "deep12", with `changes`.

        Raises:
            ConfigurationError: no such preset, or an argument out of range.
        """
        if name not in PRESETS:
            raise bad_argument(cls.__name__, "preset", name, ", ".join(PRESETS), did_you_mean(str(name), PRESETS))
        return cls(**(PRESETS[name] | changes))

    def forward(self, batch: Batch) -> Tensor:
        """One vector an event, ``(B, width)``.

        Raises:
            DataError: the batch does not fit the network.
        """
        check_batch(type(self).__name__, batch, self.max_pulses_per_sensor)
        sensors, event = batch["sensors"], batch["event_of_sensor"]
        tokens = self.sensor_transformer(batch)
        if self.sensor_embedding is not None:
            about = [sensors_about_centre(sensors, batch["events"], event)] if self.about_centre else []
            tokens = tokens + self.sensor_embedding(torch.cat([sensors, *about], dim=1))
        answer: Tensor = self.event_transformer(
            tokens,
            sensors[:, : SENSOR_FIRST_TIME + 1],
            event,
            batch["sensors_of_event"],
            batch["longest"],
            batch["events"],
        )
        return answer

    def token_counts(self, batch: Batch) -> dict[str, int]:
        """See `accounting.token_counts`."""
        return token_counts(batch)

    def flops_per_batch(self, batch: Batch) -> int:
        """Floating-point operations of a forward and a backward pass, an estimate from shapes: matrices and scores."""
        flops = sensor_transformer_flops(self.sensor_transformer, batch)
        flops += event_transformer_flops(self.event_transformer, len(batch["events"]), batch["longest"])
        if self.sensor_embedding is not None:
            flops += 2 * len(batch["sensors"]) * self.sensor_embedding.n_inputs * self.width
        return BACKWARD_AND_FORWARD * flops
