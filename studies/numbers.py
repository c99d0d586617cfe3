"""Every number of the search that was chosen, in one table: what it is, and what it was chosen by.

Chosen on the recorded short curves (tests/benchmarks/curves), the long ones' anatomy, Step Law
(arXiv 2503.04715) and Marin's runs (arXiv 2509.02046). `tests/benchmarks/doubled.py` shows what
moves when one of them is doubled.
"""

import numpy as np

# The curve: y = B - D exp(-u - u^2 / 4), u = a phi / D, phi = (x - mu)^2, r times that above mu.
FLATTENS = 0.25  # the factor of u^2
GRID_STEP = 0.1  # of mu, ln rate; the optimum is never known to better than twice that
OUTSIDE = 1.5  # how far out of the range the optimum may lie, ln rate
CURVATURES = np.geomspace(0.008, 2.0, 9)  # a, nats / ln^2
# Median of a, sd of ln a and weight: long trainings (Step Law), and short ones of small models.
CURVATURE_CLASSES = ((0.022, 0.5, 0.7), (0.3, 0.8, 0.3))
STEEPER = np.array([0.4, 1.0, 2.0, 4.0])  # r
STEEPER_WEIGHTS = np.array([0.2, 0.35, 0.3, 0.15])
# m, the curve's lowest loss: nats below the lowest that was seen (flat, cut at the baseline B).
BELOW_LOWEST = np.array([-0.03, -0.01, -0.003, 0.002, 0.008, 0.025, 0.06, 0.14, 0.3, 0.6, 1.2])
LEARNED, LEARNED_SD = 0.08, 0.04  # nats that training gains at least, about
ALL_ALIKE = 0.02  # nats between the results of runs that all may have learned nothing
UNKNOWN_DEPTH = 3.0  # D where B is unknown and no run has shown it, nats

# What a run deviates from the curve: sd in nats between runs at one rate, and of the curve's form.
NOISES = np.array([0.004, 0.012, 0.03, 0.07])
NOISE_WEIGHTS = np.array([[0.6, 0.25, 0.12, 0.03], [0.3, 0.3, 0.25, 0.15]])  # of each class of a
SLOPE_MISFIT, DEPTH_MISFIT = 0.4, 0.05  # shares of D u e^-u and of D (1 - e^-u)
MOST_RESULTS, ALIKE = 150, (0.05, 0.02)  # more are merged where so near: ln rate, nats

# Off the curve: an accident anywhere, or beyond a wall above mu.
ACCIDENT = 0.02
WALLS = np.array([0.15, 0.4, 0.8, 1.4, 2.1, 3.0])  # its distance above mu, ln rate
USUAL_WALL, USUAL_WALL_SCALE = 2.1, 0.3  # logistic: Step Law
NEAR_WALL, NEAR_WALL_SCALE = 0.2, 0.7  # share and mean (exponential) of walls near mu: Marin
WALL_BLUR = 0.1  # logistic scale of one run's wall around the study's
LOST_AT_BASELINE, LOST_SD, LOST_ABOVE = 0.55, 0.08, 3.0  # where lost runs end: B, or to 3 above
LITTLE = 0.1  # of those, a little below B
LOST_BETWEEN = 0.4  # or anywhere between m and B, at an accident or no further beyond the wall than
LEARNS_BEYOND, LEARNS_BLUR = 2.0, 0.3  # ln rate, logistic: far beyond it nothing is learned
TOO_LOW, TOO_LOW_SD, TOO_LOW_RISE = 5.0, 1.2, 1.9  # so far below mu a run ends up to 1.9 above B
TOO_LOW_STEPS, TOO_LOW_GROWS = 1_000, 0.9  # of so many steps; for each e fewer, so much nearer

# A curve of any form, beside the bump (`studies.forms`): a Gaussian process.
FORM_WEIGHT, LEAST_FOR_FORM = 0.15, 3  # its prior probability; results in the basin that it takes
FORM_SCALES = ((1.0, 2.0, 4.0, 8.0), (0.1, 0.3, 1.0))  # lengths, ln rate, and sds, nats
FORM_LEVEL = 0.3  # its level above the lowest result, nats, to one nat

