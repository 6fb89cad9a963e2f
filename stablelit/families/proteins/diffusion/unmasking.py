r"""Samplers of the absorbing graph that reveal residues from p(x0 | xt).

* `sample_ancestrally`: in a step from t to s every masked residue is revealed with probability
  :math:`(\alpha_s - \alpha_t) / (1 - \alpha_t)`. Which residues those are does not depend on the network, so they are
  drawn first, and the network is asked in those steps only in which something is revealed: at most min(steps, residues)
  times for a sequence, without a change of the law, also for networks that are told the time.
* `sample_first_hitting`: one residue at a time, in random order, at the time at which it would have been revealed: no
  error from steps, and one evaluation a residue. Residues are drawn given all that are there, so that a consistent
  network's joint law is reproduced exactly.

Sources: Sahoo et al. 2024 (arXiv:2406.07524), section 4.2; Zheng et al. 2024 (arXiv:2409.02908), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph
from stablelit.families.proteins.diffusion.noise import Noise
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.families.proteins.diffusion.sampling import Network, Reshaping, Samples, drawn_sites, start, state_at
from stablelit.functional.schedules import check_count


@torch.no_grad()
def sample_ancestrally(
    denoiser: Network,
    graph: AbsorbingGraph,
    noise: Noise,
    shape: tuple[int, int],
    steps: int,
    generator: RandomSource,
    template: Tensor | None = None,
    free: Tensor | None = None,
    reshaping: Reshaping | None = None,
    device: torch.device | None = None,
) -> Samples:
    """Draws sequences in `steps` steps of equal time.

    Args:
        denoiser: (xt ``(B, L)``, sigma ``(B,)``) to log p(x0 | xt), ``(B, L, N)``, of any scale.
        graph: whose mask is taken off.
        noise: its schedule.
        shape: (B, L).
        steps: 1 or more; the last one ends at t = 0 and reveals all.
        generator: of all draws.
        template: see `start`.
        free: see `start`.
        reshaping: temperature and nucleus; None changes nothing.
        device: see `start`.

    Raises:
        ConfigurationError: fewer than one step, see also `start`.
    """
    check_count("sampler", "steps", steps, least=1)
    reshaping = Reshaping() if reshaping is None else reshaping
    xt, free = start(graph, shape, generator, template, free, device)
    # the step in which a residue is revealed: its mask rate is uniform below 1, as if all were masked at t = 1
    times = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64, device=xt.device)
    sigmas = noise.sigma(times)
    rates = -torch.expm1(-sigmas) / -torch.expm1(-sigmas[0])
    rates[-1] = 0.0
    level = uniform((xt.shape[0], xt.shape[1]), generator, xt.device, torch.float64)
    step_of = torch.searchsorted(-rates, -level).clamp(min=1, max=steps) - 1
    step_of = step_of.masked_fill(~free, -1)
    # one number for the one time that a residue is drawn: what it becomes does not depend on when others are
    choice = uniform((xt.shape[0], xt.shape[1]), generator, xt.device, torch.float64)
    evaluations = 0
    for step in step_of.unique().tolist():
        if step < 0:
            continue
        log_p = denoiser(xt, sigmas[step].float().expand(xt.shape[0]))
        xt = torch.where(step_of == step, state_at(reshaping(log_p), choice), xt)
        evaluations += 1
    return Samples(xt, evaluations)


@torch.no_grad()
def sample_first_hitting(
    denoiser: Network,
    graph: AbsorbingGraph,
    noise: Noise,
    shape: tuple[int, int],
    generator: RandomSource,
    template: Tensor | None = None,
    free: Tensor | None = None,
    reshaping: Reshaping | None = None,
    device: torch.device | None = None,
) -> Samples:
    r"""Draws sequences residue by residue, each at the time of its own event.

    With n residues masked, the next is revealed at the mask rate :math:`\lambda \leftarrow \lambda u^{1/n}`; what the
    network is told is :math:`\sigma = -\log(1 - \lambda)`, at most sigma(1).

    Args:
        denoiser: (xt ``(B, L)``, sigma ``(B,)``) to log p(x0 | xt), ``(B, L, N)``, of any scale.
        graph: whose mask is taken off.
        noise: its sigma(1) caps what the network is told.
        shape: (B, L).
        generator: of all draws.
        template: see `start`.
        free: see `start`.
        reshaping: temperature and nucleus; None changes nothing.
        device: see `start`.

    Returns:
        The sequences; as many evaluations as the sequence with most free residues has.
    """
    reshaping = Reshaping() if reshaping is None else reshaping
    xt, free = start(graph, shape, generator, template, free, device)
    # independent uniform mask rates, in falling order, are the times of the events and their order at once
    level = uniform((xt.shape[0], xt.shape[1]), generator, xt.device, torch.float64).masked_fill(~free, -1.0)
    level, order = level.sort(dim=1, descending=True)
    n_free = free.sum(1)
    n_events = int(n_free.max()) if n_free.numel() else 0
    positions = torch.arange(shape[1], device=xt.device)
    for event in range(n_events):
        sigma = -torch.log1p(-level[:, event].clamp(min=0.0))
        log_p = denoiser(xt, sigma.clamp(max=noise.sigma_at_end).float())
        site = (positions == order[:, event, None]) & (event < n_free)[:, None]
        xt = drawn_sites(reshaping(log_p), xt, site, generator)
    return Samples(xt, n_events)
