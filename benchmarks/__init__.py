"""What trio_acp costs, beside its peers: ``python -m benchmarks --quick``, ``nox -s bench`` for everything.

`sizes` says how much work there is, `measures` what is measured of it,
`sides` who does it, `rounds` in which order, `targets` what is to be reached.
Each side runs in a process of its own and prints one JSON object; the sides
take turns, round after round, and the medians of the rounds are compared.

`cancellation` is another comparison: of what is done, not of what it costs.
"""
