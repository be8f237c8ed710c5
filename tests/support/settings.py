"""Owns the settings that tests give a daemon: limits wide enough for one address.

Every person of a test comes from 127.0.0.1 and from one range of numbers, which in
life would be an attack.
"""

from __future__ import annotations

from typing import Final

ROOMY: Final = {
    "AUTH_CODE_SENDS_PER_ADDRESS_HOUR": "100000",
    "AUTH_CODE_SENDS_PER_NETWORK_HOUR": "100000",
    "AUTH_CODE_SENDS_PER_RANGE_HOUR": "100000",
    "AUTH_SENDS_PER_ADDRESS_MINUTE": "100000",
    "AUTH_VERIFIES_PER_ADDRESS_MINUTE": "100000",
    "AUTH_REFRESHES_PER_ADDRESS_MINUTE": "100000",
    "LIMITS_ADDRESS_PER_MINUTE": "1000000",
    "LIMITS_ADDRESS_BURST": "1000000",
    "LIMITS_USER_PER_MINUTE": "1000000",
    "LIMITS_USER_BURST": "1000000",
    "LIMITS_COMMANDS_PER_SECOND": "100000",
    "LIMITS_COMMANDS_BURST": "100000",
    "LIMITS_CONNECTIONS_PER_USER_MAX": "20000",
    "MESSAGING_SCHEDULED_AHEAD_S": "0.2",
    "MESSAGING_USER_MESSAGES_PER_MINUTE": "0",
    "MESSAGING_DIALOG_MESSAGES_PER_MINUTE": "0",
    "BOTS_ALLOW_PRIVATE_WEBHOOKS": "true",
    "BOTS_WEBHOOK_ATTEMPTS_MAX": "3",
    "BOTS_WEBHOOK_RETRY_S_MAX": "1",
    "BOTS_WEBHOOK_DEAD_MAX": "2",
}
