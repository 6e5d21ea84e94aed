"""The coefficients of `refrm.kernels`: minimax polynomials by Remez's exchange, in arbitrary precision.

Run ``python docs/coefficients.py`` to print them; `tests/test_kernels.py` compares them with the kernels'.

exp: q(r) ~ (exp(r) - 1 - r)/r^2 on |r| <= log(2)/2, the error r^2*dq weighed relative to exp(r).
log: R(z) ~ (2*artanh(s)/s - 2)/z, z = s^2, on 0 <= s <= 3 - 2*sqrt(2), the error z*dR weighed relative to 2.
exp2: p(r) ~ 2^r on |r| <= 1/2, the error weighed relative to 2^r; all coefficients free.
mills: q(u) ~ (t + 5)*exp(t^2/2)*Phi(-t), u = (t - 5)/(t + 5), on 0 <= t <= sqrt(1400), the error weighed relative to q.
"""

import mpmath

MP = mpmath.mp.clone()
MP.prec = 160


def remez(f, weight, low, high, degree, exchanges=12):
    """Return the coefficients, constant first, of the polynomial of ``degree`` that minimises the largest weighted
    error on [low, high], and that error.
    """
    n = degree + 2
    points = [(low + high) / 2 - (high - low) / 2 * MP.cos(MP.pi * (i + 0.5) / n) for i in range(n)]
    for _ in range(exchanges):
        # Through all points with the same weighted error e, alternating in sign ...
        rows = [[x**j for j in range(degree + 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        solution = MP.lu_solve(MP.matrix(rows), MP.matrix([f(x) for x in points]))
        coefficients = [solution[j] for j in range(degree + 1)]
        # ... then to the extremes of the error, one between every two of its zeros.
        grid = [low + (high - low) * MP.mpf(i) / 1000 for i in range(1001)]
        error = [weight(x) * (f(x) - sum(c * x**j for j, c in enumerate(coefficients))) for x in grid]
        extremes, begin = [], 0
        for i in range(1, len(grid) + 1):
            if i == len(grid) or MP.sign(error[i]) != MP.sign(error[i - 1]):
                extremes.append(max(range(begin, i), key=lambda k: abs(error[k])))
                begin = i
        if len(extremes) != n:
            break
        points = [grid[i] for i in extremes]
    return coefficients, max(abs(e) for e in error)


def exp_polynomial(degree):
    """Return the coefficients of q and the relative error in exp(r)."""
    high = MP.log(2) / 2 * (1 + MP.mpf(2) ** -20)

    def q(r):
        return (MP.exp(r) - 1 - r) / r**2 if abs(r) > MP.mpf(10) ** -20 else MP.mpf(1) / 2

    return remez(q, lambda r: r**2 / MP.exp(r) + MP.mpf(10) ** -12, -high, high, degree)


def log_polynomial(degree):
    """Return the coefficients of R and the relative error in log."""
    high = (3 - 2 * MP.sqrt(2)) ** 2 * (1 + MP.mpf(2) ** -20)

    def r(z):
        s = MP.sqrt(z)
        return (2 * MP.atanh(s) / s - 2) / z if z > MP.mpf(10) ** -20 else MP.mpf(2) / 3

    return remez(r, lambda z: z / 2 + MP.mpf(10) ** -12, MP.mpf(0), high, degree)


def exp2_polynomial(degree):
    """Return the coefficients of p and its relative error."""
    high = (1 + MP.mpf(2) ** -20) / 2
    return remez(lambda r: MP.mpf(2) ** r, lambda r: MP.mpf(2) ** -r, -high, high, degree)


def mills_polynomial(degree):
    """Return the coefficients of q and its relative error."""
    shift, high = 5, MP.sqrt(1400) * (1 + MP.mpf(2) ** -20)

    def q(u):
        t = shift * (1 + u) / (1 - u)
        return (t + shift) * MP.exp(t**2 / 2) * MP.erfc(t / MP.sqrt(2)) / 2

    return remez(q, lambda u: 1 / q(u), MP.mpf(-1), (high - shift) / (high + shift), degree, 8)


if __name__ == "__main__":
    for name, find, degree in (
        ("EXP", exp_polynomial, 9),
        ("LOG", log_polynomial, 6),
        ("EXP2", exp2_polynomial, 9),
        ("MILLS", mills_polynomial, 21),
    ):
        found, error = find(degree)
        print(name, [float(c) for c in found], f"relative error {float(error):.2g}")
