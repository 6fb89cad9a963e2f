from __future__ import annotations

import math

import torch

from stablelit.families.neutrinos.networks.about_centre import LEVEL, NEAR, about_centre


def cloud(n: int = 40, seed: int = 0):
    draws = torch.Generator().manual_seed(seed)
    place, time, charge, weight = (torch.rand(n, k, generator=draws) for k in (3, 1, 1, 1))
    event = torch.sort(torch.randint(4, (n,), generator=draws)).values
    events = torch.zeros(4, 9)
    events[:, 3:6] = torch.rand(4, 3, generator=draws)
    return place, time[:, 0], charge[:, 0], weight[:, 0], events, event


def test_each_column_is_that_of_a_loop():
    place, time, charge, weight, events, event = cloud()
    found = about_centre(place, time, charge, weight, events, event)
    late = []
    for i in range(len(place)):
        r = math.dist(place[i].tolist(), events[event[i], 3:6].tolist())
        late.append(float(time[i]) - r * 500 * 1.36 / 0.299792458 / 1000)
    for i in range(len(place)):
        x = place[i] - events[event[i], 3:6]
        r = float(x.norm())
        mine = [j for j in range(len(place)) if event[j] == event[i]]
        mean = sum(float(weight[j]) * late[j] for j in mine) / sum(float(weight[j]) for j in mine)
        # light that falls off as exp(-r / 60 m) / (r + 10 m)
        faint = math.exp(-r * 500 / 60) / (r + NEAR)
        bright = float(weight[i]) * max(-2, min(2, math.log10(10 ** float(charge[i]) / faint) + LEVEL))
        side = x / (r + NEAR)
        expected = [*side, *x, math.log10(r + NEAR / 2), late[i] - mean, bright, *(bright * side)]
        assert torch.allclose(found[i], torch.tensor(expected), atol=1e-4)


def test_the_place_of_an_event_in_the_ice_and_its_hour_are_nothing_to_it():
    place, time, charge, weight, events, event = cloud()
    moved = events.clone()
    shift = torch.rand(4, 3, generator=torch.Generator().manual_seed(9))
    moved[:, 3:6] += shift
    hours = torch.tensor([0.0, 1.0, -2.0, 0.5])
    again = about_centre(place + shift[event], time + hours[event], charge, weight, moved, event)
    assert torch.allclose(again, about_centre(place, time, charge, weight, events, event), atol=1e-5)


def test_a_sensor_in_the_centre_and_an_event_without_weight_have_finite_gradients():
    place, time, charge, weight, events, event = cloud()
    place[0] = events[event[0], 3:6]
    place.requires_grad_()
    about_centre(place, time, charge, torch.zeros_like(weight), events, event).sum().backward()
    assert place.grad.isfinite().all()
