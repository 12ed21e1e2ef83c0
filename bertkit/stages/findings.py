"""How a verb says what it found wrong before it starts."""

import sys
from collections.abc import Iterable

from bertkit.config import ConfigError
from bertkit.data.health import Finding


def report(findings: Iterable[Finding], *, is_main_process: bool) -> None:
    """Say the warnings among findings, even to those who asked for quiet; what is fine needs no word.

    Args:
        findings: of the checks that are always made.
        is_main_process: the others say nothing.

    Raises:
        ConfigError: one of them says stop.
    """
    for finding in findings:
        if finding.verdict == "stop":
            raise ConfigError(finding.in_a_sentence())
        if finding.verdict == "warning" and is_main_process:
            print(finding, file=sys.stderr)
