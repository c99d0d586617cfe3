"""One law of the best rate over batch size, model size and length, fitted to finished studies.

    ln lr = c - p/k ln(1 + (Bc/B)^k) - q n + u/2 n^2 + t d + s/2 d^2,    ln Bc = b + e d,    k = 4

with n = ln N/N0 and d = ln D/D0, the parameters and the length of a run over the studies' own
geometric means. Below the critical batch size Bc the optimum grows as B^p, above it no more
(McCandlish et al. 2018, arXiv 1812.06162); Bc follows the length, by e = 0.57, and hardly the
model's size (Li et al. 2025, arXiv 2503.04715; Zhang et al. 2024, arXiv 2410.21676). So below Bc a
longer run wants a lower rate, by t - e p, and far above it only by t.

No such law is exact: what it misses is smooth, a Gaussian process of sd `DEPARTURE` over ln B, ln N
and ln D, so that studies of nearly one setting say little more than one of them (universal kriging:
Cressie 1993, Statistics for Spatial Data, section 3.4).

No exponent is taken for known: each has a prior that is wide enough for the published laws
(`PUBLISHED`), which disagree. p and b live on a grid, c (flat), q, u, t and s are integrated out. A
study's optimum lies around the law by `MISFIT`; one that lies further away counts less (the weights
of a Student-t: Lange et al. 1989, JASA 84). What a study says of its optimum is matched by a normal
where the other studies put it (expectation propagation: Minka 2001), so that one of few trials,
whose density has long tails, says what it knows and no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from studies.errors import StudyError
from studies.rules import Setting

Array = npt.NDArray[np.float64]

MISFIT = 0.07  # sd of a study's optimum around any smooth function of its setting, ln rate
DEPARTURE, REACH = 0.1, 1.0  # sd of that function around the law; ln, over which it changes
FINEST = 0.11  # sd of any optimum, ln rate: seed noise hides a factor of 1.2
SHARPNESS = 4.0  # k
BATCH_EXPONENTS = np.linspace(-0.2, 1.4, 33)
CRITICAL_EXPONENT = 0.57  # e
LEVEL, WITHIN = 0.9, 1.645  # of every interval here; its half width in sds
TAILS = 3.0  # degrees of freedom of ln Bc's Student-t
FREEDOM = 4.0  # of the studies' distances from the law
ROUNDS = 5  # of matching each study where the others put it
ANYWHERE = 1e4  # variance of ln rate: nothing is known


@dataclass(frozen=True, slots=True)
class Exponent:
    """The prior of an exponent: normal."""

    mean: float
    sd: float


BATCH = Exponent(0.7, 0.3)  # p, below the critical batch size
PARAMETERS = Exponent(0.5, 0.35)  # q
LENGTH = Exponent(-0.02, 0.17)  # t, above the critical batch size
CURVATURE = Exponent(0.0, 0.05)  # s and u: what an exponent changes by over a factor of e
COEFFICIENTS = 5  # c, q, t, s, u


@dataclass(frozen=True, slots=True)
class Published:
    """A law that was published: the best rate as a power of one axis.

    Attributes:
        axis: "batch", "parameters" or "length".
        exponent: of it.
        what: where it holds, in words.
        source: where it stands.
    """

    axis: str
    exponent: float
    what: str
    source: str


PUBLISHED = (
    Published("batch", 0.5, "Adam, below the critical batch", "Malladi 2022, arXiv 2205.10287"),
    Published("batch", 1.0, "SGD, below the critical batch", "Goyal 2017, arXiv 1706.02677"),
    Published("batch", 0.0, "far above the critical batch", "McCandlish 2018, arXiv 1812.06162"),
    Published("parameters", -0.71, "AdamW, tokens held fixed", "Step Law 2025, arXiv 2503.04715"),
    Published("parameters", -0.5, "muP, width at a fixed depth", "Yang 2022, arXiv 2203.03466"),
    Published("parameters", -0.23, "AdamW, tokens held fixed", "Bjorck 2024, arXiv 2409.19913"),
    Published("length", -0.32, "AdamW, batch held fixed", "Bjorck 2024, arXiv 2409.19913"),
    Published("length", -0.5, "rate x decay, batch held fixed", "Bergsma 2025, arXiv 2505.13738"),
    Published("length", 0.31, "the batch grows as D^0.57", "Step Law 2025, arXiv 2503.04715"),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Critical:
    """The prior of ln Bc, in sequences: Student-t with `TAILS` degrees of freedom.

    Attributes:
        length: of a run for which it holds; None takes the studies' mean.
    """

    median: float
    sd: float
    length: float | None = None


@dataclass(frozen=True, slots=True)
class Slopes:
    """How ln rate changes at a setting with ln batch, ln parameters and ln length.

    Attributes:
        length: None where the studies do not say how long a run is.
    """

    batch: Estimate
    parameters: Estimate
    length: Estimate | None


@dataclass(frozen=True, slots=True)
class Swept:
    """What one finished study found.

    Attributes:
        study: its name.
        setting: its batch size, parameters and length.
        mean: of the best ln rate, under a uniform prior.
        sd: of it, at least `FINEST`.
        belief: ln rates, and over (rates, walls) how likely each optimum and wall is, under a
            uniform prior of the optimum; None where only mean and sd are known.
    """

    study: str
    setting: Setting
    mean: float
    sd: float
    belief: tuple[Array, Array] | None = field(default=None, compare=False)

    @property
    def rate(self) -> float:
        """The best learning rate."""
        return math.exp(self.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """Holds it with 90 % probability."""
        factor = math.exp(WITHIN * self.sd)
        return self.rate / factor, self.rate * factor

    def where(self, mean: float, variance: float) -> tuple[float, float]:
        """The normal that says as much of the optimum as the study does.

        Args:
            mean, variance: of what all else says of it, where it has to say so.

        Returns:
            Its mean and its variance.
        """
        if self.belief is None:
            return self.mean, self.sd**2
        x, joint = self.belief
        weight = joint.sum(1) * np.exp(-0.5 * (x - mean) ** 2 / variance)
        if not weight.sum() > 0:  # all else puts it off the grid
            return self.mean, self.sd**2
        weight /= weight.sum()
        middle = float(x @ weight)
        spread = max(float(weight @ (x - middle) ** 2), 0.25 * float(x[1] - x[0]) ** 2)
        precision = max(1.0 / spread - 1.0 / variance, 1.0 / ANYWHERE)
        at = (middle / spread - mean / variance) / precision
        return at, max(1.0 / precision, FINEST**2)


class Law:
    """The law, fitted.

    Args:
        optima: of finished studies that differ in batch, model size and length alone; either all
            of them have a length in the same unit, or none of their lengths is used.
        critical: the prior of the critical batch size.
        length: the prior of t.

    Raises:
        StudyError: there is no optimum to start from.
    """

    def __init__(
        self, optima: Sequence[Swept], critical: Critical, *, length: Exponent = LENGTH
    ) -> None:
        if not optima:
            raise StudyError("a forecast needs a finished study")
        self.optima, self.critical = tuple(optima), critical
        self._priors = PARAMETERS, length, CURVATURE, CURVATURE
        settings = [each.setting for each in optima]
        lengths = [each.length for each in settings]
        self._parameters = _mean_ln([each.parameters for each in settings])
        known = [length for length in lengths if length]
        self._length = _mean_ln(known) if len(known) == len(lengths) else None
        away = critical.sd * np.linspace(-6.0, 6.0, 121)
        self._bc = critical.median + self._to_mean(critical) + away
        self._prior = _ln_prior(away / critical.sd)
        self._places = np.array([self._place(each) for each in settings])
        self._shared = _kernel(self._places, self._places)
        self._rows = np.array([self._row(each) for each in settings])
        self._growths = np.array([self._growth(each) for each in settings])
        sites = np.array([each.mean for each in optima]), np.array([e.sd**2 for e in optima])
        self._fit(*sites, np.ones(len(optima)))
        for _ in range(ROUNDS):
            self._fit(*self._matched())

    @property
    def has_length(self) -> bool:
        """Whether the studies say how long a run is."""
        return self._length is not None

    def at(self, setting: Setting) -> tuple[float, float]:
        """Mean and variance of ln rate, departures from the law included; `MISFIT` is not."""
        near, row, growth = self._near(setting), self._row(setting), self._growth(setting)
        levels = self._levels(row, growth) + np.tensordot(near, self._residual, 1)
        variance = self._between(levels, levels) + self._covaries(near, row, near, row)
        return float((self._weight * levels).sum()), variance + DEPARTURE**2

    def slopes(self, setting: Setting) -> Slopes:
        """The local exponents at a setting, each with its interval."""
        d, n = self._distance(setting), self._size(setting)
        below = 1.0 / (1.0 + np.exp(-SHARPNESS * self._knee(setting)))
        rises = BATCH_EXPONENTS[:, None] * below
        still = np.zeros(COEFFICIENTS)
        return Slopes(
            _estimate(*self._moments(still, rises)),
            _estimate(*self._moments(np.array([0.0, -1.0, 0.0, 0.0, n]), np.zeros_like(rises))),
            _estimate(*self._moments(np.array([0.0, 0.0, 1.0, d, 0.0]), -CRITICAL_EXPONENT * rises))
            if self.has_length
            else None,
        )

    def learned(self, setting: Setting, variance: float, target: Setting) -> float:
        """The variance of ln rate at a target, once a setting has been swept as well.

        Args:
            setting: what would be swept.
            variance: of the optimum that it would find.
            target: where the rate is wanted.
        """
        here = self._near(setting), self._row(setting)
        there = self._near(target), self._row(target)
        levels = [
            self._levels(row, self._growth(each)) + np.tensordot(near, self._residual, 1)
            for (near, row), each in ((here, setting), (there, target))
        ]
        places = np.array([self._place(setting)]), np.array([self._place(target)])
        shared = self._between(*levels) + self._covaries(*here, *there)
        shared += float(_kernel(*places)[0, 0])
        _, own = self.at(setting)
        _, before = self.at(target)
        return before - shared**2 / (own + variance + MISFIT**2)

    def cavity(self, place: int) -> tuple[float, float]:
        """What the other studies say of a study's optimum: mean and variance of ln rate."""
        mean, variance = self.at(self.optima[place].setting)
        noise = self._noise[place]
        precision = 1.0 / variance - 1.0 / noise
        if precision < 1.0 / ANYWHERE:
            return mean, ANYWHERE
        middle = (mean / variance - self._sites[place] / noise) / precision
        return middle, 1.0 / precision + MISFIT**2

    def _fit(self, sites: Array, variances: Array, spread: Array) -> None:
        """Least squares under every p and b, and how likely each of those is."""
        self._sites, self._noise = sites, (variances + MISFIT**2) * spread
        self._precision = np.linalg.inv(self._shared + np.diag(self._noise))
        means = np.array([0.0, *(each.mean for each in self._priors)])
        told = np.array([0.0, *(each.sd**-2 for each in self._priors)])
        self._weighted = self._rows.T @ self._precision
        self._covariance = np.linalg.inv(self._weighted @ self._rows + np.diag(told))
        y = sites[:, None, None] - self._growths
        right = np.tensordot(self._weighted, y, 1) + (told * means)[:, None, None]
        self._solution = np.tensordot(self._covariance, right, 1)
        left = y - np.tensordot(self._rows, self._solution, 1)
        self._residual = np.tensordot(self._precision, left, 1)
        misfit = (left * self._residual).sum(0)
        misfit += np.tensordot(told, (self._solution - means[:, None, None]) ** 2, 1)
        belief = self._prior - 0.5 * misfit
        weight = np.exp(belief - belief.max())
        self._weight = weight / weight.sum()

    def _matched(self) -> tuple[Array, Array, Array]:
        """Each study where the others put it: means, variances, and how much less it counts."""
        found = []
        for place, swept in enumerate(self.optima):
            mean, variance = self.cavity(place)
            at, own = swept.where(mean, variance)
            z = (at - mean) ** 2 / (variance + own)
            found.append((at, own, max(1.0, (FREEDOM + z) / (FREEDOM + 1.0))))
        means, variances, spread = np.array(found).T
        return means, variances, spread

    def _to_mean(self, critical: Critical) -> float:
        """From the critical batch size for one length to that for the studies' mean."""
        if self._length is None or critical.length is None:
            return 0.0
        return CRITICAL_EXPONENT * (self._length - math.log(critical.length))

    def _distance(self, setting: Setting) -> float:
        """d of a setting; 0 where lengths are not used."""
        if self._length is None or not setting.length:
            return 0.0
        return math.log(setting.length) - self._length

    def _size(self, setting: Setting) -> float:
        """n of a setting."""
        return math.log(setting.parameters) - self._parameters

    def _place(self, setting: Setting) -> Array:
        """Where it lies among the studies."""
        return np.array(
            [math.log(setting.batch_size), self._size(setting), self._distance(setting)]
        )

    def _near(self, setting: Setting) -> Array:
        """How much a setting's departure from the law has in common with each study's."""
        return np.asarray(_kernel(np.array([self._place(setting)]), self._places)[0])

    def _covaries(self, near: Array, row: Array, other_near: Array, other_row: Array) -> float:
        """The covariance of two settings' ln rates, but for what they share before any study."""
        told = float(near @ self._precision @ other_near)
        left, other_left = row - self._weighted @ near, other_row - self._weighted @ other_near
        return float(left @ self._covariance @ other_left) - told

    def _row(self, setting: Setting) -> Array:
        d, n = self._distance(setting), self._size(setting)
        return np.array([1.0, -n, d, d * d / 2, n * n / 2])

    def _knee(self, setting: Setting) -> Array:
        """ln Bc/B at a setting, over b."""
        d = self._distance(setting)
        return np.asarray(self._bc + CRITICAL_EXPONENT * d - math.log(setting.batch_size))

    def _growth(self, setting: Setting) -> Array:
        """How ln lr grows with the batch, over (p, b)."""
        knee = np.logaddexp(0.0, SHARPNESS * self._knee(setting))
        return np.asarray(-BATCH_EXPONENTS[:, None] / SHARPNESS * knee)

    def _levels(self, row: Array, growth: Array) -> Array:
        return np.tensordot(row, self._solution, 1) + growth

    def _moments(self, row: Array, growth: Array) -> tuple[float, float]:
        """Mean and variance of a linear function, over p, b and the coefficients."""
        levels = self._levels(row, growth)
        mean = float((self._weight * levels).sum())
        return mean, self._between(levels, levels) + float(row @ self._covariance @ row)

    def _between(self, first: Array, second: Array) -> float:
        """The covariance of two quantities over p and b."""
        middle = float((self._weight * first).sum())
        return float((self._weight * (first - middle) * second).sum())


