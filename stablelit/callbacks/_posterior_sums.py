"""What PosteriorMonitor adds up between two evaluations: on the device, without a wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stablelit.functional.posterior import active_by_mean, mutual_information

# the spread of a component is looked at from so many batches on
FEWEST_BATCHES = 8
# so many batches are kept before they are reduced, and no more numbers of KL per dimension (4 MiB)
KEPT_BATCHES, KEPT_NUMBERS = 64, 1 << 20
WEIGHTED = "~weighted"


class TrainSums:
    """Sums over training batches: of every number that the step returned, of the KL, and of the KL per dimension.

    ``~weighted``, the weight times the KL, is made where both are there. A small operation in the middle of a step
    costs several times what it costs beside its like, so a batch is only kept, and some dozens are reduced together.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.n = 0
        self.total: Any = None
        self.low: Any = None
        self.high: Any = None
        self.per_dim: Any = None
        self._kept: list[tuple[Mapping[str, Any], Tensor | None]] = []
        self._most = KEPT_BATCHES

    def add(self, values: Mapping[str, Any], kl_per_dim: Tensor | None) -> None:
        """Counts a batch: its components by name, numbers, () or (B,), and (B, d); other names begin anew."""
        if not self._kept:
            names = [*values, WEIGHTED] if "~weight" in values and "~kl" in values else [*values]
            if names != self.names:
                self.__init__()  # type: ignore[misc]
                self.names = names
            if kl_per_dim is not None:
                self._most = max(1, min(KEPT_BATCHES, KEPT_NUMBERS // kl_per_dim.numel()))
        elif values.keys() != self._kept[0][0].keys():
            self.__init__()  # type: ignore[misc]
            return self.add(values, kl_per_dim)
        self._kept.append((values, kl_per_dim))
        self.n += 1
        if len(self._kept) >= self._most:
            self._reduce()

    def _reduce(self) -> None:
        kept, self._kept = self._kept, []
        if not kept:
            return
        if self.names:
            means = _means_by_name([values for values, _ in kept])
            if WEIGHTED in self.names:
                means[WEIGHTED] = means["~weight"] * means["~kl"]
            batches = torch.stack([means[name] for name in self.names], dim=1)
            total, low, high = batches.sum(dim=0), batches.amin(dim=0), batches.amax(dim=0)
            if self.total is not None:  # a checkpoint's is on the host
                total = self.total.to(total.device) + total
                low = torch.minimum(self.low.to(low.device), low)
                high = torch.maximum(self.high.to(high.device), high)
            self.total, self.low, self.high = total, low, high
        rows = [rows for _, rows in kept if rows is not None]
        if rows:
            per_dim = _means(rows).sum(dim=0)
            self.per_dim = per_dim if self.per_dim is None else self.per_dim.to(per_dim.device) + per_dim

    def plain(self) -> dict[str, Any]:
        """As plain data: for a checkpoint and for the other ranks."""
        self._reduce()
        tensors = {"total": self.total, "low": self.low, "high": self.high, "per_dim": self.per_dim}
        lists = {k: [] if v is None else [float(x) for x in v.tolist()] for k, v in tensors.items()}
        return {"names": list(self.names), "n": self.n, **lists}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> TrainSums:
        """From what `plain` gave; on the host, until the next batch comes."""
        new = cls()
        new.names, new.n = list(state["names"]), int(state["n"])
        for name in ("total", "low", "high", "per_dim"):
            if state[name]:
                setattr(new, name, torch.tensor(state[name], dtype=torch.float64))
        return new


def _means_by_name(kept: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The mean over the samples of each batch, by name, (n,) float64 on one device; values are (), (B,) or numbers.

    Values of one shape are reduced in one operation, and one tensor under two names once.
    """
    where: dict[str, int] = {}
    series: list[list[Any]] = []
    alike: dict[Any, list[int]] = {}
    place: dict[int, int] = {}
    for name, value in kept[0].items():
        where[name] = place.setdefault(id(value), len(place))
        if where[name] == len(series):
            series.append([values[name] for values in kept])
            kind = (value.shape, value.device) if isinstance(value, Tensor) else "number"
            alike.setdefault(kind, []).append(where[name])
    device = next((value.device for value in kept[0].values() if isinstance(value, Tensor)), torch.device("cpu"))
    columns: dict[int, Tensor] = {}
    for kind, places in alike.items():
        flat = [value for number in places for value in series[number]]
        means = torch.tensor(flat, dtype=torch.float64) if kind == "number" else _means(flat)
        columns.update(zip(places, means.to(device).view(len(places), -1), strict=True))
    return {name: columns[number] for name, number in where.items()}


def _means(batches: Sequence[Tensor]) -> Tensor:
    """The mean over the samples of each batch, float64: (n,) of shapes () or (B,), (n, d) of shape (B, d)."""
    first = batches[0].shape
    if all(batch.shape == first for batch in batches):
        together = torch.stack(list(batches))
        if together.dim() == 1:
            return together.double()
        # in double a mean over the samples of (B, d) costs twice as much, and no digit of it is looked at
        return (together.double() if together.dim() == 2 else together.float()).mean(dim=1).double()
    return torch.stack([batch.double().mean(dim=0) if batch.dim() else batch.double() for batch in batches])


def merged(ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over all ranks' batches of what `TrainSums.plain` gave: ``mean``, ``low``, ``high``, ``per_dim``."""
    names = [name for name in ranks[0]["names"] if all(name in rank["names"] for rank in ranks)]
    n = sum(rank["n"] for rank in ranks)
    out: dict[str, Any] = {"n": n, "mean": {}, "low": {}, "high": {}, "per_dim": []}
    for name in names if n else []:
        columns = [(rank, rank["names"].index(name)) for rank in ranks if rank["n"]]
        out["mean"][name] = sum(rank["total"][i] for rank, i in columns) / n
        out["low"][name] = min(rank["low"][i] for rank, i in columns)
        out["high"][name] = max(rank["high"][i] for rank, i in columns)
    with_dims = [rank["per_dim"] for rank in ranks if rank["per_dim"]]
    if n and len(with_dims) == len(ranks):
        out["per_dim"] = [sum(column) / n for column in zip(*with_dims, strict=True)]
    return out


class ValidationSums:
    """Sums over one validation, and a bounded number of its posteriors.

    Args:
        rows: how many posteriors to keep.
        rows_a_batch: how many of one batch, so that they come from all over the data.
    """

    def __init__(self, rows: int, rows_a_batch: int) -> None:
        self._room, self._rows_a_batch = rows, rows_a_batch
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._kept: list[tuple[Tensor, Tensor]] = []

    def add(
        self,
        size: int,
        recon: Tensor | None,
        kl: Tensor | None,
        kl_per_dim: Tensor | None,
        posterior: tuple[Tensor, Tensor] | None,
    ) -> None:
        """Counts a batch of `size` samples with what there is of it."""
        if kl_per_dim is not None:
            self._sum("kl_per_dim", kl_per_dim.detach().float().sum(dim=0), size)
        for name, value in (("recon", recon), ("kl", kl)):
            if value is not None:
                self._sum(name, value.detach().float().mean() * size, size)
        if posterior is None:
            return
        mean, logvar = (part.detach().float() for part in posterior)
        sigma = torch.exp(0.5 * logvar.clamp(-30.0, 20.0))
        for name, value in (("mean", mean), ("square", mean.square()), ("sigma", sigma)):
            self._sum(name, value.sum(dim=0), size)
        take = min(self._rows_a_batch, self._room, len(mean))
        if take:
            self._room -= take
            self._kept.append((mean[:take], logvar[:take]))

    def _sum(self, name: str, value: Tensor, size: int) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + size

    def plain(self) -> dict[str, Any]:
        """For the other ranks: on the host, one wait."""
        kept = [torch.cat(parts).cpu() for parts in zip(*self._kept, strict=True)] if self._kept else []
        return {"sums": {k: v.cpu() for k, v in self._sums.items()}, "counts": dict(self._counts), "kept": kept}


def validation_values(ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `ValidationSums` of all ranks say: ``recon``, ``kl``, ``kl_per_dim``, and what their posteriors say."""
    names = [name for name in ranks[0]["sums"] if all(name in rank["sums"] for rank in ranks)]
    sums = {name: sum(rank["sums"][name].double() for rank in ranks) for name in names}
    counts = {name: sum(rank["counts"][name] for rank in ranks) for name in names}
    means: dict[str, Any] = {name: sums[name] / counts[name] for name in names}
    out: dict[str, Any] = {name: float(means[name]) for name in ("recon", "kl") if name in means}
    if "kl_per_dim" in means:
        out["kl_per_dim"] = means["kl_per_dim"].tolist()
        out.setdefault("kl", float(means["kl_per_dim"].sum()))
    if "mean" in means:
        mean, logvar = (torch.cat([rank["kept"][i] for rank in ranks if rank["kept"]]) for i in (0, 1))
        out["mutual_information"], out["marginal_kl"] = mutual_information(mean, logvar)
        out["active_units_by_mean"] = active_by_mean(sums["mean"], sums["square"], counts["mean"])
        out["mean_sigma"] = float(means["sigma"].mean())
        out["rms_mean"] = float(means["square"].mean().sqrt())
    return out
