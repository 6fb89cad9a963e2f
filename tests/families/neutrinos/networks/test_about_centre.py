from __future__ import annotations

import math

import torch

from stablelit.families.neutrinos.networks.about_centre import NEAR, about_centre


def cloud(n: int = 40, seed: int = 0):
    draws = torch.Generator().manual_seed(seed)
    place, time, weight = (torch.rand(n, k, generator=draws) for k in (3, 1, 1))
    event = torch.sort(torch.randint(4, (n,), generator=draws)).values
    events = torch.zeros(4, 9)
    events[:, 3:6] = torch.rand(4, 3, generator=draws)
    return place, time[:, 0], weight[:, 0], events, event


def test_each_column_is_that_of_a_loop():
    place, time, weight, events, event = cloud()
    found = about_centre(place, time, weight, events, event)
    late = []
    for i in range(len(place)):
        r = math.dist(place[i], events[event[i], 3:6])
        late.append(float(time[i]) - r * 500 * 1.36 / 0.299792458 / 1000)
    for i in range(len(place)):
        x = place[i] - events[event[i], 3:6]
        r = float(x.norm())
        mine = [j for j in range(len(place)) if event[j] == event[i]]
        mean = sum(float(weight[j]) * late[j] for j in mine) / sum(float(weight[j]) for j in mine)
        expected = [*(x / (r + NEAR)), *x, math.log10(r + NEAR / 2), late[i] - mean]
        assert torch.allclose(found[i], torch.tensor(expected), atol=1e-4)


def test_the_place_of_an_event_in_the_ice_and_its_hour_are_nothing_to_it():
    place, time, weight, events, event = cloud()
    moved = events.clone()
    shift = torch.rand(4, 3, generator=torch.Generator().manual_seed(9))
    moved[:, 3:6] += shift
    hours = torch.tensor([0.0, 1.0, -2.0, 0.5])
    again = about_centre(place + shift[event], time + hours[event], weight, moved, event)
    assert torch.allclose(again, about_centre(place, time, weight, events, event), atol=1e-5)


def test_a_sensor_in_the_centre_and_an_event_without_weight_have_finite_gradients():
    place, time, weight, events, event = cloud()
    place[0] = events[event[0], 3:6]
    place.requires_grad_()
    about_centre(place, time, torch.zeros_like(weight), events, event).sum().backward()
    assert place.grad.isfinite().all()