def least_squares(design: Array, y: Array, sd: Array) -> tuple[Array, Array, Array]:
    """Weighted linear least squares (Gelman et al. 2013, Bayesian Data Analysis, section 14.2).

    Args:
        design: (rows, coefficients).
        y: (rows, ...): several right-hand sides are solved at once.
        sd: (rows,) of y.

    Returns:
        The coefficients (coefficients, ...), their covariance, and the misfit chi^2 (...).
    """
    weighted = design.T / sd**2
    covariance = np.asarray(np.linalg.inv(weighted @ design), dtype=np.float64)
    solution = np.tensordot(covariance @ weighted, y, 1)
    left = y - np.tensordot(design, solution, 1)
    return solution, covariance, np.tensordot(1.0 / sd**2, left**2, 1)


def _kernel(places: Array, others: Array) -> Array:
    """The covariance of the departures from the law, over (places, others)."""
    distance = ((places[:, None, :] - others[None, :, :]) ** 2).sum(-1)
    return np.asarray(DEPARTURE**2 * np.exp(-0.5 * distance / REACH**2))


def _ln_prior(z: Array) -> Array:
    """Of every p and b, over (p, b); z: how many sds b lies from its prior's median."""
    batch = -0.5 * ((BATCH_EXPONENTS - BATCH.mean) / BATCH.sd) ** 2
    return np.asarray(batch[:, None] - 0.5 * (TAILS + 1) * np.log1p(z**2 / TAILS))


def _mean_ln(values: Sequence[float]) -> float:
    return float(np.mean(np.log(values)))


def _estimate(mean: float, variance: float) -> Estimate:
    half = WITHIN * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half)
