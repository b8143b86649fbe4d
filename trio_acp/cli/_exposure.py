"""Who can reach an address, and what a server there needs before it may be started."""

from __future__ import annotations

import ipaddress

from .._errors import InvalidOption


def check_exposure(
    host: str, *, tls: bool, token: bool, insecure_no_tls: bool = False, insecure_no_token: bool = False
) -> list[str]:
    """Check that a server is as safe as its address needs it; return what its operator should be warned of.

    Args:
        host: An IP address.
        tls: Whether clients speak TLS.
        token: Whether clients need a token.
        insecure_no_tls: The operator said that other machines may speak without TLS.
        insecure_no_token: The operator said that nobody needs a token.

    Raises:
        InvalidOption: something is missing, or was given and declined at once.
    """
    for given, declined, option, other in (
        (tls, insecure_no_tls, "--tls-cert", "--insecure-no-tls"),
        (token, insecure_no_token, "--token-file", "--insecure-no-token"),
    ):
        if given and declined:
            raise InvalidOption(f"{option} and {other} do not go together", detail="invalid-option")
    if ipaddress.ip_address(host).is_loopback:
        if token or insecure_no_token:
            return []
        words = "without --token-file every user of this machine can use the agent with your rights"
        return [f"{words}; --insecure-no-token says that this is meant"]
    missing = []
    if not (tls or insecure_no_tls):
        missing.append("--tls-cert and --tls-key (or --insecure-no-tls)")
    if not (token or insecure_no_token):
        missing.append("--token-file (or --insecure-no-token)")
    if missing:
        raise InvalidOption(
            f"--host {host} can be reached from other machines: it needs {' and '.join(missing)}",
            detail="insecure-host",
        )
    warnings = []
    if not token:
        warnings.append(f"no token is asked for: whoever reaches {host} can use the agent with your rights")
    if not tls:
        said = "the token and all else that is said" if token else "all that is said"
        warnings.append(f"no TLS on {host}: {said} can be read and changed on the way")
    return warnings
