"""Discrete diffusion on sequences: noise, its reversal, and what both say of a likelihood. Pure torch, no Lightning.

>>> from stablelit.families.proteins.diffusion import AbsorbingGraph, LogLinearNoise
>>> AbsorbingGraph(20).mask
20
"""

from __future__ import annotations

from stablelit.lazy_exports import lazy_exports

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AbsorbingGraph": "graphs",
        "CosineNoise": "noise",
        "GeometricNoise": "noise",
        "HalfCosineNoise": "noise",
        "LogLinearNoise": "noise",
        "Masking": "bounds",
        "Noise": "noise",
        "NoiseCurriculum": "noise_curriculum",
        "NoiseDraw": "noise_curriculum",
        "Reshaping": "sampling",
        "SampleKeys": "randomness",
        "Samples": "sampling",
        "UniformGraph": "graphs",
        "build_graph": "graphs",
        "build_noise": "noise",
        "build_noise_curriculum": "noise_curriculum",
        "check_reaches_prior": "noise",
        "choose_k": "bounds",
        "cross_entropy": "score_entropy",
        "denoising_cost": "score_entropy",
        "describe_difficulty": "trivial_losses",
        "draw_k": "bounds",
        "k_at": "bounds",
        "k_bound": "bounds",
        "log_probabilities": "score_entropy",
        "log_score_from": "score_entropy",
        "log_score_of_probabilities": "score_entropy",
        "mask_by_rate": "bounds",
        "mask_by_sigma": "bounds",
        "mask_k": "bounds",
        "masked_sum": "bounds",
        "per_residue": "bounds",
        "sample_ancestrally": "unmasking",
        "sample_by_steps": "samplers",
        "sample_first_hitting": "unmasking",
        "sample_uniform": "time_sampling",
        "t_weight": "bounds",
        "times": "time_sampling",
        "trivial_loss": "trivial_losses",
        "trivial_score_entropy": "trivial_losses",
        "untrained_loss": "trivial_losses",
        "weighted_score_entropy": "bounds",
    },
)