# How fast a run still falls at its end, and how one came to the baseline (`studies.progress`).
FALL, STUDY_SD, RUN_SD = 1.1, 0.35, 0.25  # fall / a at the optimum; sds of its ln
STUDIES, STUDY_WEIGHTS = np.array([-1.0, 0.0, 1.0]), np.array([0.25, 0.5, 0.25])  # in STUDY_SD
LEFT, STEEP = 1.5, 2.0
LEAST_FALL = 0.03  # nats; smaller ones are noise
UNLIKE_RUN, UNLIKE_STUDY = 0.15, 0.1  # share of what is not like that
ANY_FALL = 0.2  # density of ln fall where nothing is known of it
LEAST_REPORTS = 4
STILL_LEARNS = 0.8  # of the reports, after which the lowest must lie
AT_BASELINE = 0.15  # nats between what a run came to and the baseline
EARLY = 0.1  # of its steps, after which it is read how far above the baseline it was
THERE, COMING_DOWN = 0.25, (0.3, 2.0)  # nats above it: it is there, or on its way down to it
# Of runs too low and too high: the shares that are on their way by then, and that are there.
ON_ITS_WAY, IS_THERE = (0.85, 0.1), (0.15, 0.6)

# Between seeds.
SEED_SHIFT = 0.12  # sd of a seed's optimum around the mean's, ln rate
SEED_LEVEL = 0.03  # sd of a seed's lowest ln perplexity; in the recorded curves 0.02 to 0.03
SHIFTS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # where it is summed, in its sd
SHIFT_WEIGHTS = np.array([0.0545, 0.2442, 0.4026, 0.2442, 0.0545])

# The prior: the rules' normals, a wide normal round each, uniform over the range.
RULES_WEIGHT, WIDE_WEIGHT, WIDE_SD = 0.27, 0.7, 2.3
NO_RULE_WEIGHT = 0.1  # where the rules are compared: that none of them is right

# The search.
WORTH = 0.002  # nats that are worth a training; finer gains are noise
NOTHING_TRIED = 1.5  # before any, the next rate is compared with one this far from mu, ln rate
CLOSE, CLOSEST = 0.15, 6  # nats above the lowest, and results: whose falls are read
APART = 0.08  # ln rate between two whole runs: finer differences are noise
CANDIDATE_STEP = 0.05  # ln rate
TIE = 0.02  # share of the largest gain; what lies closer is the grid's error

# Looks at runs that are not whole.
LOOK_LEARNED = 0.1  # nats below B: then a run has learned something
SHIFT, SHIFT_SD = 0.43, 0.25  # of the optimum with ln(steps), at a constant rate
DECAY_SHIFT, DECAY_SHIFT_SD = 0.2, 0.5  # where the rate decays
OTHERWISE = 0.01  # weight of what a cross-section speaks against
LEARN_NOTHING = 30  # optimizer steps: in fewer even the best rate may learn nothing
LOOKS, LOOK_APART = 5, 0.3  # at most; ln rate between them
SCAN_UNSURE, LOOKS_SURE = 0.5, 0.3  # spreads of the optimum: of whole runs, and of the short ones
RESUMED_WITHIN = 0.15  # ln rate: so near a paused run is as good as a new one
AUDITED = 0.05  # share of the runs to be left that go on to check it

# The end.
SURE = 0.9  # the probability with which as little is left to gain as was asked for
NOT_REFUTED = 0.05  # probability of curves of any form, from which a stop must hold for them alone
LEAST_COMPLETE = 3  # whole runs; with fewer the posterior is little but the prior

# Rate and weight decay together: how they may belong (`studies.decay`), as hypotheses.
TILTS, TILT_WEIGHTS = (0.0, 0.5, 1.0), (0.1, 0.25, 0.65)
BENDS, BEND_WEIGHTS = (0.004, 0.03, 0.15), (0.4, 0.4, 0.2)  # nats / ln^2
MOST_COST = 0.5  # nats that a decay can cost
DECAY_PLACES = 8  # of the best decay, over its range
THINNED = 2  # one of so many points of each axis of the rate's own grid
LIKELY_RIDGES = 0.98  # probability of those that are worked with: the least likely are left out
DECAY_STEP, RATE_STEP = 0.5, 0.1  # between candidates, ln
DECAY_WEIGHS = 0.5  # of a distance in ln decay, against one in ln rate
