r"""Reverse samplers that walk from t = 1 to 0 in steps and jump by the modelled scores, for both graphs.

In a step from t to :math:`t - \Delta` a residue x goes to y with

* `euler`: :math:`\delta_{xy} + \Delta \, \sigma'(t) R_y`, :math:`R_y = Q_{xy} s_y` and :math:`R_x = -\sum R_y`: first
  order in the step. Where the jumps add up to more than 1, they are cut back to 1 and counted;
* `tau_leaping`: :math:`[e^{-\Delta\sigma Q} s]_y [e^{\Delta\sigma Q}]_{xy}`, exact for a single residue whose score is
  true (Tweedie). Several residues that move in one step are still drawn as if they did not know of each other.

With log-linear noise and the absorbing graph the two are the same. After the last step at `t_min` all noise that is
left is taken off at once, without the mask among the outcomes.

Source: Lou et al. 2024 (arXiv:2310.16834), section 4.1, theorem 4.2 and appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stablelit.errors import bad_argument, did_you_mean
from stablelit.families.proteins.diffusion.graphs import AbsorbingGraph, Graph
from stablelit.families.proteins.diffusion.noise import Noise
from stablelit.families.proteins.diffusion.randomness import RandomSource, uniform
from stablelit.families.proteins.diffusion.sampling import Network, Reshaping, Samples, drawn_sites, start
from stablelit.functional.schedules import check_count, check_number

STEPPERS = ("euler", "tau_leaping")


@torch.no_grad()
def sample_by_steps(
    score: Network,
    graph: Graph,
    noise: Noise,
    shape: tuple[int, int],
    steps: int,
    generator: RandomSource,
    method: str = "tau_leaping",
    template: Tensor | None = None,
    free: Tensor | None = None,
    reshaping: Reshaping | None = None,
    t_min: float = 1e-5,
    device: torch.device | None = None,
) -> Samples:
    """Draws sequences in `steps` steps of equal time and one last denoising.

    Args:
        score: (xt ``(B, L)``, sigma ``(B,)``) to log scores ``(B, L, N)``.
        graph: of the noise.
        noise: its schedule.
        shape: (B, L).
        steps: 1 or more.
        generator: of all draws.
        method: `euler` or `tau_leaping`.
        template: see `start`.
        free: see `start`.
        reshaping: temperature and nucleus of p(x0 | xt), from which scores are made again; None changes nothing.
        t_min: the time of the last denoising, in (0, 1).
        device: see `start`.

    Returns:
        The sequences, `steps` + 1 evaluations, and the jumps that were cut back.

    Raises:
        ConfigurationError: an unknown method, a number outside its range, see also `start`.
    """
    if method not in STEPPERS:
        raise bad_argument("sampler", "method", method, ", ".join(STEPPERS), did_you_mean(str(method), STEPPERS))
    check_count("sampler", "steps", steps, least=1)
    if check_number("sampler", "t_min", t_min, above=0.0) >= 1:
        raise bad_argument("sampler", "t_min", t_min, "a number above 0 and below 1")
    reshaping = Reshaping() if reshaping is None else reshaping
    xt, free = start(graph, shape, generator, template, free, device)
    times = torch.linspace(1.0, t_min, steps + 1, dtype=torch.float64, device=xt.device)
    sigmas, rates = noise.sigma(times), noise.rate(times)
    clipped = torch.zeros((), dtype=torch.int64, device=xt.device)
    for i in range(steps):
        log_s = _log_score(score, graph, xt, sigmas[i])
        if not reshaping.changes_nothing:
            log_s = _reshaped(graph, log_s, xt, sigmas[i], reshaping)
        if method == "euler":
            jump = _euler_jumps(graph, log_s, (times[i] - times[i + 1]) * rates[i])
        else:
            jump = _tau_jumps(graph, log_s, xt, sigmas[i] - sigmas[i + 1])
        xt, cut = _jumped(graph, jump, xt, free, generator)
        clipped += cut
    log_s = _log_score(score, graph, xt, sigmas[steps])
    p = reshaping(_log_posterior(graph, log_s, xt, sigmas[steps]))
    tokens = drawn_sites(p, xt, _movable(graph, xt, free), generator)
    return Samples(tokens, steps + 1, int(clipped))


def _log_score(score: Network, graph: Graph, xt: Tensor, sigma: Tensor) -> Tensor:
    """Float64 log scores, 0 at the state that is there."""
    told = sigma.float().expand(xt.shape[0])
    log_s = score(xt, told).double()
    states = torch.arange(graph.n_states, device=xt.device)
    return torch.where(xt[..., None] == states, 0.0, log_s)


def _euler_jumps(graph: Graph, log_s: Tensor, weight: Tensor) -> Tensor:
    """Log probabilities of going to every clean state; that of staying is what is left."""
    per_jump = weight if isinstance(graph, AbsorbingGraph) else weight / graph.n_states
    return log_s + torch.log(per_jump)


def _tau_jumps(graph: Graph, log_s: Tensor, xt: Tensor, delta: Tensor) -> Tensor:
    if isinstance(graph, AbsorbingGraph):
        return log_s + torch.log(torch.expm1(delta))
    # every state but the own is left with (1 - e^-delta) / N; relative to the whole, which is 1 for a true score
    away = -torch.expm1(-delta) / graph.n_states
    here = torch.exp(-delta) + away
    staggered = _staggered(graph, log_s, delta)
    states = torch.arange(graph.n_states, device=xt.device)
    moved = staggered * torch.where(xt[..., None] == states, here, away)
    return torch.log(moved / moved.sum(-1, keepdim=True))


def _staggered(graph: Graph, log_s: Tensor, delta: Tensor) -> Tensor:
    r""":math:`e^{-\Delta\sigma Q} s` of the uniform graph, cut at 0 from below, where no ratio can be."""
    s = log_s.exp()
    return (s * torch.exp(delta) - torch.expm1(delta) / graph.n_states * s.sum(-1, keepdim=True)).clamp(min=0)


def _jumped(graph: Graph, log_jump: Tensor, xt: Tensor, free: Tensor, generator: RandomSource) -> tuple[Tensor, Tensor]:
    """First whether a residue moves, then where to; the number of jumps that were cut back."""
    movable = _movable(graph, xt, free)
    states = torch.arange(graph.n_states, device=xt.device)
    log_jump = torch.where(xt[..., None] == states, -torch.inf, log_jump)
    probability = torch.logsumexp(log_jump, dim=-1).exp()
    moves = uniform((xt.shape[0], xt.shape[1]), generator, xt.device, torch.float64) < probability
    # a residue that cannot move anywhere has no law to be drawn from
    where_to = torch.softmax(torch.where(probability[..., None] > 0, log_jump, 0.0), dim=-1)
    cut = ((probability > 1 + 1e-9) & movable).sum()
    return drawn_sites(where_to, xt, moves & movable, generator), cut


def _log_posterior(graph: Graph, log_s: Tensor, xt: Tensor, sigma: Tensor) -> Tensor:
    """Log weights of the p(x0 | xt) that the score at noise `sigma` implies; of a mask, where xt is a mask."""
    return log_s if isinstance(graph, AbsorbingGraph) else _tau_jumps(graph, log_s, xt, sigma)


def _reshaped(graph: Graph, log_s: Tensor, xt: Tensor, sigma: Tensor, reshaping: Reshaping) -> Tensor:
    """The score that goes with p(x0 | xt) after temperature and nucleus."""
    p = reshaping(_log_posterior(graph, log_s, xt, sigma))
    if isinstance(graph, AbsorbingGraph):
        return torch.log(p) + torch.logsumexp(log_s, dim=-1, keepdim=True)
    moved = graph.matrix(float(sigma)).to(xt.device)
    here = moved[xt.clamp(0, graph.n_states - 1)]
    return torch.log((p / here) @ moved.T)


def _movable(graph: Graph, xt: Tensor, free: Tensor) -> Tensor:
    return free & (xt == graph.mask) if isinstance(graph, AbsorbingGraph) else free
