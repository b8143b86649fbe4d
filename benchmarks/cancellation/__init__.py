"""Seven cancellations, on the official Python SDK (asyncio) and on trio_acp, side by side.

``python -m benchmarks.cancellation`` runs them; `plan` says what they are,
`measure` what is measured.  Both sides drive the same agent, a real process
over its standard streams, in real time, through the same recorder (`tee`).
"""
