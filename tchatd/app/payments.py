"""Owns how payment providers are put together, and which one is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tchatd.app.payment_settings import (
    PaymentProviders,
    accounts,
    call_settings,
    fee_schedule,
)
from tchatd.app.secrets import PaymentSecrets
from tchatd.domains.payment.fees import FeeSchedule
from tchatd.domains.payment.providers import PaymentConnector
from tchatd.domains.payment.routing import (
    NO_FEES,
    Candidate,
    Choice,
    Wanted,
    choose,
    preferences,
)
from tchatd.domains.payment.sandbox import SandboxStore
from tchatd.kernel.clock import Clock
from tchatd.observe.logging import get_logger
from tchatd.observe.metrics import Metrics
from tchatd.providers.payments import sandbox
from tchatd.providers.payments.bank_transfer import BankTransferConnector
from tchatd.providers.payments.calls import CallMetrics
from tchatd.providers.payments.omise import OmiseConnector
from tchatd.providers.payments.sandbox import SandboxConnector
from tchatd.providers.payments.signatures import base64_secret
from tchatd.providers.payments.stripe import StripeConnector

_log = get_logger("payments")
SANDBOX_PURPOSE: Final = b"tchatd sandbox webhooks"


class Payments:
    """The providers that are enabled, by name. sandbox: None without one.

    Close it with `aclose`. sandbox_secret: signs the sandbox's webhooks.
    """

    def __init__(
        self,
        of: PaymentProviders,
        secrets: PaymentSecrets,
        store: SandboxStore,
        clock: Clock,
        metrics: Metrics,
        *,
        sandbox_secret: bytes,
    ) -> None:
        self._of = of
        self._calls = call_settings(of)
        self._metrics = CallMetrics(metrics)
        self._preferred = preferences(of.prefer)
        self.fees: dict[str, FeeSchedule] = {}
        self.sandbox: SandboxConnector | None = None
        found: dict[str, PaymentConnector] = {}
        if of.stripe.enabled:
            found["stripe"] = self._stripe(secrets)
            self.fees["stripe"] = fee_schedule(of.stripe)
        if of.omise.enabled:
            found["omise"] = self._omise(secrets)
            self.fees["omise"] = fee_schedule(of.omise)
        if of.bank_transfer.enabled:
            found["bank_transfer"] = self._bank_transfer(secrets)
            self.fees["bank_transfer"] = fee_schedule(of.bank_transfer)
        if of.sandbox.enabled:
            self.sandbox = found["sandbox"] = SandboxConnector(
                store,
                clock,
                self._metrics,
                webhook_secret=sandbox_secret,
                page_url=of.sandbox.page_url,
            )
        self.connectors: Mapping[str, PaymentConnector] = found

    def choose(self, wanted: Wanted, asked: frozenset[str] = frozenset()) -> Choice:
        """Who is asked; the choice is logged. asked: who said `NotProcessed`."""
        candidates = [
            Candidate(
                name=name,
                capabilities=connector.capabilities,
                health=connector.health(),
                fees=self.fees.get(name, NO_FEES),
                is_stand_in=name == sandbox.NAME,
            )
            for name, connector in self.connectors.items()
        ]
        choice = choose(wanted, candidates, self._preferred, asked)
        _log.info(
            "a payment provider was chosen",
            chosen=choice.chosen,
            wanted=f"{wanted.kind} {wanted.country} {wanted.method.value}",
            currency=wanted.currency.value,
            why=choice.explained(),
        )
        return choice

    async def aclose(self) -> None:
        for connector in self.connectors.values():
            await connector.aclose()

    def _stripe(self, secrets: PaymentSecrets) -> StripeConnector:
        return StripeConnector(
            key=secrets.stripe_key,
            webhook_secrets=secrets.stripe_webhook,
            country=self._of.stripe.country,
            billing_email=self._of.stripe.billing_email,
            settings=self._calls,
            metrics=self._metrics,
            origin=self._of.stripe.origin,
        )

    def _omise(self, secrets: PaymentSecrets) -> OmiseConnector:
        return OmiseConnector(
            key=secrets.omise_key,
            webhook_secrets=[base64_secret(text) for text in secrets.omise_webhook],
            country=self._of.omise.country,
            settings=self._calls,
            metrics=self._metrics,
            origin=self._of.omise.origin,
        )

    def _bank_transfer(self, secrets: PaymentSecrets) -> BankTransferConnector:
        return BankTransferConnector(
            origin=self._of.bank_transfer.origin,
            key=secrets.bank_key,
            webhook_secrets=secrets.bank_webhook,
            accounts=accounts(self._of.bank_transfer),
            settings=self._calls,
            metrics=self._metrics,
        )
