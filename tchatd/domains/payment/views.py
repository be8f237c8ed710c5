"""Owns how rows become what clients see."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import UNSET

from tchatd.domains.payment import rules
from tchatd.domains.payment.commands import AccountNow
from tchatd.domains.payment.models import (
    Balance,
    Counterpart,
    Transaction,
    Wallet,
    WalletNow,
)
from tchatd.domains.payment.rows import TransactionRow, WalletFacts, WalletState
from tchatd.domains.payment.rules import Limits
from tchatd.kernel.clock import rfc3339
from tchatd.kernel.money import Currency


def wallet_view(
    state: WalletState, limits: Limits, zone_ms: int, now_ms: int
) -> Wallet:
    """zone_ms: of the owner, whose day and month it is."""
    row = state.row
    is_today = state.day == rules.day_of(now_ms, zone_ms)
    is_this_month = state.month == rules.month_of(now_ms, zone_ms)
    return Wallet(
        id=str(row.id),
        user_id=str(row.user_id),
        balance=state.balance,
        currency=row.currency,
        frozen_balance=state.held,
        available_balance=state.balance - state.held,
        daily_limit=limits.day_minor_max,
        monthly_limit=limits.month_minor_max,
        used_today=state.day_spent if is_today else 0,
        used_this_month=state.month_spent if is_this_month else 0,
        status=state.status,
        is_primary=row.is_primary,
        created_at=rfc3339(row.created_ms),
        updated_at=rfc3339(row.updated_ms),
    )


def balance_view(state: WalletState) -> Balance:
    available = state.balance - state.held
    return Balance(state.balance, available, state.held, state.row.currency)


def wallet_now(id: UUID, currency: Currency, now: AccountNow) -> WalletNow:
    return WalletNow(
        str(id),
        currency,
        now.balance,
        now.balance - now.held,
        now.held,
        rules.STATUS_OF[now.status],
        now.version,
        rfc3339(now.at_ms),
    )


def wallet_of(facts: WalletFacts, now: AccountNow) -> WalletNow:
    return wallet_now(facts.id, facts.currency, now)


def transaction_view(row: TransactionRow, names: Mapping[int, str]) -> Transaction:
    """names: of users by number; who is not there is no more."""
    counterpart: Counterpart | None = None
    if row.counterpart_type is not None:
        name = row.counterpart_name
        if row.counterpart_number:
            name = names.get(row.counterpart_number, "")
        id = "" if row.counterpart_id is None else str(row.counterpart_id)
        counterpart = Counterpart(id, name or "", row.counterpart_type)
    return Transaction(
        id=str(row.id),
        wallet_id=str(row.wallet_id),
        type=row.type,
        amount=row.amount,
        currency=row.currency,
        fee=row.fee,
        net_amount=row.net_amount,
        status=row.status,
        description=row.description,
        reference=UNSET if row.reference is None else row.reference,
        counterpart=UNSET if counterpart is None else counterpart,
        metadata=row.metadata,
        balance_before=UNSET if row.balance_before is None else row.balance_before,
        balance_after=UNSET if row.balance_after is None else row.balance_after,
        created_at=rfc3339(row.created_ms),
        processed_at=rfc3339(row.processed_ms) if row.processed_ms else UNSET,
        completed_at=rfc3339(row.completed_ms) if row.completed_ms else UNSET,
    )
