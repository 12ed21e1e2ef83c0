"""How a verb says what it found wrong before it starts."""

import sys
from collections.abc import Iterable

from bertkit.config import ConfigError
from bertkit.data.health import Finding


def report(findings: Iterable[Finding], *, quiet: bool) -> None:
    """Say the warnings among findings; what is fine needs no word.

    Args:
        findings: of the checks that are always made.
        quiet: say nothing.

    Raises:
        ConfigError: one of them says stop.
    """
    for finding in findings:
        if finding.verdict == "stop":
            raise ConfigError(f"{finding.subject}: {finding.what}; {finding.remedy}")
        if finding.verdict == "warning" and not quiet:
            print(finding, file=sys.stderr)
