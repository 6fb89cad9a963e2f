"""What a network can check of a batch by its shapes, without waiting for a device."""

from __future__ import annotations

from stablelit.errors import DataError
from stablelit.families.neutrinos.event_batch import N_EVENT_FEATURES, N_PULSE_FEATURES, N_SENSOR_FEATURES, Batch

_COLUMNS = {"pulses": N_PULSE_FEATURES, "sensors": N_SENSOR_FEATURES, "events": N_EVENT_FEATURES}
_KEYS = (*_COLUMNS, "pulses_of_sensor", "sensors_of_event", "event_of_sensor", "class_order", "class_sizes")


def check_batch(owner: str, batch: Batch, max_pulses_per_sensor: int | None = None) -> None:
    """Raises unless the batch's parts fit together, as `event_batch.assemble` makes them.

    Args:
        owner: the network, for the message.
        batch: see `event_batch`.
        max_pulses_per_sensor: the most that the network was built for.

    Raises:
        DataError: a part is missing, has other columns, or contradicts another.
    """
    if missing := [key for key in (*_KEYS, "longest", "longest_pulses") if key not in batch]:
        raise DataError(
            f"{owner}: the batch has no {', '.join(missing)}; it has {', '.join(batch)}. "
            "Make batches with stablelit.families.neutrinos.event_batch.assemble."
        )
    for key, columns in _COLUMNS.items():
        shape = tuple(batch[key].shape)
        if len(shape) != 2 or shape[1] != columns:
            raise DataError(f"{owner}: batch[{key!r}] has the shape {shape}; allowed: (rows, {columns}).")
    n_sensors, n_events = len(batch["sensors"]), len(batch["events"])
    if sum(batch["class_sizes"]) != n_sensors:
        raise DataError(
            f"{owner}: class_sizes={batch['class_sizes']} are {sum(batch['class_sizes'])} sensors, but "
            f"batch['sensors'] has {n_sensors} rows. A batch is cut by choosing events before it is assembled."
        )
    places = {"sensors": (n_sensors, "longest"), "pulses": (len(batch["pulses"]), "longest_pulses")}
    for what, (rows, longest) in places.items():
        if rows > n_events * batch[longest]:
            raise DataError(f"{owner}: {rows} {what} do not fit {n_events} events of {longest}={batch[longest]}.")
    if max_pulses_per_sensor is not None:
        largest = max([k for k, count in enumerate(batch["class_sizes"]) if count] or [0])
        if largest > (max_pulses_per_sensor - 1).bit_length():
            raise DataError(
                f"{owner}: a sensor of this batch has more than {2 ** (largest - 1)} pulses, above "
                f"max_pulses_per_sensor={max_pulses_per_sensor} of the network. Set that of the data to as much, "
                "or raise the network's."
            )
