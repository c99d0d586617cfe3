"""Student's t distribution function; scipy has it too, but nothing else here would need scipy."""

import math


def student_t_cdf(t: float, dof: int) -> float:
    """The probability that a Student-t variable is below t.

    By the finite sums for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        t: the bound.
        dof: degrees of freedom, at least 1.

    Returns:
        The probability, to about 1e-15.
    """
    theta = math.atan(abs(t) / math.sqrt(dof))
    cosine, term, total = math.cos(theta), 1.0, 0.0
    if dof % 2 == 0:
        for k in range(dof // 2):
            term *= (2 * k - 1) / (2 * k) * cosine**2 if k else 1.0
            total += term
        within = math.sin(theta) * total
    else:
        term = cosine
        for k in range(1, dof // 2 + 1):
            term *= (2 * k - 2) / (2 * k - 1) * cosine**2 if k > 1 else 1.0
            total += term
        within = (theta + math.sin(theta) * total) * 2 / math.pi
    return 0.5 * (1 + within) if t > 0 else 0.5 * (1 - within)
